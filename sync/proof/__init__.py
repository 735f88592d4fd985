"""The sync plane's proof: simulator, oracle, mutants, campaign."""

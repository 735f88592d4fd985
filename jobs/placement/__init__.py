"""Parts of `place`: its settings, the tables that follow the ledger, regions packed by Spark tasks."""

"""A participant's side: small models in plain numpy, training on what is there, and data dealt out unevenly."""

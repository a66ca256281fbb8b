"""`mlstream compare` and its commands."""

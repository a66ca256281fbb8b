"""`mlstream run`: one module a command."""

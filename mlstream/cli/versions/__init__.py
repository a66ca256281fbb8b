"""`mlstream version`: one module a command."""

"""`mlstream snapshot`: one module a command."""

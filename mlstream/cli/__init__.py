"""The command line: click and rich live here and nowhere else. One file a command group."""

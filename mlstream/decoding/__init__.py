"""How the bytes of a value become typed columns. Pure: no files, no sockets, no store."""

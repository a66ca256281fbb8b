"""Rows of database tables and queries, read in one transaction of each database. Writes nothing to a database.

A database is opened, which fixes what it shows, and then read:

    with open_database(url) as database:
        rows = database.read(parse_table(f"{url}#weather"))
"""

from mlstream.databases.database import Column, Database, TableRows, open_database
from mlstream.databases.requests import TableRequest, parse_query, parse_table

__all__ = ["Column", "Database", "TableRequest", "TableRows", "open_database", "parse_query", "parse_table"]

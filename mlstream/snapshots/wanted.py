"""What a user asks to be frozen, as plain values: topics, files, tables. Opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from mlstream.databases import TableRequest
from mlstream.errors import UsageError
from mlstream.ranges import Position, TopicSelection, parse_position, parse_topic
from mlstream.snapshots.files import FilePattern


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a snapshot shall hold: ranges of topics, files, and tables of databases or queries' results."""

    topics: tuple[TopicSelection, ...] = ()
    files: tuple[FilePattern, ...] = ()
    tables: tuple[TableRequest, ...] = ()

    def __post_init__(self) -> None:
        if not (self.topics or self.files or self.tables):
            raise UsageError("there is nothing to freeze", hint="name topics, files, tables or queries")
        names = [table.name for table in self.tables]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    f"two tables would be called {name!r}", hint="give one another name: --query 'URL#name=SELECT …'"
                )


def rooted(request: TableRequest, folder: Path) -> TableRequest:
    """A request of a configuration file: there the relative path of an SQLite database starts in the project's root."""
    scheme, path = "sqlite:///", request.url.removeprefix("sqlite:///")
    if not request.url.startswith(scheme) or path.startswith(("/", "${")):
        return request
    return replace(request, url=f"{scheme}{quote(str(folder))}/{path}")


def select(
    topics: Sequence[str | TopicSelection], *, start: str | Position = "earliest", stop: str | Position = "latest"
) -> list[TopicSelection]:
    """Topics as selections.

    Raises:
        UsageError: something that is no topic or position.
    """
    if isinstance(topics, str):
        raise UsageError("topics: give a list of topics", hint='for example topics=["ticks"]')
    first = parse_position(start) if isinstance(start, str) else start
    last = parse_position(stop) if isinstance(stop, str) else stop
    return [parse_topic(found, start=first, stop=last) if isinstance(found, str) else found for found in topics]

"""What a check of a snapshot found to be missing or wrong, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FindingKind: TypeAlias = Literal["manifest", "storage map", "object", "rows", "table", "cut", "name"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is missing or wrong.

    Attributes:
        kind: what sort of thing it is.
        name: which one: a document's path in the store, an object's digest, `ticks[0] cell 3`, `table accounts`.
        problem: what is wrong with it.
        breaks: the parts of the snapshot that cannot be had or trusted for it.
    """

    kind: FindingKind
    name: str
    problem: str
    breaks: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """One sentence that names the thing and what is wrong with it."""
        thing = f"object {self.name}" if self.kind == "object" else self.name
        return f"{thing}: {self.problem}"

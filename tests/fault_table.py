"""What fault tests came to, as one table at the end of a session, also of several processes. Injects nothing.

A test enters what it did with `Faults.enter`; it travels in pytest's reports, so that a process that only collects them
can print it. The table is Markdown: it goes into the README as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

PROPERTY = "faults"
_HEAD = ("fault", "injected", "transactions", "records checked", "lost", "doubled")


@dataclass(frozen=True)
class Entry:
    """What a test came to.

    Attributes:
        fault: what was done, with the kind of cluster where it is another than the usual.
        injected: how often.
        transactions: that the input makes when nothing goes wrong.
        records: of the input, each looked for in the output.
        lost, doubled: what an independent reader missed, and what it saw more than once.
    """

    fault: str
    injected: int
    transactions: int
    records: int
    lost: int
    doubled: int


class Faults:
    """Where a test enters what it came to."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def enter(self, entry: Entry) -> None:
        """Take an entry into the test's report."""
        self._properties.append((PROPERTY, list(astuple(entry))))


def entries(reports: Iterable[Any]) -> Iterator[Entry]:
    """The entries of pytest's reports, each once."""
    for report in reports:
        if getattr(report, "when", None) == "call":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    yield Entry(*value)


def table(found: Iterable[Entry]) -> list[str]:
    """One line for each fault, and their sum; no lines when there are none."""
    sums: dict[str, list[int]] = {}
    for entry in found:
        name, *numbers = astuple(entry)
        sums[name] = [a + b for a, b in zip(sums.get(name, [0] * len(numbers)), numbers, strict=True)]
    if not sums:
        return []
    rows = [(name, *numbers) for name, numbers in sorted(sums.items())]
    total = ("all", *(sum(column) for column in zip(*sums.values(), strict=True)))
    ruler = ["---", *["---:"] * (len(_HEAD) - 1)]
    cells = [list(_HEAD), ruler, *([row[0], *(f"{number:,}" for number in row[1:])] for row in [*rows, total])]
    return [f"| {' | '.join(map(str, row))} |" for row in cells]

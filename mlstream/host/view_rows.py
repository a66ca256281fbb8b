"""Read rows of a decoded view from its mapped files, a stretch at a time. Copies nothing that is not asked for."""

from __future__ import annotations

import glob
from dataclasses import dataclass

import polars as pl

_STRETCH_ROWS = 65_536
_MOST_FILES = 16  # the partitions of a worker that take turns are fewer


@dataclass(frozen=True, slots=True)
class _Stretch:
    start: int
    frame: pl.DataFrame

    def holds(self, start: int, rows: int) -> bool:
        return self.start <= start and start + rows <= self.start + self.frame.height


class ViewRows:
    """Rows of Arrow IPC files. Opening a file costs about as much as a batch, so it is done for many at once."""

    def __init__(self) -> None:
        self._stretches: dict[str, _Stretch] = {}

    def read(self, file: str, start: int, rows: int) -> pl.DataFrame:
        """Rows `[start, start + rows)` of a file; fewer when it ends before."""
        found = self._stretches.get(file)
        if found is None or not found.holds(start, rows):
            length = rows * max(1, _STRETCH_ROWS // max(1, rows))
            found = _Stretch(start, pl.scan_ipc(glob.escape(file)).slice(start, length).collect())
            self._stretches.pop(file, None)
            self._stretches[file] = found
            if len(self._stretches) > _MOST_FILES:
                del self._stretches[next(iter(self._stretches))]
        return found.frame.slice(start - found.start, rows)

"""The columns of records: those of a frame, or those of a lazy one, brought into memory when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import polars as pl


class Table(Protocol):
    """What is read of records; a data frame is one."""

    @property
    def columns(self) -> list[str]: ...
    @property
    def height(self) -> int: ...

    def __getitem__(self, name: str, /) -> pl.Series:
        """A column."""

    def select(self, expression: pl.Expr, /) -> pl.DataFrame:
        """An expression over columns, evaluated."""


@dataclass(frozen=True, slots=True)
class LateTable:
    """Columns that are not in memory: each is read anew when it is asked for, and not kept.

    Attributes:
        frame: all rows, with these columns.
        names: its columns.
        rows: how many rows it has.
        mask: (rows,), bool: those that belong to the table; None for all.
    """

    frame: pl.LazyFrame
    names: Sequence[str]
    rows: int
    mask: pl.Series | None = None

    @property
    def columns(self) -> list[str]:
        """The names."""
        return list(self.names)

    @property
    def height(self) -> int:
        """How many rows belong to it."""
        return self.rows if self.mask is None else int(self.mask.sum())

    def __getitem__(self, name: str, /) -> pl.Series:
        """A column in one piece.

        Raises:
            PolarsError: there is none of that name.
        """
        return self._read([name])[name].rechunk()

    def select(self, expression: pl.Expr, /) -> pl.DataFrame:
        """An expression over the columns, evaluated over the rows that belong to it.

        Raises:
            PolarsError: a column is not there, or the expression cannot be computed.
        """
        return self._read(expression.meta.root_names()).select(expression)

    def filter(self, mask: pl.Series) -> LateTable:
        """The rows of the mask, which has one place for each of ours."""
        if self.mask is None:
            return replace(self, mask=mask)
        whole = self.mask.clone()
        whole[whole.arg_true()] = mask
        return replace(self, mask=whole)

    def _read(self, names: Sequence[str]) -> pl.DataFrame:
        found = self.frame.select(*dict.fromkeys(names)).collect()
        return found if self.mask is None else found.filter(self.mask)

"""Which rows of two tables of hashes have no counterpart in the other, however often each occurs. Pure functions.

A row is two independent 64-bit hashes of its canonical bytes, seeded anew in each process: nobody can make records
that look the same here and are not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_SEEDS = (secrets.randbits(64), secrets.randbits(64))
_SCHEMA = {"row": pl.Int64(), "one": pl.UInt64(), "two": pl.UInt64()}

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Numbers of rows without a counterpart, ascending, and whether all others stand in another order."""

    old: Rows
    new: Rows
    reordered: bool


def hashed(parts: Iterable[tuple[int, pa.LargeBinaryArray]]) -> pl.DataFrame:
    """Rows as hashes.

    Args:
        parts: the number of the first row, and the bytes of successive rows.

    Returns:
        row (the number), one, two (the hashes); 24 bytes a row.
    """
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for first, rows in parts:
        found = pl.Series(rows)
        frames.append(
            pl.DataFrame(
                {
                    "row": pl.int_range(first, first + len(found), eager=True),
                    "one": found.hash(_SEEDS[0]),
                    "two": found.hash(_SEEDS[1]),
                }
            )
        )
    return pl.concat(frames)


def unmatched(old: pl.DataFrame, new: pl.DataFrame) -> Unmatched:
    """What is in one only; of a row that one has more often, its last occurrences there."""
    uneven = (
        _counted(old, "old")
        .join(_counted(new, "new"), on=["one", "two"], how="full", coalesce=True)
        .with_columns(pl.col("old").fill_null(0), pl.col("new").fill_null(0))
        .filter(pl.col("old") != pl.col("new"))
    )
    mine = _surplus(old, uneven.filter(pl.col("old") > pl.col("new")), last=True)
    theirs = _surplus(new, uneven.filter(pl.col("new") > pl.col("old")), last=True)
    reordered = not _same_order(old, mine, new, theirs)
    if reordered:
        # Of equal rows it is not known which are too many: perhaps the first.
        mine_first = _surplus(old, uneven.filter(pl.col("old") > pl.col("new")), last=False)
        theirs_first = _surplus(new, uneven.filter(pl.col("new") > pl.col("old")), last=False)
        if _same_order(old, mine_first, new, theirs_first):
            mine, theirs, reordered = mine_first, theirs_first, False
    return Unmatched(mine, theirs, reordered)


def _counted(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("one", "two").agg(pl.len().cast(pl.Int64).alias(name))


def _surplus(rows: pl.DataFrame, uneven: pl.DataFrame, *, last: bool) -> Rows:
    """Numbers of the rows that are too many here."""
    found = rows.join(uneven, on=["one", "two"], how="inner")
    rank = pl.col("row").rank("ordinal", descending=last).over("one", "two").cast(pl.Int64)
    found = found.filter(rank <= (pl.col("old") - pl.col("new")).abs())
    return found["row"].sort().to_numpy()


def _same_order(old: pl.DataFrame, mine: Rows, new: pl.DataFrame, theirs: Rows) -> bool:
    left = old.filter(~pl.col("row").is_in(mine.tolist())) if len(mine) else old
    right = new.filter(~pl.col("row").is_in(theirs.tolist())) if len(theirs) else new
    return left.select("one", "two").equals(right.select("one", "two"))

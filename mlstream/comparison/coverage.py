"""Pair the versions' predictions with the records of the input, and count what is missing. Computes no metric.

A record's identity is (partition, offset); the frames have one scored topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlstream.comparison.result import Coverage
from mlstream.errors import CoverageError

RECORD = ("_partition", "_offset")
SOURCE = ("source_partition", "source_offset")


@dataclass(frozen=True, slots=True)
class Paired:
    """Records that every version answered exactly once.

    Attributes:
        records: in the order of the input.
        predictions: version → what it said of these records, in the same order.
        coverage: what each version answered of the whole input.
        kept: which records of the input these are; None when they are all.
    """

    records: pl.DataFrame
    predictions: Mapping[str, pl.DataFrame]
    coverage: tuple[Coverage, ...]
    kept: pl.Series | None = None


def pair(
    records: pl.DataFrame,
    predictions: Mapping[str, pl.DataFrame],
    errors: Mapping[str, int],
    *,
    allow_missing: bool = False,
) -> Paired:
    """Line the predictions up with the records.

    Args:
        records: `_partition`, `_offset` and whatever else; one row a record.
        predictions: version → `source_partition`, `source_offset` and what the version said.
        errors: version → records that it could not deal with.
        allow_missing: go on over the records that all versions answered exactly once.

    Raises:
        CoverageError: a version lacks records, has one twice, or has one that the input has not.
    """
    aligned = {name: _align(name, records, frame, errors.get(name, 0)) for name, frame in predictions.items()}
    coverage = tuple(found.coverage for found in aligned.values())
    whole = [found.answered for found in aligned.values()]
    everywhere = np.logical_and.reduce(whole) if whole else np.ones(records.height, dtype=np.bool_)
    if not everywhere.all():
        if not allow_missing:
            raise _incomplete(coverage)
        if not everywhere.any():
            raise CoverageError("no record was answered by every version: there is nothing to compare")
        kept = pl.Series(everywhere)
        return Paired(
            records.filter(kept), {name: found.frame.filter(kept) for name, found in aligned.items()}, coverage, kept
        )
    return Paired(records, {name: found.frame for name, found in aligned.items()}, coverage)


@dataclass(frozen=True, slots=True)
class _Aligned:
    frame: pl.DataFrame
    answered: NDArray[np.bool_]
    coverage: Coverage


def _align(version: str, records: pl.DataFrame, frame: pl.DataFrame, errors: int) -> _Aligned:
    identity = records.select(RECORD)
    keys = frame.select(pl.col(mine).cast(identity.schema[theirs]) for mine, theirs in zip(SOURCE, RECORD, strict=True))
    if errors == 0 and keys.rename(dict(zip(SOURCE, RECORD, strict=True))).equals(identity):
        answered = np.ones(records.height, dtype=np.bool_)
        return _Aligned(frame.drop(SOURCE), answered, Coverage(version, records.height, records.height, 0, 0, 0))
    frame = frame.with_columns(keys)
    rows = keys.group_by(SOURCE).len("_rows")
    strange = rows.join(identity, left_on=SOURCE, right_on=RECORD, how="anti")
    if strange.height:
        partition, offset = strange.sort(SOURCE).row(0)[:2]
        raise CoverageError(
            f"{version}: {strange.height:,} of its predictions are for records that the snapshot does not hold, "
            f"the first for partition {partition}, offset {offset}",
            hint="compare the run with the snapshot that it ran over",
            version=version,
        )
    once = rows.filter(pl.col("_rows") == 1)
    single = frame.join(once, on=SOURCE, how="semi").with_columns(pl.lit(True).alias("_answered"))
    joined = identity.join(single, left_on=RECORD, right_on=SOURCE, how="left", maintain_order="left", coalesce=True)
    answered = joined["_answered"].fill_null(value=False).to_numpy()
    missing = records.height - rows.height - errors
    if missing < 0:
        raise CoverageError(
            f"{version}: {records.height:,} records, but {rows.height:,} of them have a prediction and {errors:,} an "
            "error: some have both",
            hint="run the version again",
            version=version,
        )
    coverage = Coverage(version, records.height, frame.height, errors, missing, frame.height - rows.height)
    return _Aligned(joined.drop("_answered", *RECORD), answered, coverage)


def _incomplete(coverage: Iterable[Coverage]) -> CoverageError:
    words = []
    for item in coverage:
        counts = {"missing": item.missing, "errors": item.errors, "doubled": item.doubled}
        faults = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
        if faults:
            words.append(f"{item.version}: {faults} of {item.records:,} records")
    return CoverageError(
        f"the versions did not answer the same records ({'; '.join(words)})",
        hint="run again, or compare the records that all of them answered with --allow-missing",
    )

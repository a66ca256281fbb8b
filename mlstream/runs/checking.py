"""Check a version's frozen output against the input: each record once, as a prediction or an error. Freezes nothing.

Predictions and errors together are the input, exactly: the same (partition, offset), each in one of them, in order in
both. What did not decode is among the errors, as that; what is not in the input is in neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mlstream.errors import RunError
from mlstream.runs.errors import (
    ERROR_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    TOPIC_HEADER,
    UNDECODABLE,
    DeadLetters,
    ours,
)
from mlstream.runs.originals import Offsets

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot
    from mlstream.snapshots.views import View


@dataclass(frozen=True, slots=True)
class Count:
    """What was found beside the predictions.

    Attributes:
        errors: records that got none.
        undecodable: of these, the ones that did not decode.
    """

    errors: int
    undecodable: int


def check_output(output: View, view: View, *, topic: str, source: str, errors: Snapshot | None = None) -> Count:
    """Compare the records that predictions and errors are for with the input.

    Args:
        output: the decoded predictions.
        view: the decoded input.
        topic: of the predictions.
        source: the scored topic.
        errors: the frozen errors; None when no such topic was made.

    Raises:
        RunError: names the first place where they differ.
    """
    faults = _read_errors(errors)
    count = undecodable = 0
    for partition in sorted({*view.partitions, *output.partitions, *faults["partition"].unique().to_list()}):
        of_partition = faults.filter(pl.col("partition") == partition)
        refused = _check_errors(of_partition, view, partition, source=source, topic=topic)
        _check_predictions(output, view, partition, refused, source=source, topic=topic)
        count += of_partition.height
        undecodable += of_partition.height - len(refused)
    return Count(count, undecodable)


def _read_errors(errors: Snapshot | None) -> pl.DataFrame:
    schema = {
        "partition": pl.Int32(),
        "source_topic": pl.String(),
        "source_partition": pl.Int32(),
        "source_offset": pl.Int64(),
        "error": pl.String(),
    }
    if errors is None:
        return pl.DataFrame(schema=schema)
    (topic,) = errors.topics
    rows = errors.scan(topic).select(
        "partition",
        ours(TOPIC_HEADER).alias("source_topic"),
        ours(PARTITION_HEADER).cast(pl.Int32, strict=False).alias("source_partition"),
        ours(OFFSET_HEADER).cast(pl.Int64, strict=False).alias("source_offset"),
        ours(ERROR_HEADER).alias("error"),
    )
    return rows.collect()


def _check_errors(found: pl.DataFrame, view: View, partition: int, *, source: str, topic: str) -> Offsets:
    """The offsets of the records that were refused: those among the errors that decoded."""
    topic = f"{topic}.errors"
    if found.null_count().sum_horizontal().item():
        raise _differs(topic, partition, "holds records that are no errors of a run")
    elsewhere = found.filter((pl.col("source_partition") != partition) | (pl.col("source_topic") != source))
    if elsewhere.height:
        raise _differs(topic, partition, f"holds {elsewhere.height:,} errors of other partitions")
    offsets = np.asarray(found["source_offset"].to_numpy(), np.int64)
    behind = np.flatnonzero(np.diff(offsets) <= 0)
    if len(behind):
        at = int(behind[0]) + 1
        raise _differs(topic, partition, f"has the error for offset {offsets[at]} after that for {offsets[at - 1]}")
    undecodable = np.asarray((found["error"] == UNDECODABLE).to_numpy(), np.bool_)
    dead = DeadLetters.of(view, partition).offsets if partition in view.partitions else np.empty(0, np.int64)
    if not np.array_equal(offsets[undecodable], dead):
        missing = np.setdiff1d(dead, offsets[undecodable])
        first = f"; the first that is missing is for offset {missing[0]}" if len(missing) else ""
        what = f"holds {int(undecodable.sum()):,} records that did not decode, where {len(dead):,} did not{first}"
        raise _differs(topic, partition, what)
    refused = offsets[~undecodable]
    strange = np.setdiff1d(refused, _offsets(view, partition, "_offset"))
    if len(strange):
        raise _differs(topic, partition, f"holds an error for offset {strange[0]}, which is no record of the input")
    return refused


def _check_predictions(output: View, view: View, partition: int, refused: Offsets, *, source: str, topic: str) -> None:
    records = _offsets(view, partition, "_offset")
    expected = records if not len(refused) else np.setdiff1d(records, refused, assume_unique=True)
    if partition in output.partitions:
        found = output.partition(partition)
        elsewhere = found.filter((pl.col("source_partition") != partition) | (pl.col("source_topic") != source))
        if elsewhere.height:
            raise _differs(topic, partition, f"holds {elsewhere.height:,} predictions of other partitions")
    offsets = _offsets(output, partition, "source_offset")
    if len(offsets) != len(expected):
        missing, other = np.setdiff1d(expected, offsets), np.setdiff1d(offsets, expected)
        first = f"; the first that is missing is for offset {missing[0]}" if len(missing) else ""
        first += f"; the first that is too much is for offset {other[0]}" if len(other) else ""
        raise _differs(topic, partition, f"holds {len(offsets):,} predictions for {len(expected):,} records{first}")
    if not np.array_equal(offsets, expected):
        at = int((offsets != expected).argmax())
        raise _differs(topic, partition, f"has the prediction for offset {offsets[at]} where {expected[at]} is due")


def _offsets(view: View, partition: int, column: str) -> Offsets:
    if partition not in view.partitions:
        return np.empty(0, np.int64)
    return np.asarray(view.partition(partition)[column].to_numpy(), np.int64)


def _differs(topic: str, partition: int, what: str) -> RunError:
    return RunError(
        f"{topic}[{partition}] {what}",
        hint="nothing else may write to a run's topic; run again with --force",
        topic=topic,
        partition=partition,
    )

"""The records of a run that get no prediction, as records of the topic beside the output. Writes none by itself.

A record that does not decode (`input.decode.on_error: dead-letter`) and one that the version refuses
(`on_error: errors`) goes there as it was: its key, its value, its timestamp and its headers, in their order. After
those come ours, seven in this order; where an original has a header of the same name, the last one counts:

    mlstream-run, mlstream-version
    mlstream-source-topic, mlstream-source-partition, mlstream-source-offset
    mlstream-error      undecodable, raised or invalid
    mlstream-reason     in words: what the value is no case of, the exception's kind and text, or the answer

It stands in the partition of its source, in the order of the source. Predictions and errors together are the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlstream.errors import RunError
from mlstream.runs.layout import RUN_HEADER, VERSION_HEADER
from mlstream.runs.originals import Offsets
from mlstream.snapshots.view_making import DEAD_LETTERS
from mlstream.wire.columns import HEADER, HEADERS

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

UNDECODABLE = "undecodable"
TOPIC_HEADER = b"mlstream-source-topic"
PARTITION_HEADER = b"mlstream-source-partition"
OFFSET_HEADER = b"mlstream-source-offset"
ERROR_HEADER = b"mlstream-error"
REASON_HEADER = b"mlstream-reason"
NAMES = (
    RUN_HEADER,
    VERSION_HEADER,
    TOPIC_HEADER,
    PARTITION_HEADER,
    OFFSET_HEADER,
    ERROR_HEADER,
    REASON_HEADER,
)
HEADER_ROOM_BYTES = 64 << 10  # what our headers may add to a record
_MOST_REASON = 4000  # characters: of a decoder, which may show a value

# The columns of `Run.errors`.
ERRORS_SCHEMA = pl.Schema(
    {
        "source_partition": pl.Int32(),
        "source_offset": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "key": pl.Binary(),
        "value": pl.Binary(),
        "error": pl.String(),
        "reason": pl.String(),
    }
)


@dataclass(frozen=True, slots=True)
class Faults:
    """Records without a prediction, in order of their offsets.

    Attributes:
        offsets: in the source.
        errors: why, in a word each.
        reasons: and in words.
    """

    offsets: Offsets
    errors: list[str] = field(repr=False)
    reasons: list[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.offsets)


NO_FAULTS = Faults(np.empty(0, np.int64), [], [])


class DeadLetters:
    """The records of a partition that did not decode.

    Args:
        offsets: in order.
        reasons: what each value is no case of.
        sizes: bytes of key and value of each.

    Attributes:
        bytes_before: how many bytes those before each take, and at last all of them: one more than there are.
    """

    def __init__(self, offsets: Offsets, reasons: pa.Array | pa.ChunkedArray, sizes: Offsets) -> None:
        self.offsets = offsets
        self._reasons = reasons
        self.bytes_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    @classmethod
    def of(cls, view: View, partition: int) -> DeadLetters:
        """Those of a partition of a view; mapped, not copied."""
        first = sum(count for number, count in view.faults.items() if number < partition)
        count = view.faults.get(partition, 0)
        path = view.folder / DEAD_LETTERS
        if count and path.is_file():  # with `on_error: null` they are among the rows
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().slice(first, count)
            sizes = _lengths(table.column("key")) + _lengths(table.column("value"))
            return cls(np.asarray(table.column("offset").to_numpy(), np.int64), table.column("reason"), sizes)
        return NONE_DEAD

    def faults(self, first: int, last: int) -> Faults:
        """Those from number `first` up to `last`, counted from 0."""
        reasons = self._reasons.slice(first, last - first).to_pylist()
        return Faults(self.offsets[first:last], [UNDECODABLE] * (last - first), reasons)


NONE_DEAD = DeadLetters(np.empty(0, np.int64), pa.nulls(0, pa.large_string()), np.empty(0, np.int64))


def _lengths(column: pa.ChunkedArray) -> Offsets:
    return np.asarray(pc.fill_null(pc.binary_length(column), 0).to_numpy(), np.int64)


def undecodable(view: View) -> int:
    """How many records a view leaves out because they do not decode."""
    return sum(view.faults.values()) if (view.folder / DEAD_LETTERS).is_file() else 0


class ErrorRecords:
    """Makes the records of a version's errors topic for one partition.

    Args:
        run_id, version: whose errors.
        topic, partition: the source.
        find: offsets in order → the records as they were, in order, a stretch at a time.
        dead: those that did not decode.
        make_topic: called before records are made; the topic is there then.
    """

    def __init__(
        self,
        *,
        run_id: str,
        version: str,
        topic: str,
        partition: int,
        find: Callable[[Offsets], Iterator[pa.RecordBatch]],
        dead: DeadLetters,
        make_topic: Callable[[], None],
    ) -> None:
        self.dead = dead
        self._make_topic = make_topic
        self._find = find
        self._same = (run_id.encode(), version.encode(), topic.encode(), b"%d" % partition)

    def columns(self, dead: tuple[int, int], refused: Faults) -> Iterator[pa.Table]:
        """The records as columns for a `TransactionWriter`, in order.

        Args:
            dead: the first dead letter and the one after the last, by their numbers.
            refused: of the same stretch of the source.
        """
        faults = _merged(self.dead.faults(*dead), refused)
        if len(faults):
            self._make_topic()
        done = 0
        for rows in self._find(faults.offsets):
            now = slice(done, done + len(rows))
            yield self._encode(rows, Faults(faults.offsets[now], faults.errors[now], faults.reasons[now]))
            done += len(rows)

    def _encode(self, rows: pa.RecordBatch, faults: Faults) -> pa.Table:
        count = len(rows)
        changing = (
            [b"%d" % offset for offset in faults.offsets.tolist()],
            [text.encode() for text in faults.errors],
            [_short(text).encode(errors="replace") for text in faults.reasons],
        )
        ours = [
            *(pa.repeat(pa.scalar(value, pa.binary()), count) for value in self._same),
            *(pa.array(values, pa.binary()) for values in changing),
        ]
        return pa.table(
            {
                "timestamp": rows.column("timestamp"),
                "key": rows.column("key"),
                "value": rows.column("value"),
                "headers": _with_ours(rows.column("headers"), ours),
            }
        )


def source_offset_of(row: pa.RecordBatch, *, where: str) -> int:
    """The source offset of one record of an errors topic.

    Raises:
        RunError: it is none of ours.
    """
    headers = row.column("headers")[0].as_py()
    named = {header["key"]: header["value"] for header in headers[-len(NAMES) :]}
    found = named.get(OFFSET_HEADER) or b""
    if not found.isdigit():
        raise RunError(
            f"{where}: its last record is no error of a run",
            hint="nothing else may write to a run's topic; run again with --force",
        )
    return int(found)


def as_errors(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The raw rows of a frozen errors topic with the columns of `ERRORS_SCHEMA`."""
    return raw.select(
        ours(PARTITION_HEADER).cast(pl.Int32).alias("source_partition"),
        ours(OFFSET_HEADER).cast(pl.Int64).alias("source_offset"),
        "timestamp",
        "key",
        "value",
        ours(ERROR_HEADER).alias("error"),
        ours(REASON_HEADER).alias("reason"),
    )


def ours(name: bytes) -> pl.Expr:
    """The text of one of our headers, from the raw rows of an errors topic; null when it is not in its place."""
    header = pl.col("headers").list.get(NAMES.index(name) - len(NAMES), null_on_oob=True)
    value = header.struct.field("value").cast(pl.String)
    return pl.when(header.struct.field("key") == name).then(value)


def _merged(dead: Faults, refused: Faults) -> Faults:
    """Both, in order of their offsets."""
    if not len(dead) or not len(refused):
        return refused if not len(dead) else dead
    offsets = np.concatenate([dead.offsets, refused.offsets])
    errors, reasons = [*dead.errors, *refused.errors], [*dead.reasons, *refused.reasons]
    order = np.argsort(offsets, kind="stable")
    return Faults(offsets[order], [errors[place] for place in order], [reasons[place] for place in order])


def _with_ours(original: pa.ListArray, ours: list[pa.Array]) -> pa.ListArray:
    """Each record's headers, and after them ours: `ours` has, for each of our names, the values of all records."""
    rows, added = len(original), len(ours)
    ends = np.asarray(original.offsets.to_numpy(), np.int64)
    first, last = int(ends[0]), int(ends[-1])
    theirs = original.values.slice(first, last - first)
    ends = ends - first
    starts_new = ends + added * np.arange(rows + 1)
    # Where each header of the result comes from: theirs first, then ours, name by name.
    source: NDArray[np.int64] = np.empty(starts_new[-1], np.int64)
    of_row = np.repeat(np.arange(rows), np.diff(ends))
    source[np.arange(len(theirs)) + added * of_row] = np.arange(len(theirs))
    places = starts_new[1:, None] - added + np.arange(added)
    source[places] = len(theirs) + np.arange(rows)[:, None] + rows * np.arange(added)
    names = pa.array(NAMES, pa.binary()).take(pa.array(np.repeat(np.arange(added), rows)))
    keys = pa.concat_arrays([theirs.field(0), names])
    values = pa.concat_arrays([theirs.field(1), *ours])
    picked = pa.array(source)
    pairs = pa.StructArray.from_arrays([keys.take(picked), values.take(picked)], fields=list(HEADER))
    return pa.Array.from_buffers(HEADERS, rows, [None, pa.py_buffer(starts_new.astype(np.int32))], 0, 0, [pairs])


def _short(text: str) -> str:
    return text if len(text) <= _MOST_REASON else f"{text[: _MOST_REASON - 1]}…"

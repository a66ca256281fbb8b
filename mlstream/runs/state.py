"""The state of a version in the topic beside its output: one for each partition, the newest counts. Knows no model.

A state is written in the transaction that commits the predictions before it, so that it is as old as they are, whatever
is killed when. It is cut into records of at most `PIECE_BYTES`, which follow each other:

    key       the number of the piece, from 0: the topic is compacted, and keeps the newest of each
    headers   mlstream-run, mlstream-version
              mlstream-position   the offset in the source that the version goes on from, as the group has it
              mlstream-piece      the number of the piece and how many there are: 0/3
              mlstream-digest     SHA-256 of the whole state, in hexadecimal digits
    value     the piece
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.errors import RunError
from mlstream.naming import state_topic
from mlstream.ranges import PartitionRange
from mlstream.runs.layout import RUN_HEADER, VERSION_HEADER
from mlstream.streams.last import last_record
from mlstream.streams.read import read
from mlstream.wire.columns import HEADERS

PIECE_BYTES = 512 << 10  # a record batch is at least twice as large, whatever the brokers' settings are
POSITION_HEADER = b"mlstream-position"
PIECE_HEADER = b"mlstream-piece"
DIGEST_HEADER = b"mlstream-digest"
_PIECE = re.compile(rb"(\d+)/(\d+)")

# Old states are of no use: the log keeps the newest, and what is not yet compacted.
STATE_SETTINGS = MappingProxyType(
    {
        **KEEP_EVERYTHING,
        "cleanup.policy": "compact",
        "max.message.bytes": str(2 * PIECE_BYTES),
        "segment.bytes": str(64 << 20),  # the segment that is written to is never compacted
    }
)


@dataclass(frozen=True, slots=True)
class State:
    """A version's state in a partition.

    Attributes:
        position: the offset in the source that it goes on from.
        data: what the model returned.
    """

    position: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One record of a state: its place in the log, and in the state."""

    offset: int
    position: int
    number: int
    count: int
    digest: str
    value: bytes = field(repr=False)


def make_state_topic(client: Client, output: str) -> str:
    """Make the topic for the state beside an output topic, unless it is there; its id.

    Raises:
        TopicExists: one with another number of partitions is there.
        BrokerRefused: making it is not allowed.
    """
    partitions = len(client.topic(output).partitions)
    made = create_topic(client, state_topic(output), partitions=partitions, config=STATE_SETTINGS, exist_ok=True)
    return made.topic_id


def state_columns(state: State, *, run_id: str, version: str) -> pa.Table:
    """A state as columns for a `TransactionWriter`: a row a piece."""
    digest = hashlib.sha256(state.data).hexdigest()
    starts = range(0, max(1, len(state.data)), PIECE_BYTES)
    count = len(starts)
    same = [
        (RUN_HEADER, run_id.encode()),
        (VERSION_HEADER, version.encode()),
        (POSITION_HEADER, b"%d" % state.position),
        (DIGEST_HEADER, digest.encode()),
    ]
    headers = [
        [{"key": key, "value": value} for key, value in (*same, (PIECE_HEADER, b"%d/%d" % (number, count)))]
        for number in range(count)
    ]
    return pa.table(
        {
            "timestamp": pa.array([time.time_ns() // 1_000_000] * count, pa.timestamp("ms", tz="UTC")),
            "key": pa.array([b"%d" % number for number in range(count)], pa.binary()),
            "value": pa.array([state.data[start : start + PIECE_BYTES] for start in starts], pa.binary()),
            "headers": pa.array(headers, HEADERS),
        }
    )


def read_state(client: Client, topic: str, partition: int) -> State | None:
    """The newest committed state of a partition; None when there is none.

    Args:
        topic: of the state.

    Raises:
        RunError: the last record is no state, or pieces of it are missing or damaged.
        BrokerUnavailable: an open transaction of somebody else hides the end.
    """
    row = last_record(client, topic, partition)
    if row is None:
        return None
    (last,) = _pieces(row)
    if last is None or last.number != last.count - 1:
        raise _damaged(topic, partition, "its last record is no state")
    first = last.offset - last.count + 1
    found: list[_Piece] = []
    if last.count > 1:
        for block in read(client, [PartitionRange(topic, partition, max(0, first), last.offset)], threads=1):
            found += [piece for piece in _pieces(block.columns) if piece is not None]
    found.append(last)
    data = b"".join(piece.value for piece in found)
    whole = [piece.number for piece in found] == list(range(last.count))
    if not whole or hashlib.sha256(data).hexdigest() != last.digest:
        raise _damaged(topic, partition, f"the state for offset {last.position} is not whole")
    return State(last.position, data)


def _pieces(columns: pa.RecordBatch) -> list[_Piece | None]:
    """The records as pieces; None for what is none."""
    found: list[_Piece | None] = []
    for offset, value, headers in zip(
        columns.column("offset").to_pylist(),
        columns.column("value").to_pylist(),
        columns.column("headers").to_pylist(),
        strict=True,
    ):
        named = {header["key"]: header["value"] or b"" for header in headers}
        place = _PIECE.fullmatch(named.get(PIECE_HEADER, b""))
        position = named.get(POSITION_HEADER, b"")
        if place is None or not position.isdigit() or value is None:
            found.append(None)
            continue
        digest = named.get(DIGEST_HEADER, b"").decode(errors="replace")
        found.append(_Piece(offset, int(position), int(place[1]), int(place[2]), digest, value))
    return found


def _damaged(topic: str, partition: int, what: str) -> RunError:
    return RunError(
        f"{topic}[{partition}]: {what}",
        hint="nothing else may write to a run's topic; run again with --force",
        topic=topic,
        partition=partition,
    )

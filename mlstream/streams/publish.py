"""A DataFrame → a topic, for notebooks and scripts. The whole frame is checked before anything is made or written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.errors import UnknownTopic, UsageError
from mlstream.home import Home, find_home
from mlstream.streams.write import StreamWriter, check_codec
from mlstream.wire.columns import HEADERS, SCHEMA, Ints
from mlstream.wire.partition import murmur2_partitions

COLUMNS = ("value", "key", "timestamp", "partition", "headers")
_SLICE_ROWS = 100_000
_HEADERS = pl.List(pl.Struct({"key": pl.Binary, "value": pl.Binary}))


@dataclass(frozen=True, slots=True)
class Published:
    """What was written: `rows` records to the `partitions` partitions of `topic`, acknowledged after `seconds`."""

    topic: str
    rows: int
    partitions: int
    seconds: float


def publish(
    topic: str,
    frame: pl.DataFrame,
    *,
    partitions: int | None = None,
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    codec: str = "zstd",
) -> Published:
    """Write each row of a frame as one record.

    Args:
        topic: where to.
        frame: `value` (string or binary; null is a tombstone) and, where wanted, `key` (the same), `timestamp` (a
            datetime, UTC unless it says otherwise; now when there is no such column), `partition` (integer) and
            `headers` (list of structs of `key` and `value`). Rows without a partition go where Kafka's default
            partitioner puts their key; without a key to one partition after the other. Within a partition the order
            stays.
        partitions: make the topic with that many partitions if it does not exist; it then keeps everything.
        connection: which cluster; the configured one, or the embedded broker, when None.
        home: the project's home, where the embedded broker is looked for.
        codec: none, gzip, snappy, lz4 or zstd.

    Raises:
        UsageError: a column is unknown, is missing or has another type; a partition that the topic does not have; an
            unknown codec.
        UnknownTopic: the topic does not exist and `partitions` is not given.
        TopicExists: it exists with another number of partitions.
        BrokerError: the broker cannot be reached or refuses.
    """
    started = time.monotonic()
    check_codec(codec)
    rows = _checked(frame)
    if connection is None:
        connection = find_connection(home if isinstance(home, Home) else find_home(home))
    with Client(connection) as client:
        if partitions is None:
            try:
                info = client.topic(topic)
            except UnknownTopic as exc:
                hint = f"give partitions= to make it, or another name: {exc.hint}"
                raise UnknownTopic(exc.message, hint=hint, topic=topic) from exc
        else:
            _check_partitions(rows, topic, partitions)
            info = create_topic(client, topic, partitions=partitions, config=KEEP_EVERYTHING, exist_ok=True)
        _check_partitions(rows, topic, len(info.partitions))
        chosen = _partitions(rows, len(info.partitions))
        with StreamWriter(client, topic, codec=codec) as writer:
            for start in range(0, len(rows), _SLICE_ROWS):
                columns = _columns(rows.slice(start, _SLICE_ROWS))
                there = chosen[start : start + _SLICE_ROWS]
                for partition in np.unique(there).tolist():
                    writer.write(partition, columns.take(np.flatnonzero(there == partition)))
    return Published(topic, len(rows), len(info.partitions), time.monotonic() - started)


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with columns of the types that are written.

    Raises:
        UsageError: see `publish`.
    """
    unknown = [name for name in frame.columns if name not in COLUMNS]
    if unknown:
        raise UsageError(
            f"column {unknown[0]!r} is no part of a record",
            hint="put it into the value: pl.struct(...).struct.json_encode().alias('value')",
        )
    if "value" not in frame.columns:
        raise UsageError("the frame has no column 'value'", hint="it is what each record holds: a string or binary")
    wanted = []
    for name in ("value", "key"):
        if name in frame.columns:
            if frame[name].dtype not in (pl.String, pl.Binary, pl.Null):
                raise UsageError(f"column {name!r} is {frame[name].dtype}", hint="make it a string or binary")
            wanted.append(pl.col(name).cast(pl.Binary))
    if "timestamp" in frame.columns:
        kind = frame["timestamp"].dtype
        if not isinstance(kind, pl.Datetime):
            raise UsageError(f"column 'timestamp' is {kind}", hint="make it a datetime; it is UTC without a time zone")
        moment = pl.col("timestamp")
        moment = moment.dt.replace_time_zone("UTC") if kind.time_zone is None else moment.dt.convert_time_zone("UTC")
        wanted.append(moment.dt.cast_time_unit("ms"))
    else:
        now_ms = int(time.time() * 1000)
        wanted.append(pl.lit(now_ms).cast(pl.Datetime("ms", "UTC")).alias("timestamp"))
    if "partition" in frame.columns:
        if not frame["partition"].dtype.is_integer() or frame["partition"].null_count():
            raise UsageError("column 'partition' is not all integers", hint="leave it out to spread the rows by key")
        wanted.append(pl.col("partition"))
    if "headers" in frame.columns:
        try:
            frame["headers"].cast(_HEADERS)
        except pl.exceptions.PolarsError as exc:
            raise UsageError(
                f"column 'headers' is {frame['headers'].dtype}",
                hint="make it a list of structs with the fields key and value, strings or binary",
            ) from exc
        wanted.append(pl.col("headers").cast(_HEADERS))
    return frame.select(wanted)


def _check_partitions(rows: pl.DataFrame, topic: str, count: int) -> None:
    if "partition" not in rows.columns or rows.is_empty():
        return
    wrong = rows.filter((pl.col("partition") < 0) | (pl.col("partition") >= count))
    if len(wrong):
        raise UsageError(
            f"column 'partition' names {wrong['partition'][0]}, and topic {topic} has the partitions 0 to {count - 1}",
            hint="leave the column out to spread the rows by key",
        )


def _partitions(rows: pl.DataFrame, count: int) -> Ints:
    if "partition" in rows.columns:
        return rows["partition"].cast(pl.Int32).to_numpy()
    keys = pa.nulls(len(rows), pa.binary())
    if "key" in rows.columns:
        keys = rows["key"].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.binary())
    return murmur2_partitions(keys, count)


def _columns(rows: pl.DataFrame) -> pa.Table:
    """Polars' columns as those that are encoded: 32-bit offsets, and no views."""
    found = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    types = {"value": pa.binary(), "key": pa.binary(), "timestamp": SCHEMA.field("timestamp").type, "headers": HEADERS}
    names = [name for name in found.column_names if name in types]
    return pa.table({name: found.column(name).cast(types[name]) for name in names})

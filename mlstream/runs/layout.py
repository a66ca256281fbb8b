"""What a prediction looks like as a record: columns → the columns of a topic, and back. Opens no socket.

A prediction has the key and the event time of the record that it is for, the headers `mlstream-run` and
`mlstream-version`, and a JSON object as value:

    {"source_topic": "flights", "source_partition": 2, "source_offset": 1200, "prediction": true, "score": 0.71}

It stands in the partition of its source. `score` (binary: the probability of the positive class) and `scores` (several
classes: one probability each, in the order that the run's record pins) are there when the model gives them. Floats are
written in their shortest form that reads back to the same bits; NaN and infinities never get this far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.config import DecodeConfig
from mlstream.wire.columns import HEADERS

# The scalar types of prediction columns, by the names that decoders use.
_TYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "floats": pl.List(pl.Float64()),
}
SOURCE = {"source_topic": "string", "source_partition": "int", "source_offset": "int"}
RECORD_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")  # of a view: the records' coordinates
RUN_HEADER = b"mlstream-run"
VERSION_HEADER = b"mlstream-version"


class Encoder:
    """Turns one version's predictions of one topic into columns for `StreamWriter`.

    Args:
        topic: the source topic.
        run_id: the run's id, for the header.
        version: the version's name, for the header.
        batch_rows: the most rows of a batch.
    """

    def __init__(self, topic: str, *, run_id: str, version: str, batch_rows: int) -> None:
        self._topic = topic
        names, values = [[RUN_HEADER, VERSION_HEADER]], [[run_id.encode(), version.encode()]]
        pairs = pl.DataFrame({"key": names, "value": values}).explode("key", "value").to_struct("headers")
        both = pairs.implode().to_arrow().cast(HEADERS)
        index = pa.Array.from_buffers(pa.int32(), batch_rows, [None, pa.py_buffer(np.zeros(batch_rows, np.int32))])
        self._headers = pa.DictionaryArray.from_arrays(index, both)

    def encode(self, source: pl.DataFrame, predictions: pl.DataFrame) -> pa.Table:
        """A batch as columns `timestamp`, `key`, `value`, `headers`.

        Args:
            source: `_partition`, `_offset`, `_timestamp` and `_key` of the records.
            predictions: what `Predictor.predict` returned for them.
        """
        value = pl.struct(
            pl.lit(self._topic).alias("source_topic"),
            pl.col("_partition").alias("source_partition"),
            pl.col("_offset").alias("source_offset"),
            *(pl.col(name) for name in predictions.columns),
        )
        frame = pl.concat([source, predictions], how="horizontal")
        texts = frame.select(value.struct.json_encode().alias("value"))["value"]
        return pa.table(
            {
                "timestamp": source["_timestamp"].to_arrow().cast(pa.timestamp("ms", tz="UTC")),
                "key": _binary(source["_key"]),
                "value": _binary(texts),
                "headers": self._headers.slice(0, source.height),
            }
        )


def kinds_of(predictions: pl.DataFrame) -> dict[str, str]:
    """The columns of predictions and their types, by the names that a run's record pins."""
    known = {dtype: kind for kind, dtype in _TYPES.items()}
    return {name: known[dtype] for name, dtype in predictions.schema.items()}


def decoder(columns: Mapping[str, str]) -> DecodeConfig:
    """How a frozen output is read: the source's coordinates and the scalar prediction columns, none of them guessed."""
    scalars = {name: kind for name, kind in columns.items() if kind != "floats"}
    return DecodeConfig(format="json", columns={**SOURCE, **scalars})


def decode_lists(raw: pl.LazyFrame, columns: Mapping[str, str]) -> pl.LazyFrame:
    """Predictions with lists in them, from the raw rows of a frozen output."""
    kinds = {**SOURCE, **columns}
    value = pl.Struct({name: _TYPES[kind] for name, kind in kinds.items()})
    return raw.select(
        pl.col("timestamp").alias("_timestamp"), pl.col("value").cast(pl.String).str.json_decode(value)
    ).unnest("value")


def as_predictions(decoded: pl.LazyFrame, columns: Mapping[str, str]) -> pl.LazyFrame:
    """The columns that users see: `source_topic`, `source_partition` int32, `source_offset` int64, `timestamp`, …"""
    return decoded.select(
        "source_topic",
        pl.col("source_partition").cast(pl.Int32),
        "source_offset",
        pl.col("_timestamp").alias("timestamp"),
        *columns,
    )


def _binary(column: pl.Series) -> pa.Array:
    return column.cast(pl.Binary).to_arrow().cast(pa.binary())

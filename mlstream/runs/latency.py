"""How long a model takes, as histograms that merge over processes. Keeps no single measurement.

HdrHistogram keeps three significant digits of every value: of a batch from a microsecond to an hour, of a record from a
nanosecond, in a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log2

from hdrh.histogram import HdrHistogram

from mlstream.runs.spec import Latency, RecordLatency

_LARGEST_US = 3_600_000_000
_LARGEST_NS = _LARGEST_US * 1000
_DIGITS = 3
_SHOWN = (50, 95, 99)


class Recorder:
    """Collects the times of batches."""

    def __init__(self) -> None:
        self._batches = _of_batches()
        self._records = _of_records()
        self.seconds = 0.0

    def add(self, seconds: float, rows: int) -> None:
        """One batch of so many records; an hour or more counts as an hour."""
        self.seconds += seconds
        self._batches.record_value(min(max(1, round(seconds * 1e6)), _LARGEST_US))
        if rows:
            self._records.record_value(min(max(1, round(seconds * 1e9 / rows)), _LARGEST_NS), rows)

    def latency(self) -> Latency:
        """What was collected of batches."""
        return _latency(self._batches)

    def record_latency(self) -> RecordLatency:
        """What was collected of records."""
        return _record_latency(self._records)


def merged(found: Iterable[Latency]) -> Latency:
    """The latency over all batches of several processes."""
    return _latency(_sum(_of_batches(), (each.histogram for each in found)))


def merged_records(found: Iterable[RecordLatency]) -> RecordLatency:
    """The latency over all records of several processes."""
    return _record_latency(_sum(_of_records(), (each.histogram for each in found)))


def percentiles_ms(latency: Latency, percents: Iterable[float]) -> list[float]:
    """How long at most so many of a hundred batches took, in milliseconds; of 100 the longest."""
    histogram = _decoded(latency.histogram)
    return [histogram.get_value_at_percentile(percent) / 1000 for percent in percents]


def bars(latency: Latency, count: int) -> list[int]:
    """How many batches took how long: their numbers in `count` equal parts of the logarithm, from least to most."""
    histogram = _decoded(latency.histogram)
    values = [(item.value_iterated_to, item.count_at_value_iterated_to) for item in histogram.get_recorded_iterator()]
    found = [0] * count
    if not values:
        return found
    low, high = log2(values[0][0]), log2(values[-1][0])
    for value, batches in values:
        part = 0.0 if high == low else (log2(value) - low) / (high - low)
        found[min(int(part * count), count - 1)] += batches
    return found


def _of_batches() -> HdrHistogram:
    return HdrHistogram(1, _LARGEST_US, _DIGITS)


def _of_records() -> HdrHistogram:
    return HdrHistogram(1, _LARGEST_NS, _DIGITS)


def _decoded(text: str) -> HdrHistogram:
    return HdrHistogram.decode(text.encode())


def _sum(total: HdrHistogram, texts: Iterable[str]) -> HdrHistogram:
    for text in texts:
        if text:
            total.add(_decoded(text))
    return total


def _latency(histogram: HdrHistogram) -> Latency:
    p50, p95, p99 = (histogram.get_value_at_percentile(part) / 1000 for part in _SHOWN)
    return Latency(p50, p95, p99, histogram.total_count, histogram.encode().decode())


def _record_latency(histogram: HdrHistogram) -> RecordLatency:
    p50, p95, p99 = (histogram.get_value_at_percentile(part) / 1000 for part in _SHOWN)
    return RecordLatency(p50, p95, p99, histogram.total_count, histogram.encode().decode())

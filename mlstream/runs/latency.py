"""How long a model takes, as a histogram that merges over processes. Keeps no single measurement.

HdrHistogram keeps three significant digits of every value from a microsecond to an hour, in a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

from mlstream.runs.spec import Latency

_LARGEST_US = 3_600_000_000
_DIGITS = 3


class Recorder:
    """Collects the times of batches."""

    def __init__(self) -> None:
        self._histogram = _empty()
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """One batch; an hour or more counts as an hour."""
        self.seconds += seconds
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), _LARGEST_US))

    def latency(self) -> Latency:
        """What was collected."""
        return _latency(self._histogram)


def merged(found: Iterable[Latency]) -> Latency:
    """The latency over all batches of several processes."""
    histogram = _empty()
    for each in found:
        if each.histogram:
            histogram.add(HdrHistogram.decode(each.histogram.encode()))
    return _latency(histogram)


def _empty() -> HdrHistogram:
    return HdrHistogram(1, _LARGEST_US, _DIGITS)


def _latency(histogram: HdrHistogram) -> Latency:
    p50, p95, p99 = (histogram.get_value_at_percentile(part) / 1000 for part in (50, 95, 99))
    return Latency(p50, p95, p99, histogram.total_count, histogram.encode().decode())

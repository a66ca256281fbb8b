"""What versions cost, from what their runs measured. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping

from mlstream.comparison.result import Cost


def read_cost(version: str, figures: Mapping[str, float], *, scored: int, reused: str | None = None) -> Cost:
    """The cost of one version.

    Args:
        version: its name.
        figures: of its run, by name with its unit, as `VersionOutcome.figures` gives them.
        scored: the records that were scored while they were measured.
        reused: the id of the run that it was measured in, when that was an earlier one.
    """
    cpu_seconds = figures.get("cpu_seconds")
    return Cost(
        version=version,
        records=scored,
        records_per_second=figures.get("records_per_second"),
        latency_p50_ms=figures.get("latency_p50_ms"),
        latency_p95_ms=figures.get("latency_p95_ms"),
        latency_p99_ms=figures.get("latency_p99_ms"),
        record_latency_p50_us=figures.get("record_latency_p50_us"),
        record_latency_p95_us=figures.get("record_latency_p95_us"),
        record_latency_p99_us=figures.get("record_latency_p99_us"),
        cpu_seconds_per_million=None if cpu_seconds is None or scored == 0 else cpu_seconds / scored * 1e6,
        memory_mb=figures.get("memory_mb"),
        reused=reused,
    )

"""What the workers of a version report, as one: rows and CPU add up, times overlap, latencies merge. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlstream.runs.fleet import Ended
from mlstream.runs.latency import merged
from mlstream.runs.spec import Measured, Report


def together(ended: Sequence[Ended]) -> Ended:
    """How a version ended: as its workers did, or as the first of them that failed.

    Args:
        ended: one for each worker, in the order in which they ended.
    """
    failed = next((found for found in ended if found.report is None), None)
    if failed is not None:
        return failed
    reports = [found.report for found in ended if found.report is not None]
    columns = [report.columns for report in reports if report.columns]
    if any(each != columns[0] for each in columns):
        return Ended(
            ended[0].name,
            None,
            f"its workers returned different columns: {' and '.join(str(each) for each in columns)}",
            "return the same columns of the same types for every batch",
        )
    last = reports[-1]
    return replace(
        ended[0],
        restarts=sum(found.restarts for found in ended),
        report=replace(
            last,
            rows=sum(report.rows for report in reports),
            resumed=sum(report.resumed for report in reports),
            measured=_measured([report.measured for report in reports if report.measured is not None]),
            columns=columns[0] if columns else {},
        ),
    )


def rows_of(reports: Sequence[Report]) -> int:
    """Records that the workers of a version have scored so far."""
    return sum(report.rows for report in reports)


def _measured(found: Sequence[Measured]) -> Measured | None:
    if not found:
        return None
    return Measured(
        rows=sum(each.rows for each in found),
        load_seconds=max(each.load_seconds for each in found),
        seconds=max(each.seconds for each in found),
        predict_seconds=sum(each.predict_seconds for each in found),
        cpu_seconds=sum(each.cpu_seconds for each in found),
        memory_bytes=sum(each.memory_bytes for each in found),
        latency=merged(each.latency for each in found),
    )

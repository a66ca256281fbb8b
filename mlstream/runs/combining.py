"""What the workers of a version report, as one: rows and CPU add up, times overlap, latencies merge. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlstream.runs.fleet import Ended
from mlstream.runs.latency import merged, merged_records
from mlstream.runs.spec import Figures, Measured, Report


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
            errors=errors_of(reports),
            measured=_measured([report.measured for report in reports if report.measured is not None]),
            columns=columns[0] if columns else {},
        ),
    )


def rows_of(reports: Sequence[Report]) -> int:
    """Records that the workers of a version have scored so far."""
    return sum(report.rows for report in reports)


def resumed_of(reports: Sequence[Report]) -> int:
    """Of these, the ones of processes that were cut off."""
    return sum(report.resumed for report in reports)


def errors_of(reports: Sequence[Report]) -> int:
    """Records that the workers of a version could not deal with so far."""
    return sum(report.errors for report in reports)


def with_figures(report: Report, before: Report | None) -> Report:
    """A report with the figures that are known by then: its own, of what was measured, or of the report before."""
    measured = report.measured
    if measured is not None and measured.record_latency is not None:
        of_all = Figures(measured.latency, measured.record_latency, measured.cpu_seconds, measured.memory_bytes)
        return replace(report, figures=of_all)
    if report.figures is None and before is not None:
        return replace(report, figures=before.figures)
    return report


def figures_of(reports: Sequence[Report]) -> Figures | None:
    """What the workers of a version say of themselves, as one; None while none has said anything."""
    found = [report.figures for report in reports if report.figures is not None]
    if len(found) < 2:
        return found[0] if found else None
    return Figures(
        merged(each.latency for each in found),
        merged_records(each.record_latency for each in found),
        sum(each.cpu_seconds for each in found),
        sum(each.memory_bytes for each in found),
    )


def _measured(found: Sequence[Measured]) -> Measured | None:
    if not found:
        return None
    of_records = [each.record_latency for each in found if each.record_latency is not None]
    return Measured(
        rows=sum(each.rows for each in found),
        load_seconds=max(each.load_seconds for each in found),
        seconds=max(each.seconds for each in found),
        predict_seconds=sum(each.predict_seconds for each in found),
        cpu_seconds=sum(each.cpu_seconds for each in found),
        memory_bytes=sum(each.memory_bytes for each in found),
        latency=merged(each.latency for each in found),
        record_latency=None if len(of_records) < len(found) else merged_records(of_records),
    )

"""`mlstream run show`: what a run was made of, how its versions fared, and where it ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.progress import brief
from mlstream.cli.runs.screen import JSON, plain_table, print_outcomes, repeat_text, run_json
from mlstream.cli.versions.choosing import shown_path

if TYPE_CHECKING:
    from mlstream.runs.run import Run

_PERCENTS = (50, 95, 99, 99.9, 100)
_BARS = " ▁▂▃▄▅▆▇█"
_BAR_COUNT = 12
_A_LINE = 3  # packages, so that a line has 80 columns
# What decides predictions most; --json has all.
_PACKAGES = ("mlstream", "numpy", "polars", "pyarrow", "scikit-learn", "scipy", "kafka-python", "mlflow")


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@JSON
@click.pass_obj
def show(session: Session, run_id: str | None, as_json: bool) -> None:
    """Show RUN: an id or its beginning; the newest when left out.

    --json prints its whole record, with every installed package.
    """
    from mlstream.runs.run import explain, open_run

    found = open_run(run_id, home=session.at)
    if as_json:
        session.emit_json(run_json(found))
        return
    for name, text in _facts(found):
        session.line(f"{name:<11} {text}")
    session.out.print()
    print_outcomes(session, found)
    _print_latency(session, found)
    for outcome in found.versions.values():
        if outcome.error is not None:
            text = f"\n{outcome.name} failed: {explain(outcome)}"
            session.out.print(text, markup=False, soft_wrap=True)


def _facts(found: Run) -> Iterator[tuple[str, str]]:
    yield "run", found.id
    yield "status", found.status
    if found.repeats is not None:
        yield "repeats", f"the baseline of run {found.repeats[:12]}"
    yield (
        "experiment",
        f"{found.experiment}{'' if found.config_path is None else f' ({shown_path(found.config_path)})'}",
    )
    yield "snapshot", f"{found.snapshot_name or '(no name)'} {found.snapshot_id[:12]}"
    ranges = found.input.ranges
    yield "input", f"{found.input.topic}, {found.input.rows:,} records in {len(ranges)} partitions"
    yield "columns", ", ".join(f"{name} {kind}" for name, kind in found.input.schema.items())
    yield "started", found.started_at + (f", attempt {found.attempt}" if found.attempt > 1 else "")
    if found.timings:
        yield "took", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.timings.items())
    yield "settings", ", ".join(f"{name} {value}" for name, value in found.settings.items())
    hardware = found.hardware
    memory = f"{hardware['memory_bytes'] / 1e9:.1f} GB"
    yield "machine", f"{hardware['cpu']}, {hardware['cpus']} cpus, {memory}"
    yield "", str(hardware["platform"])
    yield "python", found.environment["python"]
    yield from _packages(found.environment["packages"])
    for name, outcome in found.versions.items():
        own = outcome.described.get("environment")
        if own is not None:
            yield "environment", f"{name}: {own['file']}, {own['python']}"
            yield from _packages(own["packages"])
    if found.git is not None:
        yield (
            "git",
            f"{found.git.commit[:12]}{'' if found.git.branch is None else f' on {found.git.branch}'}"
            + (", with changes" if found.git.dirty else ""),
        )
    for name, outcome in found.versions.items():
        state = outcome.described.get("git")
        if state is not None and state["revision"] is not None:
            yield "revision", f"{name}: {state['revision']}, commit {state['commit'][:12]}"
        elif state is not None and state["changed"]:
            yield "changed", f"{name}: {', '.join(state['changed'])}; not as in commit {state['commit'][:12]}"
    reused = {name: outcome.reused for name, outcome in found.versions.items() if outcome.reused is not None}
    if reused:
        yield "reused", ", ".join(f"{name} from {run_id[:12]}" for name, run_id in reused.items())
    kept = [outcome.state_topic for outcome in found.versions.values() if outcome.state_topic is not None]
    if kept:
        yield "state", ", ".join(kept)
    restarts = {name: outcome.restarts for name, outcome in found.versions.items() if outcome.restarts}
    if restarts:
        yield "restarts", ", ".join(f"{name} {count}" for name, count in restarts.items())
    repeat = repeat_text(found)
    if repeat is not None:
        yield "repeat", repeat
    yield "record", f"{shown_path(found.path.parent)}/{found.id[:12]}*.json"


def _packages(packages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    named = [f"{name} {packages[name]}" for name in _PACKAGES if name in packages]
    named.append(f"{len(packages) - len(named):,} more")
    for start in range(0, len(named), _A_LINE):
        yield "", ", ".join(named[start : start + _A_LINE])


def _print_latency(session: Session, found: Run) -> None:
    """How long the model took for a batch, as a distribution, and for a record."""
    from mlstream.runs.latency import bars, percentiles_ms

    table = plain_table("~version", ">p50", ">p95", ">p99", ">p99.9", ">most", "batches", ">record µs")
    table.padding = (0, 1, 0, 0)
    for outcome in found.versions.values():
        latency, of_record = outcome.latency, outcome.record_latency
        if latency is None or not latency.histogram:
            continue
        counts = bars(latency, _BAR_COUNT)
        most = max(counts)
        drawn = "".join(_BARS[-(-count * (len(_BARS) - 1) // most) if most else 0] for count in counts)
        table.add_row(
            outcome.name,
            *(brief(value) for value in percentiles_ms(latency, _PERCENTS)),
            f"{drawn} {latency.batches:,}",
            "–"
            if of_record is None
            else "/".join(brief(value) for value in (of_record.p50_us, of_record.p95_us, of_record.p99_us)),
        )
    if table.row_count:
        rows = found.settings["batch_rows"]
        session.out.print(
            f"\nthe model's time: ms for a batch of {rows:,} (bars: from shortest to longest),\n"
            "µs for a record (p50/p95/p99)"
        )
        session.out.print(table)

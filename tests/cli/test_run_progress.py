"""What a person sees while a run goes on: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from mlstream.cli.context import Session
from mlstream.cli.runs.progress import Row, brief, clock, line_of, short, shown_progress, table_of
from mlstream.runs.attempt import Progress
from mlstream.runs.latency import Recorder
from mlstream.runs.spec import Figures

TOTAL = 2_000_000


def figures(batch_s: float = 0.0123, cpu_s: float = 12.34, memory: int = 312_000_000) -> Figures:
    recorder = Recorder()
    for number in range(100):
        recorder.add(batch_s * (1 + number / 100), 10_000)
    return Figures(recorder.latency(), recorder.record_latency(), cpu_s, memory)


def scoring(rows: int, version: str = "v1", **more: object) -> Progress:
    return replace(Progress("scoring", version, rows, TOTAL, run_id="a" * 64), **more)  # type: ignore[arg-type]


def drawn(*rows: Row, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(table_of({row.name: row for row in rows}, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def running(name: str = "v1") -> Row:
    """Half of the records, at 50,000 a second."""
    row = Row(name, TOTAL, scoring(0, name))
    for second in range(21):
        row.take(scoring(50_000 * second, name, figures=figures()), float(second))
    return row


def test_a_row_shows_records_rate_latencies_cpu_memory_errors_and_time_left_in_80_columns() -> None:
    lines = drawn(running())
    assert " ".join(lines[0].split()) == "version state records /s batch ms record µs CPU s mem err left"
    assert lines[1].split() == ["v1", "running", "1.00M", "50.0k", "18/24/24", "1.8/2.4/2.4", "12", "312M", "0", "0:20"]
    assert all(len(line) <= 80 for line in lines)


def test_long_names_and_large_figures_still_fit() -> None:
    row = running("gradient-boosting-with-a-very-long-name")
    large = figures(batch_s=3.5, cpu_s=12_345.6, memory=12_300_000_000)
    row.take(scoring(1_999_000, row.name, figures=large, errors=999), 21.0)
    lines = drawn(row, running("v2"))
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split()[2:6] == ["2.00M", "145k", "5218/6791/6930", "522/679/693"]
    assert lines[1].startswith("gradi")
    assert "999" in lines[1]
    assert "12.3G" in lines[1]


def test_the_rate_is_that_of_the_last_seconds_and_a_stop_leaves_no_time() -> None:
    row = Row("v1", TOTAL, scoring(0))
    assert (row.rate, row.left_s) == (None, None)
    row.take(scoring(1000), 0.0)
    assert row.rate is None
    for second in range(1, 31):
        row.take(scoring(1000 + (100 * second if second <= 15 else 1500 + 1000 * (second - 15))), float(second))
    assert row.rate == pytest.approx(1000)
    assert row.left_s == pytest.approx((TOTAL - 17_500) / 1000)
    for second in range(31, 50):
        row.take(scoring(17_500), float(second))
    assert (row.rate, row.left_s) == (None, None)


def test_what_a_run_that_was_cut_off_had_done_is_no_part_of_the_rate() -> None:
    row = Row("v1", TOTAL, scoring(0))
    row.take(scoring(500_000, resumed=500_000), 0.0)
    row.take(scoring(1_000_000, resumed=1_000_000), 0.01)  # another partition
    row.take(scoring(1_010_000, resumed=1_000_000), 1.0)
    assert row.rate == pytest.approx(10_000)
    assert row.left_s == pytest.approx(99)


def test_states_are_named_and_a_version_that_fails_keeps_its_figures() -> None:
    row = Row("v1", TOTAL, scoring(0, state="loading"))
    assert row.state == "loading"
    row.take(scoring(5000, figures=figures()), 1.0)
    assert row.state == "running"
    row.take(scoring(0, state="failed"), 2.0)
    assert (row.state, row.progress.rows) == ("failed", 5000)
    assert drawn(row)[1].split()[:5] == ["v1", "failed", "5.00k", "18/24/24", "1.8/2.4/2.4"]
    row = running()
    row.take(replace(scoring(TOTAL), stage="freezing"), 30.0)
    assert (row.state, row.left_s) == ("freezing", None)
    row.take(replace(scoring(TOTAL), stage="freezing", state="done"), 31.0)
    assert row.state == "done"


def test_on_a_terminal_the_table_is_drawn_and_taken_away_again() -> None:
    session = Session()
    file = io.StringIO()
    session.err = Console(width=80, file=file, force_terminal=True, color_system=None)
    with shown_progress(session) as listen:
        listen(Progress("decoding", total=TOTAL))
        listen(scoring(0, state="loading"))
        listen(scoring(1000, figures=figures()))
        listen(Progress("reused", rows=3, total=3, state="done", run_id="b" * 64))
    text = file.getvalue()
    assert "version" in text
    assert "running" in text
    assert "the same run was computed before (bbbbbbbbbbbb); --force computes it again" in text
    assert "input" not in text.split("running")[-1]


def test_elsewhere_each_step_is_a_line_that_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(Session()) as listen:
        for progress in (
            Progress("building", "v2"),
            Progress("decoding", total=TOTAL),
            scoring(0, state="loading"),
            scoring(1000),
            scoring(2000),
            replace(scoring(TOTAL, figures=figures(), errors=2), stage="freezing"),
            replace(scoring(TOTAL, figures=figures(), errors=2), stage="freezing", state="done"),
            scoring(0, "v2", state="failed"),
            scoring(0, "v2", state="failed"),
        ):
            listen(progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "v2: building its environment",
        "decoding 2,000,000 records",
        "v1: loading",
        "v1: 2,000,000 records, freezing",
        "v1: done, 2 errors, CPU 12 s, 312MB",
        "  p50/p95/p99 18/24/24 ms a batch and 1.8/2.4/2.4 µs a record",
        "v2: failed",
    ]
    assert line_of(scoring(5)) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999.4, "999"), (999.6, "1.00k"), (12_345, "12.3k"), (312e6, "312M"), (999.7e6, "1.00G")],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (0.04, "0.04"), (0.0951, "0.1"), (1.26, "1.3"), (9.96, "10"), (345.6, "346")]
)
def test_figures_are_brief(value: float, text: str) -> None:
    assert brief(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (11_100, "3h05")])
def test_time_left_is_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text

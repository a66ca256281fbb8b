"""How long a model takes, of a batch and of a record: over one process or several, and as reports carry it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from mlstream.runs.combining import errors_of, figures_of, with_figures
from mlstream.runs.latency import Recorder, bars, merged, merged_records, percentiles_ms
from mlstream.runs.machine import family_usage
from mlstream.runs.spec import Figures, Measured, Report


def recorded(*batches: tuple[float, int]) -> Recorder:
    recorder = Recorder()
    for seconds, rows in batches:
        recorder.add(seconds, rows)
    return recorder


def of(recorder: Recorder, cpu_s: float = 1.0, memory: int = 100) -> Figures:
    return Figures(recorder.latency(), recorder.record_latency(), cpu_s, memory)


def test_percentiles_are_those_of_numpy_within_three_digits() -> None:
    times = np.random.default_rng(7).lognormal(-5, 1, 5000)
    latency = recorded(*((float(seconds), 100) for seconds in times)).latency()
    expected = np.percentile(times, [50, 95, 99], method="inverted_cdf") * 1000
    assert [latency.p50_ms, latency.p95_ms, latency.p99_ms] == pytest.approx(expected, rel=2e-3)
    assert percentiles_ms(latency, [50, 100]) == pytest.approx([expected[0], times.max() * 1000], rel=2e-3)
    assert latency.batches == 5000


def test_a_record_takes_its_share_of_its_batch_and_counts_as_often_as_there_are_records() -> None:
    found = recorded((0.010, 1000), (0.004, 100)).record_latency()
    assert found.records == 1100
    assert found.p50_us == pytest.approx(10, rel=1e-3)  # of 1,000 records
    assert found.p95_us == pytest.approx(40, rel=1e-3)  # of the other 100
    assert recorded((0.010, 0)).record_latency().records == 0


def test_processes_merge_to_what_one_would_have_seen() -> None:
    first, second = [(0.001 * n, 10) for n in range(1, 50)], [(0.002 * n, 20) for n in range(1, 80)]
    one, two, both = recorded(*first), recorded(*second), recorded(*first, *second)
    assert merged([one.latency(), two.latency()]) == both.latency()
    assert merged_records([one.record_latency(), two.record_latency()]) == both.record_latency()


def test_bars_count_every_batch_from_the_shortest_to_the_longest() -> None:
    latency = recorded(*[(0.001, 1)] * 5, *[(0.03, 1)] * 3, (1.0, 1)).latency()
    assert bars(latency, 3) == [5, 3, 1]
    assert bars(recorded((0.001, 1)).latency(), 3) == [1, 0, 0]
    assert bars(Recorder().latency(), 3) == [0, 0, 0]


def test_a_report_carries_figures_over_the_pipe_and_may_lack_them() -> None:
    report = Report("rows", rows=5, errors=2, figures=of(recorded((0.01, 100))))
    assert Report.from_line(report.to_line()) == report
    measured = Measured(5, 0.1, 0.2, 0.1, 0.3, 7, report.figures.latency, report.figures.record_latency)  # type: ignore[union-attr]
    done = Report("done", rows=5, measured=measured)
    assert Report.from_line(done.to_line()) == done


def test_what_was_measured_before_records_were_is_still_read() -> None:
    measured = Measured(5, 0.1, 0.2, 0.1, 0.3, 7, recorded((0.01, 100)).latency())
    old = json.loads(json.dumps(asdict(measured)))
    del old["record_latency"]
    assert Measured.from_dict(old) == measured


def test_figures_are_kept_until_newer_ones_come_and_add_up_over_workers() -> None:
    one, two = of(recorded((0.01, 100)), 1.0, 100), of(recorded((0.03, 100)), 2.5, 50)
    first = with_figures(Report("rows", rows=1, figures=one), None)
    later = with_figures(Report("rows", rows=2), first)
    assert later.figures == one
    assert figures_of([later]) == one
    other = Report("rows", rows=7, figures=two, errors=3)
    assert figures_of([Report("loaded"), other]) == two
    both = figures_of([later, other])
    assert both is not None
    assert (both.cpu_seconds, both.memory_bytes, both.latency.batches) == (3.5, 150, 2)
    assert errors_of([later, other]) == 3
    assert figures_of([Report("loaded")]) is None
    measured = Measured(9, 0.1, 0.2, 0.1, 4.0, 70, two.latency, two.record_latency)
    done = with_figures(Report("done", rows=9, measured=measured), later)
    assert done.figures == replace(two, cpu_seconds=4.0, memory_bytes=70)


def test_usage_counts_the_processes_that_were_started() -> None:
    code = "import time; data = b'x' * (64 << 20); end = time.process_time() + 0.5\n"
    code += "while time.process_time() < end: pass\nprint(flush=True); time.sleep(60)"
    seconds, resident = family_usage()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            more_seconds, more_resident = family_usage()
        finally:
            child.kill()
    assert more_seconds - seconds >= 0.4
    assert more_resident - resident > 32 << 20
    began = time.monotonic()
    family_usage()
    assert time.monotonic() - began < 5

"""`mlstream compare`: one screen that tells which, by how much and how sure; one JSON object; errors with a fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlstream.broker.connection import Connection
from mlstream.cli.compare_screen import screen
from mlstream.comparison.compare import Evidence, Origin, compare_predictions
from mlstream.comparison.result import Comparison
from mlstream.home import Home
from mlstream.runs.record import write_record
from tests.comparison.project import Project, copy_project, make_project
from tests.comparison.streams import Stream, binary, experiment, regression

STREAM = Stream(ticks=800, partitions=2, memory=0.3, shock=0.2)


@pytest.fixture
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory, home: Home) -> Project:
    """The project, its store copied to the test's home."""
    made = make_project(broker, tmp_path_factory.mktemp("compare"))
    return copy_project(made, home)


def compared(evidence: Evidence, task: str = "binary", **changes: Any) -> Comparison:
    allow = bool(changes.pop("allow_missing", False))
    config = experiment(task, question="Is it late?", bootstrap={"resamples": 200}, **changes)
    origin = Origin(run_id="1234" * 16, snapshot_id="abcd" * 16, snapshot_name="q4")
    return compare_predictions(config, evidence, origin=origin, allow_missing=allow)


def shown(found: Comparison, width: int = 80) -> list[str]:
    return [line.plain for line in screen(found, width=width)]


@pytest.mark.broker
def test_the_screen_answers_which_by_how_much_and_how_sure(cli: Callable[..., Any], project: Project) -> None:
    done = cli("compare", "--no-track")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    assert "  Will this parcel arrive late?" in lines
    assert "  v2 is better than v1 on all 6 metrics" in lines
    assert "  v3 is equivalent to v1 on all 6 metrics" in lines
    assert lines.index("  v2 is better than v1 on all 6 metrics") < lines.index(
        "  v3 is equivalent to v1 on all 6 metrics"
    )
    assert any(line.startswith("  (95 % paired block bootstrap, ") for line in lines)
    assert "  coverage   all 3,000 records answered once by v1, v2 and v3" in lines
    assert "63 without (lost parcels never" in done.stdout
    assert sum("▲ better" in line for line in lines) == sum("≈ equivalent" in line for line in lines) == 6
    assert f"  snapshot   parcels {project.done.snapshot_id[:12]}" in lines
    assert f"  run        {project.done.id[:12]}" in lines


@pytest.mark.broker
def test_json_is_one_object_with_everything(cli: Callable[..., Any], project: Project) -> None:
    done = cli("compare", project.done.id[:8], "--baseline", "v2", "--no-track", "--json")
    assert done.exit_code == 0, done.stderr
    found = done.json
    assert found.pop("tracking") is None
    comparison = Comparison.from_dict(found)
    assert comparison.baseline == "v2"
    assert {delta.verdict for delta in comparison.deltas} == {"worse"}
    assert (project.home.comparisons / f"{comparison.id}.json").is_file()


@pytest.mark.broker
def test_a_comparison_is_recorded_in_mlflow(cli: Callable[..., Any], project: Project) -> None:
    done = cli("compare", "--json")
    assert done.exit_code == 0, done.stderr
    tracking = done.json["tracking"]
    assert set(tracking) == {"experiment_id", "run_id", "url"}
    again = cli("compare")
    assert f"MLflow     recorded as run {tracking['run_id'][:12]}; `mlstream ui` opens it" in again.stdout


@pytest.mark.broker
def test_conditions_and_gates_decide_the_exit_code_after_the_result(cli: Callable[..., Any], project: Project) -> None:
    worse = cli("compare", "--baseline", "v2", "--no-track", "--fail-if", "log_loss:worse")
    assert worse.exit_code == 3
    assert "v1 is worse than v2 on all 6 metrics" in worse.stdout
    assert "error: 2 gates failed\n  ✗ v1: Log loss not worse than v2: worse (+" in worse.stderr
    assert cli("compare", "--no-track", "--fail-if", "worse").exit_code == 0
    gates = [
        {"metric": "accuracy", "against": "v1", "no_worse_than": 0.005},
        {"metric": "accuracy", "version": "v3", "better_by": 0, "require": "verdict"},
    ]
    record = project.done.to_dict()
    write_record(project.home, record | {"config": record["config"] | {"gates": gates}})
    done = cli("compare", "--as-run", "--no-track", "--json")
    assert done.exit_code == 3
    assert [(gate["version"], gate["status"]) for gate in done.json["gates"]] == [
        ("v2", "passed"),
        ("v3", "passed"),
        ("v3", "failed"),
    ]


@pytest.mark.broker
@pytest.mark.parametrize("as_json", [False, True])
def test_a_dead_tracking_server_is_an_error_after_the_result(
    cli: Callable[..., Any], project: Project, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = cli("compare", *(["--json"] if as_json else []))
    assert done.exit_code == 1
    assert "the comparison is kept as" in done.stderr
    if as_json:
        assert done.json["tracking"] is None
    else:
        assert "v2 is better than v1" in done.stdout


@pytest.mark.broker
@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        (["compare", "eeee"], 1, "no run 'eeee'"),
        (["compare", "--baseline", "v9"], 2, "baseline 'v9' is not among the versions of the run"),
        (["compare", "ffff"], 1, "run ffffffffffff of"),
        (["compare", "--frobnicate"], 2, "No such option"),
    ],
)
def test_errors_go_to_stderr_with_their_exit_code(
    cli: Callable[..., Any], project: Project, args: list[str], exit_code: int, message: str
) -> None:
    write_record(project.home, project.done.to_dict() | {"id": "f" * 64, "status": "incomplete", "started_at": "0"})
    done = cli(*args)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert message in done.stderr


def test_no_runs_is_an_error_with_the_fix(bare_cli: Callable[..., Any]) -> None:
    done = bare_cli("compare")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "mlstream run CONFIG --snapshot NAME" in done.stderr


def test_every_line_fits_and_tells_the_verdict_without_colour() -> None:
    evidence = binary(STREAM, np.random.default_rng(1), edge=0.2)
    found = compared(evidence, margins={"accuracy": 0.01, "roc_auc": 0.2})
    for width in (80, 100, 120):
        lines = shown(found, width)
        assert max(map(len, lines)) <= width
    words = [line.split()[-1] for line in shown(found) if line.startswith("    v2")]
    assert words == [delta.verdict for delta in found.deltas]
    assert any("┊ marks the margin" in line for line in shown(found))


def test_wide_screens_show_corrected_p_values() -> None:
    found = compared(binary(STREAM, np.random.default_rng(1), edge=0.2))
    assert "p (Holm)" not in "\n".join(shown(found, 80))
    wide = shown(found, 110)
    assert any("p (Holm)" in line for line in wide)
    assert any(f"{found.deltas[0].p_adjusted:.4f}" in line for line in wide)


def test_the_plot_has_zero_in_the_middle_and_the_difference_on_its_side() -> None:
    found = compared(regression(STREAM, np.random.default_rng(1), factor=1.5), "regression", metrics=["mae", "r2"])
    mae, r2 = (line for line in shown(found) if line.startswith("    v2"))
    assert mae.index("│") < mae.index("●")
    assert r2.index("●") < r2.index("│")
    assert mae.index("│") == r2.index("│")
    assert "▼ worse" in mae
    assert "▼ worse" in r2


def test_why_something_is_inconclusive_or_undefined_is_said_once() -> None:
    evidence = binary(STREAM, np.random.default_rng(1))
    hard = {
        name: frame.select(pl.exclude("score"), prediction=pl.col("score") > 0.5)
        for name, frame in evidence.predictions.items()
    }
    lines = shown(compared(Evidence(evidence.records, evidence.predictions | {"v2": hard["v2"]})))
    text = " ".join(" ".join(lines).split())
    assert text.count("v2 gives no scores") == 1
    assert "? v2 on Log loss, Brier score, ROC AUC and Average precision: v2 gives no scores" in text
    assert text.count("undefined") == 4
    assert "McNemar's test on accuracy, if records were independent: v2 p = " in text


def test_too_few_blocks_are_told() -> None:
    found = compared(binary(Stream(40, 1), np.random.default_rng(1)), metrics=["accuracy"])
    text = " ".join(" ".join(shown(found)).split())
    assert "v2 is inconclusive on its one metric" in text
    assert "blocks; 30 are needed: freeze a longer range" in text


def test_a_comparison_over_missing_records_says_what_it_was_computed_on() -> None:
    evidence = binary(STREAM, np.random.default_rng(1))
    short = Evidence(evidence.records, evidence.predictions | {"v2": evidence.predictions["v2"][25:]})
    lines = shown(compared(short, allow_missing=True))
    assert "  coverage   all 1,600 records answered once by v1; v2: 25 missing of 1,600" in lines
    assert "             computed on the 1,575 records that every version answered exactly" in lines


def test_without_labels_the_screen_tells_the_agreement() -> None:
    found = compared(binary(STREAM, np.random.default_rng(1)), labels=None)
    lines = shown(found)
    assert "  labels     none: the versions are compared with each other only" in lines
    assert any(line.startswith("  agreement  v2 gives v1's answer on ") for line in lines)
    assert not any("verdict" in line for line in lines)


def test_long_names_give_way_before_figures_do() -> None:
    evidence = binary(STREAM, np.random.default_rng(1))
    names = {"v1": "the-rule-of-last-summer", "v2": "gradient-boosting-with-weather"}
    renamed = Evidence(evidence.records, {names[name]: frame for name, frame in evidence.predictions.items()})
    versions = {name: {"model": "a.py:f"} for name in names.values()}
    lines = shown(compared(renamed, versions=versions))
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.endswith(("better", "worse", "equivalent", "inconclusive"))]
    assert len(rows) == 6
    assert all("…" in row and " to " in row for row in rows)


def test_one_version_alone_has_figures_and_no_verdict() -> None:
    evidence = binary(STREAM, np.random.default_rng(1))
    alone = Evidence(evidence.records, {"v1": evidence.predictions["v1"]})
    found = compared(alone, versions={"v1": {"model": "a.py:f"}})
    lines = shown(found)
    assert "  v1 alone: there is nothing to compare it with" in lines
    assert not any("verdict" in line or "baseline" in line for line in lines)
    own = found.metric("v1", "accuracy").interval
    assert own is not None
    assert lines[lines.index("  Accuracy ↑") + 1].endswith(f"{own.low:.4f} to {own.high:.4f}")

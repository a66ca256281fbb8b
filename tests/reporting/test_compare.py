"""A run on a real broker becomes a comparison: read, kept, found again, refused when it is not whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import mlstream
from mlstream.broker.connection import Connection
from mlstream.errors import (
    ComparisonError,
    CoverageError,
    LabelError,
    RunIncomplete,
    StoreError,
    TrackingError,
    UnknownRun,
    UsageError,
)
from mlstream.home import Home
from mlstream.reporting.compare import compare
from mlstream.reporting.kept import list_comparisons, open_comparison
from mlstream.runs.record import write_record
from tests.comparison.project import LOST, ROWS, VERSIONS, Project, make_project

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(broker, tmp_path_factory.mktemp("compare"))


@pytest.fixture
def copied(project: Project, tmp_path: Path) -> Project:
    """The project with a home of the test's own."""
    home = Home(tmp_path / "home")
    shutil.copytree(project.home.path, home.path)
    shutil.rmtree(home.comparisons, ignore_errors=True)
    return replace(project, home=home, done=mlstream.open_run(project.done.id, home=home))


def test_the_figures_are_those_of_the_predictions_and_the_labels_that_are_due(project: Project) -> None:
    found = compare(project.done, track=False)
    assert (found.run_id, found.snapshot_id, found.snapshot_name) == (
        project.done.id,
        project.done.snapshot_id,
        "parcels",
    )
    assert found.outputs == {name: outcome.output_id for name, outcome in project.done.versions.items()}
    assert found.paired == ROWS
    # The last label came a minute before hour 48 (the next parcel is a lost one): due is what was sent 6 hours earlier.
    due = np.arange(ROWS) < (48 - 6) * 60
    lost = np.arange(ROWS) % LOST == 0
    assert found.labels is not None
    assert found.labels.not_yet_due == (~due).sum()
    assert found.labels.missing == (due & lost).sum()
    assert found.labels.reason == "lost parcels never arrive"
    kept = due & ~lost
    assert found.labels.labelled == kept.sum()
    assert found.labels.positives == project.late[kept].sum()
    records = project.done.snapshot.scan(project.topics[0], decode=project.done.config.input.decode).collect()
    score = np.empty(ROWS)
    score[records["parcel"].to_numpy()] = project.done.predictions("v2").collect()["score"].to_numpy()
    assert found.metric("v2", "roc_auc").value == pytest.approx(
        roc_auc_score(project.late[kept], score[kept]), abs=1e-9
    )
    assert found.metric("v2", "accuracy").value == pytest.approx(
        accuracy_score(project.late[kept], score[kept] >= 0.5), abs=1e-9
    )


def test_what_is_better_is_found_and_what_is_the_same_is_not(project: Project) -> None:
    found = compare(project.done, track=False)
    assert {delta.verdict for delta in found.deltas if delta.version == "v2"} == {"better"}
    assert {delta.verdict for delta in found.deltas if delta.version == "v3"} == {"equivalent"}
    assert found.agreement["v3"] == 1.0


def test_a_comparison_is_kept_and_found_again(copied: Project) -> None:
    first = compare(copied.done, track=False)
    second = compare(copied.done, baseline="v2", track=False)
    assert first.id != second.id
    os.utime(copied.home.comparisons / f"{first.id}.json", (1, 1))
    assert open_comparison(home=copied.home) == second
    assert open_comparison(first.id[:12], home=copied.home) == first
    assert list_comparisons(copied.home) == [second, first]
    assert compare(copied.done, track=False) == first
    assert sorted(path.name for path in copied.home.comparisons.iterdir()) == sorted(
        f"{found.id}.json" for found in (first, second)
    )


def test_comparisons_that_are_not_there_are_named(copied: Project) -> None:
    with pytest.raises(ComparisonError, match="no comparisons in"):
        open_comparison(home=copied.home)
    found = compare(copied.done, track=False)
    with pytest.raises(ComparisonError, match="no comparison 'zz'"):
        open_comparison("zz", home=copied.home)
    path = copied.home.comparisons / f"{found.id}.json"
    whole = json.loads(path.read_text())
    for text, why in (
        ("{}", "it lacks 'format'"),
        ("{", "Expecting property name"),
        (json.dumps(whole | {"format": 2}), "it was written by another version of mlstream"),
        (json.dumps(whole | {"metrics": 5}), "'int' object is not iterable"),
        (json.dumps(whole | {"settings": {}}), "it lacks 'confidence'"),
    ):
        path.write_text(text)
        with pytest.raises(ComparisonError, match=rf"cannot be read: {why}.*remove the file and compare again"):
            open_comparison(found.id, home=copied.home)
    (copied.home.comparisons / f"{'0' * 64}.json").write_text("")
    with pytest.raises(
        ComparisonError, match=r"2 comparisons cannot be read\n(?s:.*)it lacks(?s:.*); remove the files"
    ):
        list_comparisons(copied.home)


def test_the_newest_complete_run_is_the_default(copied: Project) -> None:
    older = copied.done
    cut_off = older.to_dict() | {"id": "f" * 64, "status": "incomplete", "started_at": "2999-01-01T00:00:00Z"}
    write_record(copied.home, cut_off)
    assert mlstream.compare(home=copied.home, track=False).run_id == older.id
    with pytest.raises(RunIncomplete, match=r"run ffffffffffff of .* was cut off; run it again"):
        compare("ffff", home=copied.home, track=False)


def test_without_any_complete_run_the_newest_one_is_what_the_error_is_about(copied: Project) -> None:
    write_record(copied.home, copied.done.to_dict() | {"status": "incomplete"})
    with pytest.raises(RunIncomplete, match="was cut off"):
        compare(home=copied.home, track=False)


def test_without_runs_the_error_says_how_to_make_one(home: Home) -> None:
    with pytest.raises(UnknownRun, match="mlstream run CONFIG --snapshot NAME"):
        compare(home=home, track=False)


def test_a_run_with_a_failed_version_is_refused_unless_what_is_there_is_asked_for(copied: Project) -> None:
    failing = {**VERSIONS, "v3": {"model": "guess.py:Guess", "parameters": {"fails": True}}}
    partial = copied.run(failing)
    assert partial.status == "partial"
    with pytest.raises(RunIncomplete, match=r"is partial: v3 failed; .*--allow-missing"):
        compare(partial, track=False)
    found = compare(partial, allow_missing=True, track=False)
    assert found.versions == ("v1", "v2")
    assert found.settings["left_out"] == ["v3"]
    with pytest.raises(RunIncomplete, match=r"the baseline v3 failed.*choose another with --baseline: v1, v2"):
        compare(partial, baseline="v3", allow_missing=True, track=False)
    with pytest.raises(UsageError, match="baseline 'v9' is not among the versions"):
        compare(partial, baseline="v9", allow_missing=True, track=False)


def test_a_run_whose_versions_all_failed_has_nothing_to_compare(copied: Project) -> None:
    failed = copied.run({"v1": {"model": "guess.py:Guess", "parameters": {"fails": True}}})
    with pytest.raises(RunIncomplete, match="every version failed"):
        compare(failed, allow_missing=True, track=False)


def test_due_parcels_without_a_label_are_refused_when_the_experiment_says_so(copied: Project) -> None:
    rule = copied.done.config.labels
    assert rule is not None
    strict = copied.done.config.model_copy(update={"labels": rule.model_copy(update={"missing": "refuse"})})
    with pytest.raises(LabelError, match="63 of 3,000 records are due and have no label"):
        compare(replace(copied.done, config=strict), track=False)
    assert list_comparisons(copied.home) == []


def test_a_label_topic_that_was_not_frozen_is_named(copied: Project) -> None:
    rule = copied.done.config.labels
    assert rule is not None
    lacking = copied.done.config.model_copy(update={"labels": rule.model_copy(update={"topic": "landings"})})
    with pytest.raises(LabelError, match=r"snapshot parcels holds no topic 'landings'.*freeze both together"):
        compare(replace(copied.done, config=lacking), track=False)


def test_a_misspelt_column_is_named_with_a_near_one(copied: Project) -> None:
    rule = copied.done.config.labels
    assert rule is not None
    wrong = copied.done.config.model_copy(update={"labels": rule.model_copy(update={"value": "dely > 0"})})
    with pytest.raises(LabelError, match=r"a label of .* has no column 'dely'; did you mean 'delay'\?"):
        compare(replace(copied.done, config=wrong), track=False)


def test_predictions_for_another_topic_are_refused(copied: Project) -> None:
    elsewhere = replace(copied.done, input=replace(copied.done.input, topic="elsewhere"))
    with pytest.raises(CoverageError, match=r"v1: its predictions are for parcels-.*, and the run scored elsewhere"):
        compare(elsewhere, track=False)


def test_without_labels_the_versions_are_compared_with_each_other(copied: Project) -> None:
    bare = copied.done.config.model_copy(update={"labels": None})
    found = compare(replace(copied.done, config=bare), track=False)
    assert found.metrics == ()
    assert 0.5 < found.agreement["v2"] < 1.0


def test_a_dead_tracking_server_loses_no_comparison(copied: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        TrackingError, match=r"the comparison is kept as [0-9a-f]{12} in .*compare --sync` sends it later"
    ) as caught:
        compare(copied.done)
    assert open_comparison(caught.value.comparison_id, home=copied.home).run_id == copied.done.id


def test_a_home_that_cannot_be_written_is_an_error(copied: Project) -> None:
    copied.home.comparisons.write_text("in the way")
    with pytest.raises(StoreError, match="the comparison cannot be written"):
        compare(copied.done, track=False)


def test_progress_says_what_is_being_done(copied: Project) -> None:
    said: list[str] = []
    compare(copied.done, track=False, progress=said.append)
    assert said == ["reading 3,000 records and the predictions of v1, v2, v3", "comparing"]


def test_the_file_of_a_comparison_is_json_that_a_reader_without_mlstream_understands(copied: Project) -> None:
    found = compare(copied.done, track=False)
    kept = json.loads((copied.home.comparisons / f"{found.id}.json").read_bytes())
    assert kept["format"] == 1
    assert kept["deltas"][0]["verdict"] == "better"
    assert {name: value for name, value in kept.items() if name != "format"} == json.loads(json.dumps(found.to_dict()))

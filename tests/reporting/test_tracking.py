"""A comparison in a local MLflow store, read back with MLflow's own client and with SQL."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from mlstream.comparison.result import Comparison
from mlstream.errors import TrackingError
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.reporting.tracking import newest, shown_uri, track, tracking_uri
from tests.reporting.conftest import Recorded
from tests.reporting.examples import VERSIONS, digest, example_comparison, example_run

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.reporting.conftest import Reader

PROJECT = Path(__file__).parents[2]


def rows(home: Home, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home.path / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def active_runs(home: Home) -> int:
    return int(rows(home, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'")[0][0])


def get(reader: Reader, recorded: Recorded, version: str | None = None) -> Run:
    ids = recorded.tracked.child_run_ids
    with reader(recorded.home.mlflow_uri) as client:
        return client.get_run(recorded.tracked.run_id if version is None else ids[version])


def in_a_process(code: str, *, home: Home, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, without what tells MLflow that it is in a test."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTEST", "CI"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**kept, "MLSTREAM_HOME": str(home.path), **environ},
    )


TRACK = """
from mlstream.home import find_home
from mlstream.reporting.tracking import track
from tests.reporting.examples import example_comparison, example_run

"""


# What is written


def test_a_comparison_is_a_parent_run_with_a_child_for_each_version(reader: Reader, recorded: Recorded) -> None:
    parent = get(reader, recorded)
    assert parent.info.run_name == "v1 · v2 · v3 on flights-q4"
    assert parent.info.status == "FINISHED"
    assert tuple(recorded.tracked.child_run_ids) == VERSIONS
    for version in VERSIONS:
        child = get(reader, recorded, version)
        assert child.info.run_name == version
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert active_runs(recorded.home) == 4
    with reader(recorded.home.mlflow_uri) as client:
        experiment = client.get_experiment(recorded.tracked.experiment_id)
    assert experiment.name == "flights"
    assert experiment.artifact_location == recorded.home.mlflow_artifacts.as_uri()


def test_the_snapshot_is_the_dataset_of_every_run_under_its_digest(reader: Reader, recorded: Recorded) -> None:
    for run in (get(reader, recorded), *(get(reader, recorded, version) for version in VERSIONS)):
        (found,) = run.inputs.dataset_inputs
        assert found.dataset.name == "flights-q4"
        assert found.dataset.digest == digest("snapshot")[:32]
        assert {tag.key: tag.value for tag in found.tags} == {
            "mlflow.data.context": "evaluation",
            "mlstream.snapshot": digest("snapshot"),
        }
    source, profile, schema = rows(
        recorded.home, "SELECT dataset_source, dataset_profile, dataset_schema FROM datasets"
    )[0]
    assert json.loads(source)["snapshot"] == digest("snapshot")
    assert json.loads(source)["streams"]["flights"]["3"] == [62003, 83000]
    assert json.loads(profile) == {
        "num_rows": 163928,
        "size_bytes": 14812003,
        "num_partitions": 8,
        "num_topics": 2,
    }
    assert {"name": "flight", "type": "long", "required": False} in json.loads(schema)["mlflow_colspec"]


def test_mlflow_gives_the_dataset_back_as_a_source_that_opens_the_snapshot(
    reader: Reader, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.data

    import mlstream

    source = mlflow.data.get_source(get(reader, recorded).inputs.dataset_inputs[0])
    assert source.to_dict()["name"] == "flights-q4"
    asked: list[str] = []
    monkeypatch.setattr(mlstream, "open_snapshot", asked.append, raising=False)
    source.load()
    assert asked == [digest("snapshot")]


def test_every_figure_of_the_comparison_is_a_metric_to_the_last_bit(reader: Reader, recorded: Recorded) -> None:
    comparison = example_comparison()
    parent = get(reader, recorded).data.metrics
    for found in comparison.metrics:
        child = get(reader, recorded, found.version).data.metrics
        assert found.interval is not None
        assert parent[f"{found.metric}/{found.version}"] == found.value
        assert child[found.metric] == found.value
        assert (child[f"{found.metric}.low"], child[f"{found.metric}.high"]) == (
            found.interval.low,
            found.interval.high,
        )
    for delta in comparison.deltas:
        child = get(reader, recorded, delta.version).data.metrics
        name = f"delta.{delta.metric}"
        assert delta.interval is not None
        assert child[name] == delta.delta
        assert child[f"{name}.low"] == delta.interval.low
        assert child[f"{name}.high"] == delta.interval.high
        assert child[f"{name}.p_adjusted"] == delta.p_adjusted
    assert not any(name.startswith("delta") for name in get(reader, recorded, "v1").data.metrics)
    assert get(reader, recorded, "v3").data.metrics["run/latency_p99_ms"] == 26.2
    assert get(reader, recorded, "v3").data.metrics["coverage/predictions"] == 82732


def test_parameters_say_what_was_chosen(reader: Reader, recorded: Recorded) -> None:
    parent = get(reader, recorded).data.params
    assert parent["baseline"] == "v1"
    assert parent["versions"] == "v1, v2, v3"
    assert (parent["confidence"], parent["resamples"], parent["seed"]) == ("0.95", "2000", "0")
    child = get(reader, recorded, "v2").data.params
    assert child["role"] == "challenger"
    assert child["model"] == "models/flights-v2.skops"
    assert child["features"] == "7"
    assert (child["parameters.C"], child["parameters.max_iter"]) == ("0.5", "500")


def test_tags_hold_the_digests_the_verdicts_and_the_commit(reader: Reader, recorded: Recorded) -> None:
    parent = get(reader, recorded).data.tags
    assert parent["mlstream.status"] == "completed"
    assert parent["mlstream.comparison"] == digest("comparison")
    assert parent["mlstream.run"] == digest("run")
    assert parent["mlstream.snapshot"] == digest("snapshot")
    assert parent["mlstream.verdict.v2"] == "better 3, equivalent 1, inconclusive 2"
    assert parent["mlflow.source.git.commit"] == "3fa27000c0ffee00c0ffee00c0ffee00c0ffee00"
    child = get(reader, recorded, "v2").data.tags
    assert child["mlstream.digest"] == digest("version v2")
    assert child["mlstream.digest.weights"] == digest("weights v2")
    assert child["mlstream.output"] == digest("output v2")
    assert child["mlstream.verdict.accuracy"] == "equivalent"
    assert child["mlstream.verdict.roc_auc"] == "better"


def test_the_page_says_the_verdict_and_links_to_the_versions(reader: Reader, recorded: Recorded) -> None:
    note = get(reader, recorded).data.tags["mlflow.note.content"]
    assert "v3 is better than v1 on all 6 metrics." in note
    assert digest("snapshot") in note
    assert f"mlstream compare {digest('run')[:12]} --baseline v1" in note
    assert f"get-artifact?path=chart.svg&run_uuid={recorded.tracked.run_id}" in note
    for run_id in recorded.tracked.child_run_ids.values():
        assert f"(#/experiments/{recorded.tracked.experiment_id}/runs/{run_id}?" in note


def test_the_artifacts_are_whole_files_of_their_kind(reader: Reader, recorded: Recorded, tmp_path: Path) -> None:
    with reader(recorded.home.mlflow_uri) as client:
        folder = Path(client.download_artifacts(recorded.tracked.run_id, "", str(tmp_path)))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"chart.png", "chart.svg", "comparison.json", "config.json", "environment/requirements.txt"}
    with Image.open(folder / "chart.png") as picture:
        picture.load()
        assert picture.width == 1800
    assert ElementTree.parse(folder / "chart.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert Comparison.from_dict(written) == example_comparison()
    requirements = (folder / "environment/requirements.txt").read_text(encoding="utf-8")
    assert requirements == "# CPython 3.11.7\nnumpy==2.4.6\npolars==2.1.0\nscikit-learn==1.9.1\n"


def test_each_version_is_a_model_whose_figures_are_linked_to_the_snapshot(reader: Reader, recorded: Recorded) -> None:
    with reader(recorded.home.mlflow_uri) as client:
        models = {model.name: model for model in client.search_logged_models([recorded.tracked.experiment_id])}
    assert set(models) == {"flights-v1", "flights-v2", "flights-v3"}
    model = models["flights-v3"]
    assert model.source_run_id == recorded.tracked.child_run_ids["v3"]
    assert model.tags["mlstream.digest"] == digest("version v3")
    figures = {metric.key: metric for metric in model.metrics}
    assert figures["roc_auc"].value == example_comparison().metric("v3", "roc_auc").value
    assert figures["roc_auc"].dataset_digest == digest("snapshot")[:32]
    assert {found.model_id for found in get(reader, recorded).inputs.model_inputs} == {
        found.model_id for found in models.values()
    }


def test_a_local_record_has_a_page_and_no_url(recorded: Recorded) -> None:
    tracked = recorded.tracked
    assert tracked.url is None
    assert tracked.page.startswith(f"#/experiments/{tracked.experiment_id}/runs/{tracked.run_id}")
    assert tracked.uri == recorded.home.mlflow_uri


def test_the_newest_completed_comparison_is_found(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert newest(recorded.home) == recorded.tracked


# Names and sizes


def test_names_that_mlflow_refuses_are_made_to_fit_and_nothing_is_lost(stocked: Home, reader: Reader) -> None:
    odd = {"a@b=c": 1, "a_b_c": 2, "../up": 3, "größe": "ä" * 7000, "nested": {"x": [1, None]}, "": 4}
    many = {f"p{number}": number for number in range(250)}
    run = example_run()
    versions = dict(run.versions)
    figures = {f"figure {number}": float(number) for number in range(1200)}
    versions["v2"] = replace(versions["v2"], parameters={**odd, **many}, figures=figures, description="<b>é</b> | x")
    tracked = track(example_comparison(), replace(run, versions=versions), home=stocked)
    with reader(stocked.mlflow_uri) as client:
        data = client.get_run(tracked.child_run_ids["v2"]).data
    params = {key: value for key, value in data.params.items() if key.startswith("parameters.")}
    assert len(params) == len(odd) + len(many)
    assert {params["parameters.a_b_c"], params["parameters.a_b_c_2"]} == {"1", "2"}
    assert params["parameters.nested"] == '{"x": [1, null]}'
    assert params["parameters.größe"] == "ä" * 5999 + "…"
    assert sum(key.startswith("run/") for key in data.metrics) == 1200
    assert data.metrics["run/figure 1199"] == 1199


def test_ranges_that_are_too_many_for_mlflow_are_left_out_of_the_source(stocked: Home) -> None:
    streams = tuple(PartitionRange("flights", number, 10**15, 10**15 + 1) for number in range(2000))
    track(example_comparison(), example_run(streams=streams), home=stocked)
    ((source,),) = rows(stocked, "SELECT dataset_source FROM datasets")
    assert json.loads(source) == {"snapshot": digest("snapshot"), "name": "flights-q4", "streams": {}}


def test_a_comparison_without_labels_is_recorded_too(stocked: Home, reader: Reader) -> None:
    bare = example_comparison(labels=None, blocks=None, value_blocks=None, metrics=(), deltas=(), snapshot_name=None)
    tracked = track(bare, example_run(snapshot_name=None), home=stocked)
    with reader(stocked.mlflow_uri) as client:
        parent = client.get_run(tracked.run_id)
        names = {found.path for found in client.list_artifacts(tracked.run_id)}
    assert parent.data.metrics == {"agreement/v2": 0.9213, "agreement/v3": 0.8791}
    assert parent.inputs.dataset_inputs[0].dataset.name == digest("snapshot")[:12]
    assert names == {"comparison.json", "config.json", "environment"}


@pytest.mark.parametrize("name", ["with space", "ümläut", "what?a=b%20c#d"])
def test_a_home_may_have_any_path(name: str, tmp_path: Path, empty_store: Path, reader: Reader) -> None:
    home = Home(tmp_path / name)
    home.path.mkdir()
    (home.path / "mlflow.db").write_bytes(empty_store.read_bytes())
    tracked = track(example_comparison(), example_run(), home=home, uri=home.mlflow_uri)
    assert rows(home, "SELECT count(*) FROM runs") == [(4,)]
    assert (home.mlflow_artifacts / tracked.run_id / "artifacts" / "chart.png").exists()


# Once, whole, or not at all


def test_the_same_comparison_is_recorded_once(stocked: Home) -> None:
    first = track(example_comparison(), example_run(), home=stocked)
    assert track(example_comparison(), example_run(), home=stocked) == first
    assert rows(stocked, "SELECT count(*) FROM runs") == [(4,)]


def test_another_comparison_is_another_record_of_the_same_models(stocked: Home, reader: Reader) -> None:
    first = track(example_comparison(), example_run(), home=stocked)
    other = example_comparison(id=digest("another"), snapshot_id=digest("later"), snapshot_name="flights-later")
    second = track(other, example_run(snapshot_id=digest("later")), home=stocked)
    assert second.run_id != first.run_id
    assert newest(stocked) == second
    with reader(stocked.mlflow_uri) as client:
        models = client.search_logged_models([first.experiment_id])
    assert len(models) == 3
    assert {metric.dataset_name for metric in models[0].metrics} == {"flights-q4", "flights-later"}


class Interrupted(dict[str, str]):
    """An environment that, when it is written down at the very end, ends the process or fails."""

    def __init__(self, how: str) -> None:
        super().__init__(numpy="1")
        self.how = how

    def items(self) -> Any:
        if self.how == "killed":
            os._exit(9)
        raise ZeroDivisionError(self.how)


def test_a_record_that_was_killed_is_not_complete_and_makes_way_for_a_whole_one(stocked: Home) -> None:
    code = "from tests.reporting.test_tracking import Interrupted\n"
    call = "track(example_comparison(), example_run(environment=Interrupted('killed')), home=find_home())"
    done = in_a_process(TRACK + code + call, home=stocked)
    assert done.returncode == 9, done.stderr
    assert active_runs(stocked) == 4
    assert rows(stocked, "SELECT count(*) FROM tags WHERE key = 'mlstream.status' AND value = 'completed'") == [(0,)]
    assert newest(stocked) is None
    whole = track(example_comparison(), example_run(), home=stocked)
    assert newest(stocked) == whole
    assert active_runs(stocked) == 4


def test_a_record_that_fails_is_shown_as_failed_and_not_as_complete(stocked: Home) -> None:
    with pytest.raises(ZeroDivisionError):
        track(example_comparison(), example_run(environment=Interrupted("fails")), home=stocked)
    assert {status for (status,) in rows(stocked, "SELECT status FROM runs")} == {"FAILED"}
    assert newest(stocked) is None


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[dict[str, Any]]]:
    """Two processes that record the same comparison in one new store at once, and what each says of itself."""
    home = Home(tmp_path_factory.mktemp("fresh") / "home")
    code = """
        import json, os, sys
        before = set(os.environ)
        tracked = track(example_comparison(), example_run(), home=find_home())
        import logging, mlflow
        from mlflow.telemetry import get_telemetry_client
        print(json.dumps({
            "run_id": tracked.run_id,
            "set": sorted(set(os.environ) - before),
            "telemetry": os.environ["MLFLOW_DISABLE_TELEMETRY"] != "true" or get_telemetry_client() is not None,
            "tracking_uri": mlflow.is_tracking_uri_set(),
            "active_run": mlflow.active_run() is not None,
            "level": logging.getLogger("mlflow").level,
            "pyplot": "matplotlib.pyplot" in sys.modules,
        }))
    """
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: in_a_process(TRACK + textwrap.dedent(code), home=home), range(2)))
    assert [(done.returncode, done.stderr) for done in both] == [(0, ""), (0, "")]
    return home, [json.loads(done.stdout) for done in both]


def test_two_processes_at_once_make_one_store_and_one_record(
    two_processes: tuple[Home, list[dict[str, Any]]],
) -> None:
    home, said = two_processes
    assert said[0]["run_id"] == said[1]["run_id"]
    assert rows(home, "SELECT count(*) FROM runs") == [(4,)]
    assert rows(home, "SELECT name FROM experiments ORDER BY experiment_id") == [("Default",), ("flights",)]


# Manners


def test_nothing_is_left_behind_and_nothing_is_printed(two_processes: tuple[Home, list[dict[str, Any]]]) -> None:
    for said in two_processes[1]:  # and no other line on stdout, none on stderr
        del said["run_id"]
        assert said == {
            "set": ["MLFLOW_DISABLE_AGENT_HINT", "MLFLOW_DISABLE_TELEMETRY"],
            "telemetry": False,
            "tracking_uri": False,
            "active_run": False,
            "level": logging.INFO,
            "pyplot": False,
        }


def test_a_choice_of_the_users_about_telemetry_stands(stocked: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    newest(stocked)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_where_records_go(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(home) == home.mlflow_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(home) == home.mlflow_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert tracking_uri(home) == "https://mlflow.example"
    assert tracking_uri(home, "sqlite:///other.db") == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@mlflow.example:5000/x", "https://…@mlflow.example:5000/x"),
        ("postgresql://me:secret@db/mlflow", "postgresql://…@db/mlflow"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_a_password_is_never_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


# Stores that cannot be used


def test_a_file_that_is_no_store_is_named_at_once(home: Home) -> None:
    home.path.mkdir(parents=True)
    (home.path / "mlflow.db").write_bytes(hashlib.sha256(b"").digest() * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db: file is not a database"):
        newest(home, uri=home.mlflow_uri)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = Home(tmp_path / "file")
    with pytest.raises(TrackingError, match="file"):
        newest(home, uri=home.mlflow_uri)


def test_a_store_of_another_mlflow_comes_with_the_command_that_upgrades_it(stocked: Home) -> None:
    with closing(sqlite3.connect(stocked.path / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        database.commit()
    with pytest.raises(TrackingError, match="another version of MLflow") as caught:
        newest(stocked)
    assert caught.value.hint == f"back it up and run: mlflow db upgrade {stocked.mlflow_uri}"


def test_a_deleted_experiment_comes_with_the_command_that_restores_it(stocked: Home, reader: Reader) -> None:
    tracked = track(example_comparison(), example_run(), home=stocked)
    with reader(stocked.mlflow_uri) as client:
        client.delete_experiment(tracked.experiment_id)
    with pytest.raises(TrackingError, match="'flights' was deleted") as caught:
        track(example_comparison(), example_run(), home=stocked)
    assert f"mlflow experiments restore -x {tracked.experiment_id}" in str(caught.value)
    assert newest(stocked) is None

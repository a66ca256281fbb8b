"""A comparison in a local MLflow store, read back with MLflow's own client and with SQL."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from PIL import Image

from mlstream.comparison.result import Comparison
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.reporting.tracking import newest, track
from tests.reporting.conftest import Recorded
from tests.reporting.examples import VERSIONS, digest, example_comparison, example_run
from tests.reporting.stores import active_runs, rows

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.reporting.conftest import Reader


def get(reader: Reader, recorded: Recorded, version: str | None = None) -> Run:
    ids = recorded.tracked.child_run_ids
    with reader(recorded.home.mlflow_uri) as client:
        return client.get_run(recorded.tracked.run_id if version is None else ids[version])


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
    assert found == {
        "chart.png",
        "chart.svg",
        "comparison.json",
        "config.json",
        "environment/requirements.txt",
        "report.html",
    }
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
    assert names == {"comparison.json", "config.json", "environment", "report.html"}


@pytest.mark.parametrize("name", ["with space", "ümläut", "what?a=b%20c#d"])
def test_a_home_may_have_any_path(name: str, tmp_path: Path, empty_store: Path, reader: Reader) -> None:
    home = Home(tmp_path / name)
    home.path.mkdir()
    (home.path / "mlflow.db").write_bytes(empty_store.read_bytes())
    tracked = track(example_comparison(), example_run(), home=home, uri=home.mlflow_uri)
    assert rows(home, "SELECT count(*) FROM runs") == [(4,)]
    assert (home.mlflow_artifacts / tracked.run_id / "artifacts" / "chart.png").exists()

"""Three versions over a snapshot: what they wrote, as an independent client reads it, and as users read it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlstream import Run, open_run, open_snapshot, run
from mlstream.errors import UnknownTopic, UnknownVersion, UsageError, VersionLoadError
from mlstream.runs.attempt import Progress
from mlstream.runs.run import list_runs
from mlstream.versions import resolve_version
from tests.runs.conftest import FIRST_MS, ROWS, Shop, frame
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker
THREE = {
    "v1": {"model": "shop/models.py:Linear"},
    "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 3.0}},
    "v3": {"model": "shop/models.py:Noisy"},
}


@pytest.fixture(scope="module")
def three(make_shop: Callable[[str], Shop], orders: str) -> tuple[Shop, Run, list[Progress]]:
    """A shop after a run of three versions."""
    shop = make_shop(orders)
    told: list[Progress] = []
    done = run(
        shop.config(THREE), snapshot=shop.snapshot, connection=shop.connection, home=shop.home, progress=told.append
    )
    return shop, done, told


def source() -> pl.DataFrame:
    """The records as they were written, in order of partition and offset."""
    return frame().sort("partition", maintain_order=True).with_columns(offset=pl.int_range(pl.len()).over("partition"))


def test_every_version_answers_every_record_exactly_once(three: tuple[Shop, Run, list[Progress]]) -> None:
    shop, done, _ = three
    assert done.status == "complete"
    done.check()
    expected = source().select("partition", "offset").rows()
    for outcome in done.versions.values():
        assert outcome.topic is not None
        records = read_topic(shop.connection, outcome.topic)
        assert [(r.json["source_partition"], r.json["source_offset"]) for r in records] == expected
        assert {r.json["source_topic"] for r in records} == {shop.topic}
        assert outcome.rows == len(records) == ROWS


def test_a_prediction_has_its_record_s_key_time_and_partition_and_names_run_and_version(
    three: tuple[Shop, Run, list[Progress]],
) -> None:
    shop, done, _ = three
    records = read_topic(shop.connection, str(done.versions["v2"].topic))
    rows = source().rows(named=True)
    for record, row in zip(records, rows, strict=True):
        assert record.partition == row["partition"]
        assert record.key == (None if row["key"] is None else row["key"].encode())
        assert record.timestamp_ms == FIRST_MS + json.loads(row["value"])["n"] * 1000
        assert record.headers == {"mlstream-run": done.id.encode(), "mlstream-version": b"v2"}


def test_scores_on_the_topic_have_the_bits_that_the_model_returned(three: tuple[Shop, Run, list[Progress]]) -> None:
    shop, done, _ = three
    factor = 0.7310585786300049
    for record in read_topic(shop.connection, str(done.versions["v2"].topic)):
        value = record.json
        assert set(value) == {"source_topic", "source_partition", "source_offset", "prediction", "score"}
    x = np.array([json.loads(value)["x"] for value in source()["value"]])
    expected = x * 3.0 * factor - np.floor(x * 3.0 * factor)
    got = np.array([r.json["score"] for r in read_topic(shop.connection, str(done.versions["v2"].topic))])
    assert got.tobytes() == expected.tobytes()


def test_predictions_read_back_are_those_of_the_model_in_this_process(three: tuple[Shop, Run, list[Progress]]) -> None:
    shop, done, _ = three
    records = open_snapshot(shop.snapshot, home=shop.home).scan(shop.topic, decode=done.config.input.decode).collect()
    for name in done.versions:
        found = done.predictions(name).collect()
        assert found.schema == {
            "source_topic": pl.String,
            "source_partition": pl.Int32,
            "source_offset": pl.Int64,
            "timestamp": pl.Datetime("ms", "UTC"),
            "prediction": pl.Boolean,
            "score": pl.Float64,
        }
        if name == "v3":
            continue  # it is v1 that also starts processes
        expected = resolve_version(done.config, name).load().predict(records)
        assert found["score"].to_numpy().tobytes() == expected["score"].to_numpy().tobytes()
        assert_frame_equal(found.select("prediction", "score"), expected)
        assert found["timestamp"].to_list() == records["_timestamp"].to_list()
        assert found["source_partition"].to_list() == records["_partition"].to_list()
        assert found["source_offset"].to_list() == records["_offset"].to_list()


def test_output_topics_keep_everything_and_have_the_input_s_partitions(three: tuple[Shop, Run, list[Progress]]) -> None:
    from mlstream.broker.admin import topic_config
    from mlstream.broker.client import Client

    shop, done, _ = three
    with Client(shop.connection) as client:
        for name, outcome in done.versions.items():
            assert outcome.topic == f"{done.experiment}.{name}.{done.id[:12]}"
            assert client.topic(outcome.topic).partitions == (0, 1, 2)
            assert client.topic(outcome.topic).topic_id == outcome.topic_id
            settings = topic_config(client, outcome.topic)
            assert (settings["retention.ms"], settings["cleanup.policy"]) == ("-1", "delete")


def test_each_output_is_frozen_under_its_topic_s_name(three: tuple[Shop, Run, list[Progress]]) -> None:
    shop, done, _ = three
    for outcome in done.versions.values():
        frozen = open_snapshot(str(outcome.topic), home=shop.home)
        assert (frozen.id, frozen.rows) == (outcome.output_id, ROWS)


def test_the_record_reads_back_as_it_was_and_holds_what_the_run_was_made_of(
    three: tuple[Shop, Run, list[Progress]],
) -> None:
    shop, done, _ = three
    again = open_run(done.id[:12], home=shop.home)
    assert again == done == open_run(home=shop.home) == list_runs(shop.home)[0]
    record = json.loads(done.path.read_bytes())
    assert record["input"]["ranges"] == [[p.partition, p.start, p.stop] for p in done.input.ranges]
    assert record["input"]["schema"] == {"x": "float", "n": "int", "s": "string"}
    assert sum(stop - start for _, start, stop in record["input"]["ranges"]) == ROWS
    assert record["environment"]["packages"]["polars"] == pl.__version__
    assert record["hardware"]["cpus"] >= 1
    assert (record["settings"]["seed"], record["settings"]["batch_rows"]) == (11, 64)
    assert record["git"] is None  # the project is in no repository
    assert "connection" not in record["config"]
    for name, outcome in done.versions.items():
        version = resolve_version(done.config, name)
        assert outcome.digest == version.digest
        assert outcome.digests == {"code": version.code_digest, "environment": version.environment_digest}


def test_what_a_version_s_process_measured_makes_sense(three: tuple[Shop, Run, list[Progress]]) -> None:
    _, done, _ = three
    for outcome in done.versions.values():
        measured = outcome.measured
        assert measured is not None
        grid = sum(math.ceil(rows / 64) for rows in source().group_by("partition").len()["len"])
        assert measured.latency.batches == grid
        assert 0 < measured.latency.p50_ms <= measured.latency.p95_ms <= measured.latency.p99_ms
        assert measured.predict_seconds <= measured.seconds
        assert measured.cpu_seconds > 0
        assert 20e6 < measured.memory_bytes < 4e9
        assert outcome.rows_per_second == pytest.approx(ROWS / measured.seconds)
        assert outcome.figures["records_per_second"] == outcome.rows_per_second


def test_what_a_model_prints_is_in_its_log_and_it_reads_nothing(three: tuple[Shop, Run, list[Progress]]) -> None:
    _, done, _ = three
    log = done.versions["v3"].log.read_text()
    assert "standard input: ''" in log
    assert f"threads: {done.settings['math_threads']} hash seed: 11" in log
    assert f"random: {np.random.RandomState(11).random_sample()}" in log
    assert done.versions["v1"].log.read_text() == ""


def test_progress_is_told_for_each_version(three: tuple[Shop, Run, list[Progress]]) -> None:
    _, done, told = three
    assert told[0] == Progress("decoding", total=ROWS)
    for name in done.versions:
        mine = [(progress.stage, progress.state) for progress in told if progress.version == name]
        assert mine[0] == ("scoring", "loading")
        assert mine[-2:] == [("freezing", "running"), ("freezing", "done")]
        assert [progress for progress in told if progress.version == name][-1].rows == ROWS


def test_the_same_run_is_not_computed_twice_unless_it_is_forced(three: tuple[Shop, Run, list[Progress]]) -> None:
    shop, done, _ = three
    told: list[Progress] = []

    def again(**options: object) -> Run:
        return run(
            shop.config(THREE), snapshot=done.snapshot_id, connection=shop.connection, home=shop.home,
            progress=told.append, **options,  # type: ignore[arg-type]
        )  # fmt: skip

    assert again().id == done.id
    assert told[-1] == Progress("reused", rows=ROWS, total=ROWS, state="done", run_id=done.id)
    one = run(shop.config(THREE), snapshot=shop.snapshot, versions=["v1"], connection=shop.connection, home=shop.home)
    assert one.key != done.key  # of one version only
    assert list(one.versions) == ["v1"]
    assert (one.versions["v1"].reused, one.versions["v1"].topic) == (done.id, done.versions["v1"].topic)
    second = run(
        shop.config(THREE),
        snapshot=shop.snapshot,
        versions=["v1"],
        force=True,
        connection=shop.connection,
        home=shop.home,
    )
    assert second.key == one.key
    assert second.attempt > one.attempt  # how much, is for the cluster's topics to say: other homes plan the same run
    assert second.id != one.id
    assert second.versions["v1"].reused is None
    assert second.versions["v1"].topic != done.versions["v1"].topic
    bits = [found.predictions("v1").collect()["score"].to_numpy().tobytes() for found in (done, one, second)]
    assert bits[0] == bits[1] == bits[2]


def test_a_version_that_is_added_to_a_finished_run_is_the_only_one_that_is_computed(shop: Shop) -> None:
    two = {"v1": {"model": "shop/models.py:Linear"}, "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 2}}}
    first = run(shop.config(two), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    three = {**two, "v3": {"model": "shop/models.py:Linear", "parameters": {"by": 3}}}
    told: list[Progress] = []
    config = shop.config(three)
    second = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, progress=told.append)
    assert {progress.version for progress in told if progress.stage == "scoring"} == {"v3"}
    assert [found.reused for found in second.versions.values()] == [first.id, first.id, None]
    assert [found.output_id for found in second.versions.values()][:2] == [
        found.output_id for found in first.versions.values()
    ]
    changed = {**three, "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 2.5}}}
    third = run(shop.config(changed), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert [found.reused for found in third.versions.values()] == [first.id, None, second.id]
    again = run(shop.config(changed), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert again.id == third.id


def test_the_number_of_workers_changes_no_prediction(shop: Shop) -> None:
    config = shop.config(
        {"v1": {"model": "shop/models.py:Linear"}, "v2": {"model": "shop/models.py:Values"}}, task="regression"
    )
    runs = [
        run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, workers=workers, force=True)
        for workers in (1, 2, 64)
    ]
    assert [found.settings["workers"] for found in runs] == [1, 2, 3]
    assert len({found.key for found in runs}) == 1
    for name in ("v1", "v2"):
        frames = [found.predictions(name).collect() for found in runs]
        assert_frame_equal(frames[0], frames[1], check_exact=True)
        assert_frame_equal(frames[0], frames[2], check_exact=True)
        assert [found.versions[name].rows for found in runs] == [ROWS] * 3
        batches = [found.versions[name].measured.latency.batches for found in runs]  # type: ignore[union-attr]
        assert batches == [batches[0]] * 3
        assert batches[0] >= ROWS // 64


@pytest.mark.parametrize(
    ("settings", "versions", "error", "message"),
    [
        ({}, ["v9"], UnknownVersion, r"has no version 'v9'; there are: v1, v2, v3"),
        ({}, [], UsageError, r"no version to run; there are: v1, v2, v3"),
        ({"features": ["x", "m"]}, None, VersionLoadError, r"features: the input has no column 'm'.*it has: x, n, s"),
        ({"input": {"topic": "orders"}}, None, UnknownTopic, r"holds no topic 'orders'; it holds: orders-"),
        ({"experiment": "e" * 120}, None, UsageError, r"has at most 128 characters"),
    ],
)
def test_what_is_not_there_is_named_before_anything_starts(
    three: tuple[Shop, Run, list[Progress]],
    settings: dict[str, object],
    versions: list[str] | None,
    error: type[Exception],
    message: str,
) -> None:
    shop, _, _ = three
    before = topics(shop.connection), [found.id for found in list_runs(shop.home)]
    config = shop.config(THREE, **settings)
    with pytest.raises(error, match=message):
        run(config, snapshot=shop.snapshot, versions=versions, connection=shop.connection, home=shop.home)
    assert (topics(shop.connection), [found.id for found in list_runs(shop.home)]) == before


def test_awkward_floats_survive_bit_by_bit(shop: Shop) -> None:
    config = shop.config({"v1": {"model": "shop/models.py:Values"}}, task="regression")
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    table = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, -1e-9, 123456789012345680.0, 1e22]
    expected = np.array([table[json.loads(value)["n"] % 8] for value in source()["value"]])
    got = np.array(
        [record.json["prediction"] for record in read_topic(shop.connection, str(done.versions["v1"].topic))]
    )
    assert got.tobytes() == expected.tobytes()
    assert done.predictions("v1").collect()["prediction"].to_numpy().tobytes() == expected.tobytes()
    assert struct.pack("<d", -0.0) in got.tobytes()


def test_several_classes_keep_their_scores_and_their_order(shop: Shop) -> None:
    config = shop.config({"v1": {"model": "shop/models.py:Sorts"}}, task="multiclass", features=["n"])
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert done.versions["v1"].classes == ("small", "middle", "large")
    records = open_snapshot(shop.snapshot, home=shop.home).scan(shop.topic, decode=config.input.decode).collect()
    expected = resolve_version(config, "v1").load().predict(records)
    found = done.predictions("v1").collect()
    assert_frame_equal(found.select("prediction", "scores"), expected, check_exact=True)
    assert found["source_offset"].to_list() == records["_offset"].to_list()


def test_a_topic_that_is_already_there_is_never_written_into(shop: Shop) -> None:
    """Another home on the same cluster plans the same run: its topic has the name that ours would have."""
    from mlstream import publish

    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, experiment=f"other-{shop.topic[-8:]}")
    first = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    theirs = str(first.versions["v1"].topic)
    publish(theirs, pl.DataFrame({"value": ["theirs"]}), connection=shop.connection)
    for path in [*shop.home.runs.glob("*.json"), shop.home.path / "refs" / theirs]:
        path.unlink()
    second = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert (second.key, second.attempt) == (first.key, 2)
    assert len(read_topic(shop.connection, theirs)) == ROWS + 1
    assert second.status == "complete"


def test_a_password_reaches_neither_the_record_nor_the_disk(shop: Shop) -> None:
    values = {"sasl_plain_password": "sesame-open", "security_protocol": "PLAINTEXT"}
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, connection=values)
    (shop.root / "configs" / "shop.yaml").unlink()
    from mlstream.broker.connection import Connection

    connection = Connection(shop.connection.bootstrap_servers, values)
    assert run(config, snapshot=shop.snapshot, connection=connection, home=shop.home).status == "complete"
    files = [path for folder in (shop.root, shop.home.path) for path in Path(folder).rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"sesame-open" in path.read_bytes()]

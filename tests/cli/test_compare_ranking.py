"""`mlstream compare` of a ranking by group on a real broker, with a metric of its own: a function of the whole."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score

from mlstream import Run, publish, run, snapshot
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.reporting.kept import open_comparison

pytestmark = pytest.mark.broker
Call = Callable[..., Any]
SEARCHES, SIZE = 400, 6
START_MS = 1_380_585_600_000
CODE = '''\
"""Two rankers on scales of their own, and what a page of results is worth."""

import polars as pl


class ByPrice:
    def predict(self, frame):
        return -frame["price"].to_numpy()


class ByBoth:
    def predict(self, frame):
        return 1000 * (frame["match"].to_numpy() - frame["price"].to_numpy())


def first_gain(frame):
    """The matches of the first results, by their relevance: it reads a column that nothing else does."""
    first = pl.col("prediction") == pl.col("prediction").max().over("search")
    worth = pl.col("label") * pl.col("match").exp()
    return frame.select(worth.filter(first).sum() / worth.sum()).item()
'''


@dataclass(frozen=True)
class Searches:
    """The experiment's run, and its records in the order of the stream."""

    home: Home
    root: Path
    done: Run
    records: pl.DataFrame


@pytest.fixture(scope="module")
def searches(broker: Connection, tmp_path_factory: pytest.TempPathFactory) -> Searches:
    rng = np.random.default_rng(3)
    rows = SEARCHES * SIZE
    match, price = rng.normal(size=rows).round(3), rng.normal(size=rows).round(3)
    relevance = np.clip(np.round(match - price + rng.normal(size=rows)), 0, 3)
    records = pl.DataFrame(
        {
            "search": np.repeat(np.arange(SEARCHES), SIZE),
            "match": match,
            "price": price,
            "relevance": relevance.astype(int),
        }
    )
    topic = f"searches-{secrets.token_hex(4)}"
    frame = records.select(
        value=pl.struct(pl.all()).struct.json_encode(),
        timestamp=(START_MS + 60_000 * pl.col("search")).cast(pl.Datetime("ms", "UTC")),
        partition=pl.int_range(pl.len()) % 2,  # a search is in both partitions
    )
    publish(topic, frame, partitions=2, connection=broker)
    root = tmp_path_factory.mktemp("searches")
    (root / "pyproject.toml").write_text("")
    (root / "rank.py").write_text(CODE)
    home = Home(root / "home")
    snapshot("searches", topics=[topic], connection=broker, home=home)
    columns = {"search": "int", "match": "float", "price": "float", "relevance": "int"}
    values = {
        "experiment": f"searches-{topic[-8:]}",
        "task": "ranking",
        "input": {"topic": topic, "decode": {"columns": columns}},
        "labels": {"value": "relevance"},
        "features": ["match", "price"],
        "ranking": {"group": "search", "k": 3},
        "versions": {"v1": {"model": "rank.py:ByPrice"}, "v2": {"model": "rank.py:ByBoth"}},
        "custom_metrics": {"first_gain": {"function": "rank.py:first_gain", "of": "whole"}},
        "slices": ["price > 0"],
        "bootstrap": {"resamples": 400},
    }
    path = root / "searches.yaml"
    path.write_text(json.dumps(values))
    config = ExperimentConfig.model_validate(values).located(path, root)
    return Searches(home, root, run(config, snapshot="searches", connection=broker, home=home), records)


@pytest.fixture
def call(bare_cli: Call, searches: Searches, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A call in the experiment's home."""
    monkeypatch.setenv("MLSTREAM_HOME", str(searches.home.path))
    return bare_cli


@pytest.fixture
def kept(call: Call) -> dict[str, Any]:
    done = call("compare", "--no-track", "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_ranking_is_run_and_compared(searches: Searches, kept: dict[str, Any]) -> None:
    assert searches.done.status == "complete"
    values = {(item["metric"], item["version"]): item["value"] for item in kept["metrics"]}
    label = searches.records["relevance"].to_numpy().reshape(SEARCHES, SIZE)
    said = {
        "v1": -searches.records["price"].to_numpy(),
        "v2": (searches.records["match"] - searches.records["price"]).to_numpy(),
    }
    for version, scores in said.items():
        place = scores.reshape(SEARCHES, SIZE)
        assert values["ndcg_at_k", version] == pytest.approx(ndcg_score(label, place, k=3), abs=1e-9)
        worth = label * np.exp(searches.records["match"].to_numpy()).reshape(SEARCHES, SIZE)
        first = worth[np.arange(SEARCHES), place.argmax(axis=1)]
        assert values["first_gain", version] == pytest.approx(first.sum() / worth.sum(), abs=1e-9)
    verdicts = {item["metric"]: item["verdict"] for item in kept["deltas"]}
    assert verdicts == dict.fromkeys(["ndcg_at_k", "mrr", "precision_at_k", "map", "first_gain"], "better")
    assert {item["metric"] for item in kept["slices"]} == set(verdicts)
    assert kept["settings"]["ranking"] == {"group": "search", "k": 3}
    assert len(kept["settings"]["custom_metrics"]["first_gain"]["digest"]) == 64


def test_records_disagree_by_their_place_and_none_is_right(searches: Searches, kept: dict[str, Any]) -> None:
    place = pl.col("said").rank(descending=True).over("search")
    places = [
        searches.records.with_columns(said=said).select(place).to_series()
        for said in (-pl.col("price"), pl.col("match") - pl.col("price"))
    ]
    farthest = float((places[0] - places[1]).abs().max())  # type: ignore[arg-type]
    assert kept["disagreements"][0]["distance"] == farthest == SIZE - 1
    assert {item["right"] for item in kept["disagreements"]} == {None}
    assert kept["changes"] == []
    assert kept["agreement"] == {}


def test_the_screen_and_the_page_name_the_metrics_as_people_do(
    call: Call, kept: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = call("compare", "show", kept["id"], "--full", "--html", page)
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    for told in ("NDCG@k ↑", "MRR ↑", "MAP ↑", "Precision@k ↑", "First gain ↑"):
        assert told in text
    for told in (
        "Ranked are the records with the same search; k is 3",
        f"Of First gain the spread is that of a jackknife over {kept['settings']['whole_blocks']['count']} blocks of",
    ):
        assert told in text
        assert told in " ".join(page.read_text(encoding="utf-8").split())


def test_it_is_computed_again_to_the_last_bit_also_when_an_earlier_release_wrote_less_down(
    call: Call, searches: Searches, kept: dict[str, Any]
) -> None:
    done = call("compare", "--verify", kept["id"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith(" figures are the same\n")
    path = searches.home.comparisons / f"{kept['id']}.json"
    record = json.loads(path.read_text())
    for setting in ("ranking", "left_out", "whole_blocks"):
        del record["settings"][setting]
    for figure in (*record["metrics"], *record["deltas"]):
        del figure["error_bound"]
    path.write_text(json.dumps(record))
    again = call("compare", "verify", kept["id"], "--json")
    assert json.loads(again.stdout)["differences"] == []
    assert again.exit_code == 0
    record["settings"]["ranking"] = {"group": "search", "k": 5}
    path.write_text(json.dumps(record))
    assert call("compare", "verify", kept["id"]).exit_code == 1


def test_a_function_that_goes_wrong_is_named_with_its_version(call: Call, searches: Searches) -> None:
    code = searches.root / "rank.py"
    before = len(list(searches.home.comparisons.glob("*.json")))
    code.write_text(CODE.replace(".item()", '["no"]'))
    try:
        done = call("compare", "--no-track")
    finally:
        code.write_text(CODE)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: custom_metrics.first_gain: its function raised ColumnNotFoundError for v1")
    assert len(list(searches.home.comparisons.glob("*.json"))) == before


def test_a_comparison_that_is_kept_is_read_whole(searches: Searches, kept: dict[str, Any]) -> None:
    found = open_comparison(kept["id"], home=searches.home)
    assert found.delta("v2", "map") is not None
    assert found.to_frame("metrics").filter(metric="first_gain").height == 2

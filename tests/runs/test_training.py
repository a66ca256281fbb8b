"""Training on a frozen snapshot: files, their notes, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import sklearn

from mlstream import open_snapshot, run
from mlstream.errors import RunError, UnknownVersion, UsageError, VersionLoadError
from mlstream.runs.training import Trained, check_trained, train
from mlstream.versions import resolve_version
from tests.runs.conftest import ROWS, Shop

pytestmark = pytest.mark.broker
VERSIONS: dict[str, dict[str, Any]] = {
    "fitted": {"model": "models/fitted.skops", "train": "shop/training.py:boosting"},
    "table": {
        "model": "shop/table.py:Table",
        "parameters": {"file": "models/table.json"},
        "files": ["models/table.json"],
        "train": "shop/training.py:table",
    },
    "fixed": {"model": "shop/models.py:Linear"},
    "broken": {"model": "models/broken.skops", "train": "shop/training.py:broken"},
    "nothing": {"model": "models/nothing.skops", "train": "shop/training.py:nothing"},
}


@pytest.fixture(scope="module")
def trained(make_shop: Callable[[str], Shop], orders: str) -> tuple[Shop, dict[str, Trained]]:
    """A shop after the training of its versions."""
    shop = make_shop(orders)
    with pytest.raises(
        VersionLoadError, match=r"no file models/fitted\.skops; make it with `mlstream train .* --version f"
    ):
        resolve_version(shop.config(VERSIONS), "fitted")
    with pytest.raises(VersionLoadError, match=r"no file models/table\.json; make it with `mlstream train"):
        resolve_version(shop.config(VERSIONS), "table")
    found = train(shop.config(VERSIONS), snapshot=shop.snapshot, home=shop.home)
    return shop, {part.version: part for part in found}


def test_versions_without_training_are_left_alone(trained: tuple[Shop, dict[str, Trained]]) -> None:
    assert set(trained[1]) == set(VERSIONS) - {"fixed"}


@pytest.mark.parametrize("name", ["fitted", "table"])
def test_a_file_has_a_note_of_what_made_it(trained: tuple[Shop, dict[str, Trained]], name: str) -> None:
    shop, found = trained
    path = found[name].path
    note = json.loads((path.parent / f"{path.name}.json").read_text())
    assert note == found[name].note
    assert note["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert note["snapshot_id"] == open_snapshot(shop.snapshot, home=shop.home).id
    assert (note["rows"], note["seed"], note["train"]) == (ROWS, 11, VERSIONS[name]["train"])
    assert note["scikit_learn"] == sklearn.__version__
    assert note["seconds"] >= 0


def test_json_values_go_to_the_file_that_the_code_reads(trained: tuple[Shop, dict[str, Trained]]) -> None:
    shop, found = trained
    assert found["table"].path == shop.root / "models" / "table.json"
    written = json.loads(found["table"].path.read_text())
    assert written == {"factor": 0.7310585786300049, "rows": ROWS, "seed": 11}


def test_training_again_gives_the_same_bytes_and_so_the_same_version(
    trained: tuple[Shop, dict[str, Trained]],
) -> None:
    shop, found = trained
    before = found["fitted"].path.read_bytes()
    again = train(shop.config(VERSIONS), snapshot=shop.snapshot, versions=["fitted"], home=shop.home)
    assert again[0].note is not None
    assert found["fitted"].path.read_bytes() == before
    assert "training on orders-q4" in again[0].log.read_text()


def test_trained_versions_run(trained: tuple[Shop, dict[str, Trained]]) -> None:
    shop, _ = trained
    config = shop.config(VERSIONS)
    done = run(config, snapshot=shop.snapshot, versions=["fitted", "table"], connection=shop.connection, home=shop.home)
    done.check()
    records = open_snapshot(shop.snapshot, home=shop.home).scan(shop.topic, decode=config.input.decode).collect()
    expected = resolve_version(config, "fitted").load().predict(records)
    assert done.predictions("fitted").collect()["score"].to_list() == expected["score"].to_list()
    assert set(done.predictions("table").collect()["score"]) == {0.7310585786300049}
    assert set(done.versions["fitted"].digests) == {"weights", "environment"}


def test_a_training_that_fails_fails_alone_and_writes_nothing(trained: tuple[Shop, dict[str, Trained]]) -> None:
    shop, found = trained
    assert [part.version for part in found.values() if part.note is None] == ["broken", "nothing"]
    assert found["broken"].error is not None
    assert "broken raised LookupError at shop/training.py:" in found["broken"].error
    assert "LookupError: no labels in this snapshot" in found["broken"].log.read_text()
    assert found["nothing"].error == ("version nothing: training returned a NoneType, which has no predict")
    assert not [path for path in (shop.root / "models").iterdir() if path.name.startswith(("broken", "nothing", "."))]
    with pytest.raises(
        RunError, match=r"2 of 4 trainings failed\ntraining broken failed: (.*\n)*.*training nothing failed: "
    ) as caught:
        check_trained(list(found.values()))
    assert str(found["broken"].log) in caught.value.message


@pytest.mark.parametrize(
    ("versions", "error", "message"),
    [
        (["fixed"], UsageError, r"fixed: no `train:` to call; write `train: path\.py:function`"),
        (["fited"], UnknownVersion, r"has no version 'fited'; there are: fitted, table"),
    ],
)
def test_what_cannot_be_trained_is_named(
    trained: tuple[Shop, dict[str, Trained]], versions: list[str], error: type[Exception], message: str
) -> None:
    shop, _ = trained
    with pytest.raises(error, match=message):
        train(shop.config(VERSIONS), snapshot=shop.snapshot, versions=versions, home=shop.home)


def test_code_that_reads_no_file_or_several_cannot_be_trained(shop: Shop) -> None:
    version = {"model": "shop/models.py:Linear", "train": "shop/training.py:table"}
    with pytest.raises(UsageError, match=r"versions\.v1\.train: which file does it make\? .* names 0; name one file"):
        train(shop.config({"v1": version}), snapshot=shop.snapshot, home=shop.home)


def test_a_function_that_is_not_there_is_named_before_anything_starts(shop: Shop) -> None:
    version = {"model": "models/fitted.skops", "train": "shop/training.py:bosting"}
    with pytest.raises(
        VersionLoadError, match=r"^versions\.v1\.train: shop/training\.py has no 'bosting'; did you mean"
    ):
        train(shop.config({"v1": version}), snapshot=shop.snapshot, home=shop.home)

"""Versions with environments of their own: two real releases of scikit-learn train and predict side by side.

The environments are kept in this machine's cache, so that they are built once for all sessions.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from packaging.version import Version as Release

from mlstream import Run, run
from mlstream.errors import VersionLoadError
from mlstream.runs.attempt import Progress
from mlstream.runs.training import Trained, train
from mlstream.versions.uv import run_uv
from tests.runs.conftest import ROWS, Shop
from tests.runs.readers import read_topic

pytestmark = pytest.mark.broker
OLD = "1.6.1"
# With all that a model's process needs, so that the code and the estimators run in the same environment.
NEEDED = ("joblib", "numpy", "pandas", "polars", "pyarrow", "skops")
CODE = """\
import importlib.util
import sys

import numpy as np


def release():
    import sklearn

    major, minor, patch = (int(part) for part in sklearn.__version__.split(".")[:3])
    return 10_000.0 * major + 100.0 * minor + patch


class Tells:
    def predict(self, frame):
        ours = [name for name in ("mlflow", "click", "stray") if importlib.util.find_spec(name) is not None]
        print("found", ours, "in", sys.prefix)
        return np.full(frame.height, release())


def line(snapshot, config):
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    frame = snapshot.scan(config.input.topic, decode=config.input.decode).collect()
    columns = make_column_transformer(("passthrough", ["x"]))  # of 1.5 to 1.7 it holds a type of its own
    model = make_pipeline(columns, LinearRegression())
    return model.fit(frame.select("x").to_pandas(), 2 * frame["x"].to_numpy() + release())


class Nothing:
    def predict(self, frame):
        import mlflow
"""
VERSIONS = {
    "tells-old": {"model": "shop/releases.py:Tells", "environment": "envs/old.txt"},
    "tells-new": {"model": "shop/releases.py:Tells", "environment": "envs/new/uv.lock"},
    "line-old": {"model": "models/old.skops", "train": "shop/releases.py:line", "environment": "envs/old.txt"},
    "line-new": {"model": "models/new.skops", "train": "shop/releases.py:line", "environment": "envs/new/uv.lock"},
}


def number(release: str) -> float:
    """A release as the models say it."""
    found = Release(release)
    return 10_000.0 * found.major + 100.0 * found.minor + found.micro


def write_environments(folder: Path) -> None:
    """One of an older scikit-learn, by its requirements, and one of the newest, by its lock."""
    (folder / "new").mkdir(parents=True)
    (folder / "old.txt").write_text("\n".join([f"scikit-learn=={OLD}", *NEEDED]))
    wanted = json.dumps([f"scikit-learn>{OLD}", *NEEDED])
    (folder / "new" / "pyproject.toml").write_text(
        f'[project]\nname = "new"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {wanted}\n'
    )
    run_uv(["lock", "--quiet"], folder=folder / "new", what="lock", where="here")
    assert "hash = " in (folder / "new" / "uv.lock").read_text()


@pytest.fixture(scope="module")
def done(
    make_shop: Callable[[str], Shop], orders: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shop, dict[str, Trained], Run]:
    """A shop whose versions were trained and run."""
    shop = make_shop(orders)
    write_environments(shop.root / "envs")
    (shop.root / "shop" / "releases.py").write_text(CODE)
    stray = tmp_path_factory.mktemp("stray")
    (stray / "stray.py").write_text("")
    config = shop.config(VERSIONS, task="regression", features=["x"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(stray))
        trained = {found.version: found for found in train(config, snapshot=shop.snapshot, home=shop.home)}
        assert [found.error for found in trained.values()] == [None, None]
        found = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    found.check()
    return shop, trained, found


def newest(found: Run) -> str:
    """The release of scikit-learn in the newer environment, as the record says it."""
    return str(found.versions["tells-new"].described["environment"]["packages"]["scikit-learn"])


def test_two_releases_of_scikit_learn_predict_side_by_side_in_one_run(
    done: tuple[Shop, dict[str, Trained], Run],
) -> None:
    shop, _, found = done
    assert Release(newest(found)) > Release(OLD)
    for version, release in {"tells-old": OLD, "tells-new": newest(found)}.items():
        values = {
            record.json["prediction"] for record in read_topic(shop.connection, str(found.versions[version].topic))
        }
        assert values == {number(release)}
        assert found.versions[version].rows == ROWS


def test_a_version_is_trained_in_its_environment(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    _, trained, found = done
    for name, release in {"line-old": OLD, "line-new": newest(found)}.items():
        note = trained[name].note
        assert note is not None
        assert note["scikit_learn"] == note["environment"]["packages"]["scikit-learn"] == release
        assert note["environment"]["file"] == VERSIONS[name]["environment"]


def test_an_estimator_predicts_in_the_release_that_fitted_it(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    _, _, found = done
    x = found.snapshot.scan(found.input.topic, decode=found.config.input.decode).select("_partition", "_offset", "x")
    for name, release in {"line-old": OLD, "line-new": newest(found)}.items():
        both = found.predictions(name).join(
            x, left_on=["source_partition", "source_offset"], right_on=["_partition", "_offset"]
        )
        error = both.select((pl.col("prediction") - (2 * pl.col("x") + number(release))).abs().max()).collect()
        assert error.item() < 1e-8
        assert "InconsistentVersionWarning" not in found.versions[name].log.read_text()


def test_nothing_of_our_environment_is_found_in_theirs(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    _, _, found = done
    assert importlib.metadata.version("mlflow")
    for name in ("tells-old", "tells-new"):
        log = found.versions[name].log.read_text()
        assert "found [] in " in log
        assert "found ['" not in log


def test_the_record_says_what_each_version_ran_in(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    _, _, found = done
    digests = {name: outcome.digests["environment"] for name, outcome in found.versions.items()}
    assert digests["tells-old"] == digests["line-old"]
    assert digests["tells-new"] == digests["line-new"]
    assert digests["tells-old"] != digests["tells-new"]
    own = found.versions["line-old"].described["environment"]
    assert (own["file"], own["packages"]["scikit-learn"]) == ("envs/old.txt", OLD)


def test_the_same_run_is_taken_from_the_record_and_nothing_is_built(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    shop, _, found = done
    told: list[Progress] = []
    again = run(found.config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, progress=told.append)
    assert again.id == found.id
    assert "building" not in {progress.stage for progress in told}


def test_a_package_that_the_environment_lacks_is_the_failure_of_its_version(
    done: tuple[Shop, dict[str, Trained], Run],
) -> None:
    shop, _, _ = done
    versions = {
        "tells-old": VERSIONS["tells-old"],  # computed already
        "bad": {"model": "shop/releases.py:Nothing", "environment": "envs/old.txt"},
    }
    config = shop.config(versions, task="regression", features=["x"])
    found = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert (found.status, found.versions["tells-old"].status) == ("partial", "complete")
    assert "No module named 'mlflow'" in str(found.versions["bad"].error)


def test_an_estimator_whose_environment_has_no_scikit_learn_is_refused_before_anything_is_made(
    done: tuple[Shop, dict[str, Trained], Run],
) -> None:
    shop, _, _ = done
    (shop.root / "envs" / "bare.txt").write_text("numpy\n")
    config = shop.config({"v1": {"model": "models/old.skops", "environment": "envs/bare.txt"}}, task="regression")
    with pytest.raises(
        VersionLoadError, match=r"versions\.v1\.environment: envs/bare\.txt has no scikit-learn"
    ) as caught:
        run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert "lock the release of scikit-learn that it was fitted with" in str(caught.value.hint)


def test_a_program_may_ask_for_the_interpreter_of_a_version(done: tuple[Shop, dict[str, Trained], Run]) -> None:
    from mlstream.versions import resolve_version

    version = resolve_version(done[2].config, "tells-old")
    assert version.python is not None
    assert Path(version.python).is_file()
    with pytest.raises(VersionLoadError, match="version tells-old has an environment of its own"):
        version.load()

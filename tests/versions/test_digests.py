"""What a version's digest covers, and what it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import UnknownVersion, VersionLoadError
from mlstream.versions import Version, resolve_version, surroundings

Experiment = Callable[..., ExperimentConfig]


def digest(config: ExperimentConfig) -> str:
    return resolve_version(config, "v1").digest


def test_the_sources_are_the_module_and_what_it_imports_from_the_project(experiment: Experiment) -> None:
    sources = resolve_version(experiment(), "v1").sources
    assert sources is not None
    # late.py is imported inside a function; types_only.py only for a type checker; unrelated.py not at all
    assert list(sources.files) == [
        "shop/__init__.py",
        "shop/features.py",
        "shop/late.py",
        "shop/model.py",
        "shop/rules.py",
    ]


def test_the_code_digest_is_over_names_and_bytes_and_can_be_recomputed(experiment: Experiment, project: Path) -> None:
    found = resolve_version(experiment(), "v1")
    assert found.sources is not None
    files = {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name in found.sources.files}
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    assert found.code_digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "name", ["shop/model.py", "shop/features.py", "shop/rules.py", "shop/late.py", "shop/__init__.py"]
)
def test_a_byte_more_in_a_source_file_is_another_version(experiment: Experiment, project: Path, name: str) -> None:
    before = digest(experiment())
    path = project / name
    path.write_text(path.read_text() + "#")
    assert digest(experiment()) != before


def test_other_files_of_the_project_do_not_count(experiment: Experiment, project: Path) -> None:
    before = digest(experiment())
    for name in ("shop/unrelated.py", "shop/types_only.py", "data/table.csv", "pyproject.toml"):
        (project / name).write_text("# changed\n")
    (project / "shop/new.py").write_text("")
    assert digest(experiment()) == before


@pytest.mark.parametrize("link", ["shop/late.py", "shop"])
def test_code_that_a_link_brings_into_the_project_counts(
    experiment: Experiment, project: Path, tmp_path: Path, link: str
) -> None:
    config = experiment(model="entry.py:make")
    (project / "entry.py").write_text("from shop.model import make\n")
    before = resolve_version(config, "v1")
    elsewhere = (project / link).rename(tmp_path / f"elsewhere-{Path(link).name}")
    (project / link).symlink_to(elsewhere)
    linked = resolve_version(config, "v1")
    assert linked.digest == before.digest  # the same files under the same names
    late = elsewhere if elsewhere.is_file() else elsewhere / "late.py"
    late.write_text(late.read_text() + "#")
    assert digest(config) != before.digest


def test_parameters_count_whatever_their_order(experiment: Experiment) -> None:
    one = digest(experiment(parameters={"by": 2, "more": [1, {"a": None, "b": 0.1}]}))
    assert one == digest(experiment(parameters={"more": [1, {"b": 0.1, "a": None}], "by": 2}))
    assert one != digest(experiment(parameters={"by": 3, "more": [1, {"a": None, "b": 0.1}]}))
    assert digest(experiment(parameters={"by": 1})) != digest(experiment(parameters={"by": 1.0}))


def test_declared_files_count(experiment: Experiment, project: Path) -> None:
    config = experiment(files=["data/table.csv"])
    assert digest(config) != digest(experiment())
    before = digest(config)
    (project / "data/table.csv").write_text("a,b\n1,3\n")
    assert digest(config) != before


def test_weights_count_by_their_bytes_not_by_their_name(experiment: Experiment, project: Path) -> None:
    for name in ("a.skops", "b.skops"):
        (project / name).write_bytes(b"weights")
    assert digest(experiment(model="a.skops")) == digest(experiment(model="b.skops"))
    found = resolve_version(experiment(model="a.skops"), "v1")
    assert (found.code_digest, found.weights_digest) == (None, hashlib.sha256(b"weights").hexdigest())
    (project / "b.skops").write_bytes(b"Weights")
    assert digest(experiment(model="a.skops")) != digest(experiment(model="b.skops"))


def test_description_and_training_do_not_count(experiment: Experiment) -> None:
    assert digest(experiment(description="the first")) == digest(experiment(train="shop/train.py:fit"))


def test_another_name_in_the_same_file_is_another_version(experiment: Experiment) -> None:
    assert digest(experiment(model="shop/model.py:Scale")) != digest(experiment(model="shop/model.py:make"))


def test_a_path_and_a_dotted_name_of_the_same_code_are_one_version(experiment: Experiment) -> None:
    assert digest(experiment(model="shop.model:make")) == digest(experiment(model="shop/model.py:make"))


def test_another_installed_package_is_another_environment(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resolve_version(experiment(), "v1")
    around = dict(before.environment)
    assert around["packages"]["numpy"]
    other = {**around, "packages": {**around["packages"], "numpy": "0"}}
    monkeypatch.setattr(surroundings, "environment", lambda: other)
    after = resolve_version(experiment(), "v1")
    assert after.environment_digest != before.environment_digest
    assert after.digest != before.digest
    assert after.code_digest == before.code_digest


def test_what_the_record_says_of_a_version_is_plain_json(experiment: Experiment) -> None:
    found = resolve_version(experiment(features=["x"], parameters={"by": 2}), "v1")
    assert isinstance(found, Version)
    described = found.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["digest"] == found.digest
    assert described["features"] == ["x"]
    assert described["sources"]["shop/rules.py"] == hashlib.sha256(b"FACTOR = 1.0\n").hexdigest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "shop/modl.py:make"}, r"versions\.v1\.model: there is no file shop/modl\.py; did you mean 'model"),
        ({"model": "a.skops"}, r"versions\.v1\.model: there is no file a\.skops; paths start at /"),
        (
            {"model": "a.skops", "train": "shop/train.py:fit"},
            r"there is no file a\.skops; make it with `mlstream train .* --snapshot NAME --version v1`",
        ),
        ({"model": "shop.modl:make"}, r"there is no module 'shop\.modl'; modules are looked for in /"),
        ({"model": "../other.py:make"}, r"\.\./other\.py is outside the project"),
        ({"model": "flights@champion"}, r"'flights@champion' is not a model that can be loaded; write"),
        ({"model": "shop/wrong.py:make"}, r"shop/wrong\.py:1: not Python: .*; correct the line"),
        ({"files": ["data/tabel.csv"]}, r"versions\.v1\.files: there is no file data/tabel\.csv; did you mean 'table"),
        ({"files": ["data"]}, r"versions\.v1\.files: data is a folder; name the files in it"),
        ({"parameters": {"by": {1, 2}}}, r"versions\.v1\.parameters: .*set is not JSON serializable"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_key_and_the_fix(
    experiment: Experiment, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(VersionLoadError, match=message):
        resolve_version(experiment(**settings), "v1")


def test_an_unknown_version_names_its_neighbours(experiment: Experiment) -> None:
    with pytest.raises(UnknownVersion, match=r"has no version 'v11'; did you mean 'v1'\?"):
        resolve_version(experiment(), "v11")

"""Loading a version: what it runs is what was digested, and what goes wrong is named."""

from __future__ import annotations

import py_compile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.versions import resolve_version

Experiment = Callable[..., ExperimentConfig]
FRAME = pl.DataFrame({"x": [1.0, 2.0, 4.0]})


def answer(config: ExperimentConfig) -> list[float]:
    return resolve_version(config, "v1").load().predict(FRAME)["prediction"].to_list()


@pytest.mark.parametrize("model", ["shop/model.py:make", "shop.model:make", "shop/model.py:Scale"])
def test_a_factory_or_a_class_is_called_with_the_parameters(experiment: Experiment, model: str) -> None:
    assert answer(experiment(model=model, parameters={"by": 3.0})) == [6.0, 12.0, 24.0]


def test_a_script_may_import_its_neighbours(experiment: Experiment) -> None:
    config = experiment(model="scripts/my-model.py:make")
    assert answer(config) == [1.0, 2.0, 4.0]
    sources = resolve_version(config, "v1").sources
    assert sources is not None
    assert list(sources.files) == ["scripts/my-model.py", "scripts/neighbour.py"]


def test_the_newest_code_runs_even_when_it_changed_within_a_second(experiment: Experiment, project: Path) -> None:
    assert answer(experiment()) == [2.0, 4.0, 8.0]
    (project / "shop/features.py").write_text("def double(x):\n    return x * 5\n")
    assert answer(experiment()) == [5.0, 10.0, 20.0]
    assert not list(project.rglob("*.pyc"))


def test_two_projects_with_modules_of_the_same_name_do_not_mix(
    experiment: Experiment, project: Path, tmp_path: Path
) -> None:
    assert answer(experiment()) == [2.0, 4.0, 8.0]
    other = tmp_path / "other"
    (other / "shop").mkdir(parents=True)
    (other / "shop" / "model.py").write_text("class make:\n    def predict(self, frame):\n        return -frame['x']\n")
    config = experiment().located(other / "c.yaml", other)
    assert answer(config) == [-1.0, -2.0, -4.0]


def test_code_that_hides_from_the_digest_is_refused_until_it_is_declared(experiment: Experiment) -> None:
    with pytest.raises(
        VersionLoadError, match=r"shop/hidden\.py was loaded in a way that its digest does not see.*files:"
    ):
        answer(experiment(model="shop/secret.py:make"))
    assert answer(experiment(model="shop/secret.py:make", files=["shop/hidden.py"])) == [1.0, 2.0, 4.0]


def test_code_that_is_loaded_while_predicting_is_checked_too(experiment: Experiment, project: Path) -> None:
    (project / "shop/secret.py").write_text(
        "import importlib\n\nclass make:\n    def predict(self, frame):\n"
        "        return importlib.import_module('shop.' + 'hidden').M().predict(frame)\n"
    )
    version = resolve_version(experiment(model="shop/secret.py:make"), "v1")
    predictor, account = version.load_spec.load()
    predictor.predict(FRAME)
    with pytest.raises(VersionLoadError, match=r"shop/hidden\.py was loaded in a way"):
        version.load_spec.check(account)


def test_code_behind_a_link_out_of_the_project_is_checked_too(
    experiment: Experiment, project: Path, tmp_path: Path
) -> None:
    elsewhere = (project / "shop/hidden.py").rename(tmp_path / "elsewhere.py")
    (project / "shop/hidden.py").symlink_to(elsewhere)
    with pytest.raises(VersionLoadError, match=r"shop/hidden\.py was loaded in a way"):
        answer(experiment(model="shop/secret.py:make"))
    elsewhere = (project / "shop/rules.py").rename(tmp_path / "rules.py")
    (project / "shop/rules.py").symlink_to(elsewhere)
    version = resolve_version(experiment(), "v1")
    elsewhere.write_text("FACTOR = 2.0\n")
    with pytest.raises(VersionLoadError, match=r"shop/rules\.py changed while the version was being loaded"):
        version.load()


def test_compiled_code_without_its_source_is_refused(experiment: Experiment, project: Path) -> None:
    source = project / "shop/late.py"
    py_compile.compile(str(source), cfile=str(source.with_suffix(".pyc")))
    source.unlink()
    (project / "shop/entry.py").write_text("import shop.late\nfrom shop.model import make\n")
    with pytest.raises(VersionLoadError, match=r"shop/late\.pyc was loaded in a way that its digest does not see"):
        answer(experiment(model="shop/entry.py:make"))


def test_code_that_changes_between_resolving_and_loading_is_refused(experiment: Experiment, project: Path) -> None:
    version = resolve_version(experiment(), "v1")
    (project / "shop/rules.py").write_text("FACTOR = 2.0\n")
    with pytest.raises(VersionLoadError, match=r"shop/rules\.py changed while the version was being loaded; run again"):
        version.load()


def test_a_module_of_an_installed_package_is_digested_without_the_rest(experiment: Experiment) -> None:
    # fractions.py is no project's file, but json and friends are the standard library's: an installed one it must be
    version = resolve_version(experiment(model="sklearn.dummy:DummyClassifier", features=["x"]), "v1")
    assert version.sources is not None
    assert "sklearn/dummy.py" in version.sources.files
    assert all(name.startswith("sklearn/") for name in version.sources.files)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "shop/model.py:mak"}, r"versions\.v1\.model: shop/model\.py has no 'mak'; did you mean 'make'\?"),
        ({"model": "shop/rules.py:make"}, r"versions\.v1\.model: shop/rules\.py has no 'make'; it has: FACTOR"),
        ({"parameters": {"bi": 2}}, r"make\(by: .float. = 1\.0\) -> .Scale. cannot be called with the parameters bi: "
                                    r"got an unexpected keyword argument 'bi'; correct `parameters:`"),
        ({"model": "shop/model.py:plain"}, r"plain\(frame\) cannot be called with the parameters \(none\): missing a "
                                           r"required argument: 'frame'; plain is called once, to make the model: let "
                                           r"it return an object with a method predict\(frame\), or name a class that"),
        ({"model": "shop/model.py:number"}, r"number is a int, which cannot be called; name a function"),
        ({"model": "shop/model.py:nothing"}, r"nothing returned a int, which has no predict\(frame\); return an"),
        ({"model": "shop/model.py:broken"}, r"broken raised RuntimeError at shop/model\.py:\d+: no weights today$"),
        ({"model": "shop/lost.py:make"}, r"importing shop\.lost raised ModuleNotFoundError at shop/lost\.py:1: No "
                                         r"module named 'nowhere'; modules are looked for in /"),
        ({"model": "shop/raises.py:value"}, r"importing shop\.raises raised ZeroDivisionError at shop/raises\.py:3: "),
    ],
)  # fmt: skip
def test_what_goes_wrong_names_the_line_and_the_fix(
    experiment: Experiment, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(VersionLoadError, match=message):
        answer(experiment(**settings))

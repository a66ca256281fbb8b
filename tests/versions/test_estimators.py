"""Fitted scikit-learn estimators in files: what is trusted, and how they are asked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.svm import LinearSVC

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.versions import Predictor, resolve_version
from mlstream.versions import estimator as asking
from mlstream.versions.trusted import TRUSTED_TYPES, dump_estimator

Experiment = Callable[..., ExperimentConfig]
RNG = np.random.default_rng(1)
FRAME = pl.DataFrame(
    {
        "a": RNG.normal(size=90),
        "b": RNG.integers(0, 9, 90),
        "carrier": ["AA", "UA", "B6"] * 30,
        "weekend": [True, False] * 45,
    }
)
LATE = (FRAME["a"] + FRAME["weekend"].cast(pl.Float64) > 0.4).to_numpy()
COLUMNS = FRAME.columns


def encoder() -> Any:
    return make_column_transformer((OneHotEncoder(), ["carrier"]), remainder="passthrough")


def saved(estimator: Any, project: Path, name: str = "m.skops") -> str:
    (project / name).write_bytes(dump_estimator(estimator, name, trust=True, where="v1"))
    return name


def load(config: ExperimentConfig) -> Predictor:
    return resolve_version(config, "v1").load()


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(encoder(), LogisticRegression(max_iter=500)),
        make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=5)),
        make_pipeline(
            make_column_transformer((OrdinalEncoder(), ["carrier"]), remainder="passthrough"),
            HistGradientBoostingClassifier(max_iter=5, categorical_features=[0]),
        ),
    ],
    ids=["logistic", "boosting", "boosting-categorical"],
)
def test_a_pipeline_answers_as_it_does_by_itself(model: Any, experiment: Experiment, project: Path) -> None:
    pandas = FRAME.to_pandas()
    model.fit(pandas, LATE)
    # the features stand in another order than in the fit: they are given by name
    config = experiment(task="binary", model=saved(model, project), features=COLUMNS[::-1])
    found = load(config).predict(FRAME.with_columns(other=pl.lit(1)))
    expected = model.predict_proba(pandas)[:, 1]
    assert found["score"].to_numpy().tobytes() == np.ascontiguousarray(expected).tobytes()
    assert found["prediction"].to_list() == (expected >= 0.5).tolist()


def test_columns_are_those_of_the_fit_when_the_experiment_names_none(experiment: Experiment, project: Path) -> None:
    model = LogisticRegression().fit(FRAME.select("b", "a").to_pandas(), LATE)
    assert load(experiment(task="binary", model=saved(model, project))).features == ("b", "a")


def test_an_estimator_that_was_fitted_on_an_array_gets_an_array(experiment: Experiment, project: Path) -> None:
    array = FRAME.select("a", "b").to_numpy()
    model = LogisticRegression().fit(array, LATE)
    found = load(experiment(task="binary", model=saved(model, project), features=["a", "b"])).predict(FRAME)
    assert found["score"].to_list() == model.predict_proba(array)[:, 1].tolist()


def test_without_probabilities_a_classifier_gives_predictions_only(experiment: Experiment, project: Path) -> None:
    model = LinearSVC().fit(FRAME.select("a", "b").to_pandas(), LATE.astype(float))
    found = load(experiment(task="binary", model=saved(model, project))).predict(FRAME)
    assert found.schema == {"prediction": pl.Boolean}
    assert found["prediction"].to_list() == model.predict(FRAME.select("a", "b").to_pandas()).astype(bool).tolist()


def test_a_regressor_gives_numbers(experiment: Experiment, project: Path) -> None:
    model = RandomForestRegressor(n_estimators=3, random_state=0).fit(FRAME.select("a").to_pandas(), FRAME["b"])
    found = load(experiment(task="regression", model=saved(model, project))).predict(FRAME)
    assert found["prediction"].to_list() == model.predict(FRAME.select("a").to_pandas()).tolist()


def test_several_classes_are_pinned_in_the_order_of_the_scores(experiment: Experiment, project: Path) -> None:
    pandas = FRAME.select("a", "b").to_pandas()
    model = LogisticRegression(max_iter=500).fit(pandas, FRAME["carrier"].to_numpy())
    predictor = load(experiment(task="multiclass", model=saved(model, project)))
    assert predictor.classes == ("AA", "B6", "UA")
    found = predictor.predict(FRAME)
    assert found["prediction"].to_list() == model.predict(pandas).tolist()
    assert found["scores"].to_list() == model.predict_proba(pandas).tolist()


def test_gaps_in_numbers_and_booleans_reach_the_estimator_as_nan(experiment: Experiment, project: Path) -> None:
    gaps = (
        FRAME.select("a", "weekend")
        .with_columns(pl.all().gather_every(1))
        .with_columns(pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.all()).name.keep())
    )
    model = HistGradientBoostingClassifier(max_iter=3).fit(gaps.cast(pl.Float64).to_pandas(), LATE)
    found = load(experiment(task="binary", model=saved(model, project))).predict(gaps)
    assert found["score"].to_list() == model.predict_proba(gaps.cast(pl.Float64).to_pandas())[:, 1].tolist()


def test_a_factory_may_return_an_estimator(experiment: Experiment, project: Path) -> None:
    joblib.dump(LogisticRegression().fit(FRAME.select("a").to_pandas(), LATE), project / "m.joblib")
    (project / "shop/stored.py").write_text(
        "from pathlib import Path\nimport joblib\n\ndef make():\n"
        "    return joblib.load(Path(__file__).parent.parent / 'm.joblib')\n"
    )
    config = experiment(task="binary", model="shop/stored.py:make", files=["m.joblib"])
    assert load(config).predict(FRAME)["score"].len() == FRAME.height


def test_a_pickle_is_refused_unless_it_is_trusted(experiment: Experiment, project: Path) -> None:
    model = LogisticRegression().fit(FRAME.select("a").to_pandas(), LATE)
    name = saved(model, project, "m.joblib")
    with pytest.raises(VersionLoadError, match=r"m\.joblib is a pickle, and reading a pickle runs.*set `trust: true`"):
        resolve_version(experiment(task="binary", model=name), "v1")  # before anything of a run is made
    trusting = resolve_version(experiment(task="binary", model=name, trust=True), "v1").load_spec
    with pytest.raises(VersionLoadError, match=r"m\.joblib is a pickle, and reading a pickle runs"):
        replace(trusting, trust=False).load()
    assert load(experiment(task="binary", model=name, trust=True)).predict(FRAME).height == FRAME.height


def test_a_skops_file_with_a_foreign_type_is_refused_by_its_name(experiment: Experiment, project: Path) -> None:
    model = make_pipeline(FunctionTransformer(pd.isna), LogisticRegression())
    model.fit(FRAME.select("a").to_pandas(), LATE)
    with pytest.raises(VersionLoadError, match=r"holds types that are not trusted: pandas\.\S*isna"):
        dump_estimator(model, "m.skops", trust=False, where="v1")
    saved(model, project)
    with pytest.raises(
        VersionLoadError, match=r"m\.skops holds types that are not trusted: pandas\.\S*isna; set `trust"
    ):
        load(experiment(task="binary", model="m.skops"))
    assert load(experiment(task="binary", model="m.skops", trust=True)).predict(FRAME).height == FRAME.height


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy.lib._datasource", "DataSource"),
        ("numpy", "load"),
        ("os", "system"),
        ("sklearn.utils._testing", "TempMemmap"),
    ],
)
def test_a_type_is_not_trusted_for_the_package_that_it_is_from(
    experiment: Experiment, project: Path, module: str, name: str
) -> None:
    path = project / saved(LogisticRegression().fit(FRAME.select("a").to_pandas(), LATE), project)
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    schema = json.loads(files["schema.json"])
    schema["content"]["content"]["solver"] = {
        "__class__": name, "__module__": module, "__loader__": "ObjectNode", "__id__": 10**15, "content": None
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in {**files, "schema.json": json.dumps(schema).encode()}.items():
            archive.writestr(entry, data)
    with pytest.raises(VersionLoadError, match=rf"not trusted: {module}\.{name}"):
        load(experiment(task="binary", model="m.skops"))


def test_equal_estimators_are_equal_files(project: Path) -> None:
    def fit() -> bytes:
        model = make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=3, random_state=0))
        return dump_estimator(model.fit(FRAME.to_pandas(), LATE), "m.skops", trust=False, where="v1")

    assert fit() == fit()


def test_every_trusted_type_names_one_thing() -> None:
    assert not [name for name in TRUSTED_TYPES if name.endswith(("*", "."))]
    assert "numpy.load" not in TRUSTED_TYPES


@pytest.mark.parametrize("name", ["m.skops", "m.joblib"])
def test_a_file_that_is_no_estimator_is_named(experiment: Experiment, project: Path, name: str) -> None:
    (project / name).write_bytes(b"not a model")
    with pytest.raises(
        VersionLoadError, match=rf"version v1: {name} cannot be read: .*; make it again with the installed"
    ):
        load(experiment(task="binary", model=name, trust=True))


def test_weights_that_change_between_resolving_and_loading_are_refused(experiment: Experiment, project: Path) -> None:
    model = LogisticRegression().fit(FRAME.select("a").to_pandas(), LATE)
    version = resolve_version(experiment(task="binary", model=saved(model, project)), "v1")
    saved(LogisticRegression(C=9).fit(FRAME.select("a").to_pandas(), LATE), project)
    with pytest.raises(VersionLoadError, match=r"m\.skops changed while the version was being loaded"):
        version.load()


@pytest.mark.parametrize(
    ("estimator", "settings", "message"),
    [
        (LogisticRegression(), {}, r"the LogisticRegression is not fitted; fit it, then save it"),
        (
            LogisticRegression().fit(FRAME.select("a", "b").to_pandas(), LATE),
            {"features": ["a", "dest"]},
            r"columns are not those of `features:`: it was fitted on b too and it was not fitted on dest",
        ),
        (
            LogisticRegression().fit(FRAME.select("a", "b").to_numpy(), LATE),
            {},
            r"fitted without column names; write `features:` with its 2 columns",
        ),
        (
            LogisticRegression().fit(FRAME.select("a", "b").to_numpy(), LATE),
            {"features": ["a"]},
            r"fitted on 2 columns, `features:` has 1",
        ),
        (
            LogisticRegression().fit(FRAME.select("a").to_pandas(), np.where(LATE, "late", "on time")),
            {},
            r"fitted on the classes 'late', 'on time'; a binary task has 0 and 1",
        ),
        (FunctionTransformer().fit(FRAME.select("a").to_pandas()), {}, r"a FunctionTransformer has no predict"),
    ],
    ids=["unfitted", "other-columns", "no-names", "too-few", "words", "no-predict"],
)
def test_an_estimator_that_does_not_fit_the_experiment_says_why(
    experiment: Experiment, project: Path, estimator: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(VersionLoadError, match=message):
        load(experiment(task="binary", model=saved(estimator, project), **settings))


def test_named_columns_need_pandas_where_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = LogisticRegression().fit(FRAME.select("a", "b").to_pandas(), LATE)
    monkeypatch.setattr(asking, "find_spec", lambda name: None if name == "pandas" else name)
    with pytest.raises(
        VersionLoadError, match=r"v1: the LogisticRegression was .* environment has no pandas; add pandas"
    ):
        asking.estimator_predictor(fitted, version="v1", task="binary", features=None, threshold=0.5, where="v1")


@pytest.mark.parametrize("task", ["ranking", "quantile", "regression"])
def test_where_the_answer_is_a_number_a_classifier_is_asked_for_its_prediction(
    task: str, experiment: Experiment, project: Path
) -> None:
    model = make_pipeline(encoder(), LogisticRegression(max_iter=500))
    grade = FRAME["b"].to_numpy() % 3
    model.fit(FRAME.to_pandas(), grade)
    config = experiment(model=saved(model, project), features=COLUMNS)
    found = load(config.model_copy(update={"task": task})).predict(FRAME)
    assert found.columns == ["prediction"]
    assert found["prediction"].to_list() == model.predict(FRAME.to_pandas()).tolist()

"""How the three versions are trained: `mlstream train configs/flights.yaml --snapshot NAME` calls these functions.

Each gets the frozen snapshot and the experiment's configuration, and returns what `mlstream train` writes to the
version's file: a fitted scikit-learn estimator, or a dict (JSON). Features, label and the columns that join them come
from the configuration. Flights without a landing (cancelled or diverted) and flights that are not yet due at the end
of the snapshot are left out, in training as in the comparison.

The estimators are fitted on pandas frames, because that is what a version's estimator is given, and on one thread: sums
in the same order on every machine, and no threads that spin for each other on busy cores.

Features and settings were chosen by training on some months of January to September and scoring the others.
docs/demo.md says what October to December, which the comparison is about, has been looked at for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mlstream import MlstreamError
from pipelines.flights.rule import Table

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlstream import ExperimentConfig, Snapshot

SMOOTHING = 50
NAMES = ("carrier", "origin", "dest")
# Numbers whose effect does not grow with them: a logistic regression needs one coefficient for each of their values.
STEPS = ("hour", "weekday")


def late_rate(snapshot: Snapshot, config: ExperimentConfig) -> Table:
    """v1: count flights and late flights by carrier and hour of scheduled departure."""
    flights, late = examples(snapshot, config, features=("carrier", "hour"))
    return count(flights, late)


def logistic(snapshot: Snapshot, config: ExperimentConfig) -> Pipeline:
    """v2: a logistic regression over one-hot names and scaled numbers."""
    return fit_logistic(*examples(snapshot, config))


def boosting(snapshot: Snapshot, config: ExperimentConfig) -> Pipeline:
    """v3: gradient-boosted trees over the same features."""
    return fit_boosting(*examples(snapshot, config), seed=config.seed)


def examples(
    snapshot: Snapshot, config: ExperimentConfig, *, features: tuple[str, ...] | None = None
) -> tuple[pl.DataFrame, pl.Series]:
    """The features and the labels (`late`, bool) of the records of `snapshot` that are due and have one, in order.

    Args:
        snapshot: holds the input topic and the topic of the labels.
        config: says what they are, how they are decoded and what joins them.
        features: the columns to return; the experiment's when None.

    Raises:
        MlstreamError: the configuration has no labels from another topic or no features, or no record has a label.
    """
    labels, chosen = config.labels, features if features is not None else config.features
    if labels is None or labels.topic is None or chosen is None:
        raise MlstreamError(
            f"experiment {config.experiment}: training needs features and labels",
            hint="add `features:`, and `labels:` with `topic:` and `on:`, as in configs/flights.yaml",
        )
    truth = snapshot.scan(labels.topic, decode=labels.decode)
    records = snapshot.scan(config.input.topic, decode=config.input.decode)
    if labels.within is not None:
        # Of flights whose time is not up, those on time have landed and late ones have not: leave out both.
        last = truth.select(pl.col("_timestamp").max()).collect().item()
        records = records.filter(pl.col("_timestamp").dt.offset_by(labels.within) <= last)
    found = (
        records.join(truth.select(*labels.on, late=pl.sql_expr(labels.value)), on=labels.on, how="inner")
        .drop_nulls("late")
        .sort("_partition", "_offset")
        .select(*chosen, "late")
        .collect()
    )
    if found.is_empty():
        raise MlstreamError(
            f"snapshot {snapshot.name}: no record of {config.input.topic} has a label in {labels.topic}",
            hint="freeze both topics over the same time",
        )
    return found.select(chosen), found["late"]


def count(flights: pl.DataFrame, late: pl.Series) -> Table:
    """The table of `rule.py`, from the columns `carrier` and `hour` and whether each flight came late."""
    groups = (
        flights.select("carrier", "hour", late=late)
        .group_by("carrier", "hour")
        .agg(flights=pl.len(), late=pl.col("late").sum())
        .sort("carrier", "hour")
    )
    table: Table = {"flights": flights.height, "late": int(late.sum()), "smoothing": SMOOTHING, "hours": {}}
    for row in groups.iter_rows(named=True):
        hours = table["hours"].setdefault(row["carrier"], {})
        hours[str(row["hour"])] = {"flights": row["flights"], "late": row["late"]}
    return table


def fit_logistic(flights: pl.DataFrame, late: pl.Series) -> Pipeline:
    """A logistic regression over `flights`: names and steps one-hot, other numbers scaled. Deterministic."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    one_hot = [name for name in flights.columns if name in (*NAMES, *STEPS)]
    scaled = [name for name in flights.columns if name not in one_hot]
    # Airports with fewer than 20 flights share a column; so does an airport that training has not seen.
    encoder = OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist")
    columns = ColumnTransformer([("one-hot", encoder, one_hot), ("scaled", StandardScaler(), scaled)])
    return _fitted(Pipeline([("columns", columns), ("model", LogisticRegression(max_iter=500))]), flights, late)


def fit_boosting(flights: pl.DataFrame, late: pl.Series, *, seed: int) -> Pipeline:
    """Gradient-boosted trees over `flights`: names as ordinals, numbers as they are."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    names = [name for name in flights.columns if name in NAMES]
    numbers = [name for name in flights.columns if name not in names]
    # A name that training has not seen is a missing value, which trees have a branch for.
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("ordinal", encoder, names), ("as they are", "passthrough", numbers)])
    # Names as native categories were no better, and add functions to the model's file that a loader must trust.
    trees = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.05,
        max_leaf_nodes=31,
        min_samples_leaf=500,
        l2_regularization=10.0,
        early_stopping=False,
        random_state=seed,
    )
    return _fitted(Pipeline([("columns", columns), ("model", trees)]), flights, late)


def _fitted(model: Pipeline, flights: pl.DataFrame, late: pl.Series) -> Pipeline:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        return model.fit(flights.to_pandas(), late.to_numpy())

"""What `runs.py` runs: a topic of ticks, its snapshot, and a project with a rule and two fitted models."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.ticks import ticks
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.snapshots.capture import snapshot
from mlstream.snapshots.snapshot import Snapshot
from mlstream.streams.publish import publish
from mlstream.versions.trusted import dump_estimator

PARTITIONS = 4
FEATURES = ["price", "volume", "sequence"]
COLUMNS = {"price": "float", "volume": "int", "sequence": "int", "symbol": "string"}
ITERATIONS = 50
VERSIONS = ("rule", "logistic", "boosting")
_AT_ONCE = 500_000
RULE = """\
class Rule:
    def predict(self, frame):
        return frame["price"] * frame["volume"] > 250_000.0
"""


@dataclass(frozen=True, slots=True)
class Project:
    """Where the benchmark works.

    Attributes:
        folder: of the project; the fitted models are there as skops files and pickles.
        home: snapshots and runs.
        connection: the cluster.
        models: the fitted models.
    """

    folder: Path
    home: Home
    connection: Connection
    models: dict[str, Any]

    @classmethod
    def make(cls, folder: Path, home: Home, connection: Connection) -> Project:
        """Write the project's files and fit its models."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        folder.mkdir()
        (folder / "pyproject.toml").write_text("")
        (folder / "rules.py").write_text(RULE)
        table = decoded(50_000).to_pandas()
        noise = np.random.default_rng(5).lognormal(sigma=0.5, size=len(table))
        dear = (table["price"] * table["volume"] * noise > 250_000).to_numpy()
        models = {
            "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
            "boosting": HistGradientBoostingClassifier(max_iter=ITERATIONS, early_stopping=False),
        }
        for name, model in models.items():
            model.fit(table, dear)
            (folder / f"{name}.skops").write_bytes(dump_estimator(model, f"{name}.skops", trust=False, where=name))
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(model))
        return cls(folder, home, connection, models)

    def config(self, topic: str) -> ExperimentConfig:
        """The experiment over a topic."""
        config = ExperimentConfig.model_validate(
            {
                "experiment": f"bench-{topic}",
                "input": {"topic": topic, "decode": {"columns": COLUMNS}},
                "features": FEATURES,
                "versions": {
                    "rule": {"model": "rules.py:Rule"},
                    "logistic": {"model": "logistic.skops"},
                    "boosting": {"model": "boosting.skops"},
                },
            }
        )
        return config.located(self.folder / f"{topic}.yaml", self.folder)

    def freeze(self, topic: str) -> Snapshot:
        """The topic as a snapshot of its name."""
        return snapshot(topic, topics=[topic], connection=self.connection, home=self.home)


def decoded(records: int, *, first: int = 0) -> pl.DataFrame:
    """The features of ticks, as a model gets them."""
    values = ticks(records, seed=first)["value"].cast(pl.String)
    schema = pl.Struct({"price": pl.Float64, "volume": pl.Int64, "sequence": pl.Int64})
    return values.str.json_decode(schema).struct.unnest().select(FEATURES)


def fill(connection: Connection, topic: str, records: int) -> None:
    """A topic with so many ticks."""
    for first in range(0, records, _AT_ONCE):
        frame = ticks(min(_AT_ONCE, records - first), seed=first)
        part = (pl.int_range(frame.height, eager=True) % PARTITIONS).alias("partition")
        publish(topic, frame.with_columns(part), partitions=PARTITIONS, connection=connection, codec="lz4")

"""A small experiment on a real broker, run once: parcels that arrive late or not, and three versions that guess."""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlstream import Run, open_run, publish, run, snapshot
from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.runs.record import write_record

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

ROWS = 3000
START_MS = 1_380_585_600_000
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
LOST = 40  # every 40th parcel has no label
LAST_LABEL_MS = START_MS + 48 * HOUR_MS
MODELS = '''\
"""Three guesses at whether a parcel is late."""

import numpy as np


class Guess:
    def __init__(self, weight=1.0, fails=False):
        self.weight = weight
        self.fails = fails

    def predict(self, frame):
        if self.fails:
            raise RuntimeError("the model has had enough")
        x, noise = frame["x"].to_numpy(), frame["noise"].to_numpy()
        return 1 / (1 + np.exp(-(self.weight * x + noise)))
'''
VERSIONS: dict[str, dict[str, Any]] = {
    "v1": {"model": "guess.py:Guess", "parameters": {"weight": 0.3}},
    "v2": {"model": "guess.py:Guess", "parameters": {"weight": 1.5}},
    "v3": {"model": "guess.py:Guess", "parameters": {"weight": 0.3, "fails": False}},
}


@dataclass(frozen=True)
class Project:
    """Where the experiment is, and its run.

    Attributes:
        late: the truth of every parcel, by its number.
    """

    root: Path
    home: Home
    connection: Connection
    topics: tuple[str, str]
    late: np.ndarray
    done: Run

    def config(self, versions: dict[str, dict[str, Any]] | None = None, **settings: Any) -> ExperimentConfig:
        """The experiment, in its file."""
        values = {
            "experiment": f"parcels-{self.topics[0][-8:]}",
            "question": "Will this parcel arrive late?",
            "input": {
                "topic": self.topics[0],
                "decode": {"columns": {"parcel": "int", "x": "float", "noise": "float"}},
            },
            "labels": {
                "topic": self.topics[1],
                "decode": {"columns": {"parcel": "int", "delay": "float"}},
                "on": ["parcel"],
                "value": "delay > 0",
                "within": "6h",
                "missing": "exclude",
                "reason": "lost parcels never arrive",
            },
            "features": ["x", "noise"],
            "margins": {"accuracy": 0.005},
            "bootstrap": {"resamples": 400},
            **settings,
            "versions": VERSIONS if versions is None else versions,
        }
        path = self.root / "parcels.yaml"
        path.write_text(json.dumps(values))  # JSON is YAML
        return ExperimentConfig.model_validate(values).located(path, self.root)

    def run(self, versions: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Run:
        """Run it."""
        return run(self.config(versions, **settings), snapshot="parcels", connection=self.connection, home=self.home)


_MADE: dict[tuple[str, ...], Project] = {}


def make_project(connection: Connection, folder: Path) -> Project:
    """The project of this broker: topics written, frozen together, three versions run. Made once, for tests to read."""
    if connection.bootstrap_servers not in _MADE:
        _MADE[connection.bootstrap_servers] = _make(connection, folder)
    return _MADE[connection.bootstrap_servers]


def copy_project(made: Project, home: Home, root: Path | None = None) -> Project:
    """The project in a home and a folder of a test's own, without what others compared; the record follows."""
    shutil.copytree(made.home.path, home.path, ignore=shutil.ignore_patterns("comparisons", "mlflow*", "mlartifacts"))
    if root is not None:
        shutil.copytree(made.root, root, ignore=shutil.ignore_patterns("__pycache__"))
        write_record(home, made.done.to_dict() | {"config_path": str(root / "parcels.yaml"), "root": str(root)})
    return replace(made, home=home, root=root or made.root, done=open_run(made.done.id, home=home))


def _make(connection: Connection, folder: Path) -> Project:
    rng = np.random.default_rng(7)
    parcel = np.arange(ROWS)
    x, noise = rng.normal(size=ROWS), rng.normal(size=ROWS)
    delay = x + rng.logistic(size=ROWS)
    sent_ms = START_MS + parcel * MINUTE_MS
    parcels = pl.DataFrame({"parcel": parcel, "x": x, "noise": noise, "sent": sent_ms})
    arrivals = pl.DataFrame({"parcel": parcel, "delay": delay, "arrived": sent_ms + 2 * HOUR_MS}).filter(
        (pl.col("parcel") % LOST != 0) & (pl.col("arrived") <= LAST_LABEL_MS)
    )
    token = secrets.token_hex(4)
    names = (f"parcels-{token}", f"arrivals-{token}")
    for topic, frame, time in ((names[0], parcels, "sent"), (names[1], arrivals, "arrived")):
        rows = frame.select(
            value=pl.struct(pl.exclude(time)).struct.json_encode(),
            timestamp=pl.col(time).cast(pl.Datetime("ms", "UTC")),
            partition=pl.int_range(pl.len()) % 3,
        )
        publish(topic, rows, partitions=3, connection=connection)
    root = folder / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("")
    (root / "guess.py").write_text(MODELS)
    home = Home(folder / "home")
    snapshot("parcels", topics=list(names), connection=connection, home=home)
    made = Project(root, home, connection, names, delay > 0, None)  # type: ignore[arg-type]
    return Project(root, home, connection, names, delay > 0, made.run())

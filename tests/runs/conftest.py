"""A small project with good and bad models, a topic with records, and its snapshot in a home."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from mlstream.config import ExperimentConfig
from mlstream.home import Home

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

ROWS = 700
FIRST_MS = 1_380_585_600_000
MODELS = '''\
"""Models that behave and models that do not."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from shop.weights import FACTOR


class Linear:
    """A score from x, in full precision: exact operations only, for a sine may depend on a row's place in the batch."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        scaled = frame["x"].to_numpy() * self.by * FACTOR
        return scaled - np.floor(scaled)


class Values:
    """A float from a table of awkward ones."""

    TABLE = np.array([0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, -1e-9, 123456789012345680.0, 1e22])

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        return pl.Series(self.TABLE[frame["n"].to_numpy() % len(self.TABLE)])


class Sorts:
    """Three classes with their scores."""

    classes = ["small", "middle", "large"]

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        n = frame["n"].to_numpy()
        counts = np.column_stack([n % 3, n % 5 + 0.1, n % 7])
        return counts / (counts[:, 0] + counts[:, 1] + counts[:, 2])[:, None]


class Bad(Linear):
    """Goes wrong at the first record whose n is at least `at`."""

    def __init__(self, how: str, at: int = 300) -> None:
        super().__init__()
        self.how = how
        self.at = at

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = super().predict(frame)
        bad = frame["n"].to_numpy() >= self.at
        if not bad.any():
            return found
        print("about to go wrong:", self.how, flush=True)
        if self.how == "raise":
            raise RuntimeError("the model has had enough")
        if self.how == "short":
            return found[:-1]
        if self.how == "nan":
            found[bad] = np.nan
        if self.how == "over":
            found[bad] = 1.5
        if self.how == "exit":
            os._exit(7)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return found


class Noisy(Linear):
    """Prints, reads standard input, leaves a thread and a child behind."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        import subprocess
        import threading

        print("standard input:", repr(sys.stdin.read()))
        print("threads:", os.environ["OMP_NUM_THREADS"], "hash seed:", os.environ["PYTHONHASHSEED"])
        print("random:", np.random.random())
        threading.Thread(target=time.sleep, args=(60,)).start()
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
        return super().predict(frame)


class Waits(Linear):
    """Waits in each batch until a file is there."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = Path(file)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        while not self.file.exists():
            time.sleep(0.02)
        return super().predict(frame)
'''


@dataclass(frozen=True)
class Shop:
    """Where a test works: a project, a home, a topic and the name of its snapshot."""

    root: Path
    home: Home
    connection: Connection
    topic: str
    snapshot: str = "orders-q4"

    def config(self, versions: dict[str, dict[str, Any]], **settings: Any) -> ExperimentConfig:
        """An experiment of the project, in its file."""
        path = self.root / "configs" / "shop.yaml"
        values = {
            "experiment": f"shop-{self.topic[-8:]}",
            "input": {"topic": self.topic, "decode": {"columns": {"x": "float", "n": "int", "s": "string"}}},
            "features": ["x", "n"],
            "batch_rows": 64,
            "seed": 11,
            **settings,
            "versions": versions,
        }
        path.write_text(json.dumps(values))  # JSON is YAML
        return ExperimentConfig.model_validate(values).located(path, self.root)


def frame() -> pl.DataFrame:
    """The records: three partitions, one of them nearly empty; keys, event times, a null key."""
    n = pl.int_range(ROWS, eager=True)
    return pl.DataFrame({"n": n}).select(
        value=pl.struct(x=pl.col("n") / 7, n="n", s=pl.format("s{}", "n")).struct.json_encode(),
        key=pl.when(pl.col("n") % 50 == 0).then(None).otherwise(pl.format("k{}", pl.col("n") % 13)),
        timestamp=(FIRST_MS + pl.col("n") * 1000).cast(pl.Datetime("ms", "UTC")),
        partition=pl.when(pl.col("n") % 97 == 0).then(2).otherwise(pl.col("n") % 2),
    )


TRAINING = '''\
"""How models are trained."""

from shop.weights import FACTOR


def boosting(snapshot, config):
    from sklearn.ensemble import HistGradientBoostingClassifier

    print("training on", snapshot.name)
    frame = snapshot.scan(config.input.topic, decode=config.input.decode).collect()
    model = HistGradientBoostingClassifier(max_iter=5, max_depth=2)
    return model.fit(frame.select(config.features).to_pandas(), frame["n"].to_numpy() % 3 == 0)


def table(snapshot, config):
    return {"factor": FACTOR, "rows": snapshot.rows, "seed": config.seed}


def nothing(snapshot, config):
    return None


def broken(snapshot, config):
    raise LookupError("no labels in this snapshot")
'''
TABLE = '''\
"""A model that reads a table."""

import json
from pathlib import Path

import polars as pl


class Table:
    def __init__(self, file: str) -> None:
        self.table = json.loads((Path(__file__).parents[1] / file).read_text())

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        return frame["x"] * 0 + self.table["factor"]
'''


def write_project(root: Path) -> Path:
    """The project's files."""
    (root / "shop").mkdir(parents=True)
    (root / "configs").mkdir()
    (root / "pyproject.toml").write_text("")
    (root / "shop" / "models.py").write_text(MODELS)
    (root / "shop" / "training.py").write_text(TRAINING)
    (root / "shop" / "table.py").write_text(TABLE)
    (root / "shop" / "weights.py").write_text("FACTOR = 0.7310585786300049\n")
    return root


@pytest.fixture(scope="session")
def orders(broker: Connection) -> str:
    """A topic with the records of `frame`, written once."""
    from mlstream import publish

    topic = f"orders-{secrets.token_hex(4)}"
    publish(topic, frame(), partitions=3, connection=broker)
    return topic


@pytest.fixture(scope="session")
def make_shop(broker: Connection, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shop]:
    """A project and a home with a snapshot of a topic."""
    from mlstream import snapshot

    def make(topic: str) -> Shop:
        folder = tmp_path_factory.mktemp("shop")
        shop = Shop(write_project(folder / "project"), Home(folder / "home"), broker, topic)
        snapshot(shop.snapshot, topics=[topic], connection=broker, home=shop.home)
        return shop

    return make


@pytest.fixture
def shop(make_shop: Callable[[str], Shop], orders: str) -> Shop:
    """A shop of the test's own over the common topic."""
    return make_shop(orders)

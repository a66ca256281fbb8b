"""What a process of its own costs a model: `python benchmarks/host.py`.

A batch is asked of the model in this process, of its host with the columns copied through a pipe, and of its host with
the view's file mapped; beside them `multiprocessing`'s own way, which pickles a pandas frame there and an array back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Line, Report, show
from mlstream.config import ExperimentConfig
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec
from mlstream.versions import resolve_version
from mlstream.versions.loading import LoadSpec
from mlstream.versions.trusted import dump_estimator

ROWS = 10_000
COLUMNS = [f"x{number}" for number in range(8)]
GOAL_MS = 1.0
GOAL_SHARE = 0.1
MODELS = """\
import numpy as np


class Nothing:
    def predict(self, frame):
        return np.zeros(frame.height)
"""


def project(folder: Path) -> ExperimentConfig:
    """An experiment with a model that does nothing, and boosted trees of 50 iterations."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    (folder / "pyproject.toml").write_text("")
    (folder / "models.py").write_text(MODELS)
    draw = np.random.default_rng(7)
    table = pl.DataFrame({name: draw.random(20_000) for name in COLUMNS}).to_pandas()
    trees = HistGradientBoostingClassifier(max_iter=50, early_stopping=False)
    trees.fit(table, table.sum(axis=1) + draw.normal(size=len(table)) > len(COLUMNS) / 2)
    (folder / "trees.skops").write_bytes(dump_estimator(trees, "trees.skops", trust=False, where="trees"))
    config = ExperimentConfig.model_validate(
        {
            "experiment": "host",
            "input": {"topic": "ticks"},
            "features": COLUMNS,
            "versions": {"nothing": {"model": "models.py:Nothing"}, "boosting": {"model": "trees.skops"}},
        }
    )
    return config.located(folder / "host.yaml", folder)


def batches(count: int) -> pl.DataFrame:
    """Rows of all batches."""
    draw = np.random.default_rng(11)
    return pl.DataFrame({name: draw.random(count * ROWS) for name in COLUMNS})


def serve_pickles(connection: Connection, told: LoadSpec) -> None:
    """What `multiprocessing` gives: a pickled table in, a pickled frame out."""
    model, _ = told.load()
    while (table := connection.recv()) is not None:
        connection.send(model.predict(pl.from_pandas(table)))


def each_ms(ask: Callable[[int], object], count: int) -> list[float]:
    """How long each batch takes; the first tenth is left out."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        ask(number)
        found.append((time.perf_counter() - began) * 1e3)
    return found[count // 10 :]


def measure_one(config: ExperimentConfig, name: str, file: Path, rows: pl.DataFrame, count: int) -> list[Line]:
    """One version, asked in every way. They take turns, so that a busy moment hits all of them."""
    version = resolve_version(config, name)
    here = version.load()
    context = multiprocessing.get_context("spawn")  # a fork would hang in OpenMP, which this process has used
    near, far = context.Pipe()
    pickles = context.Process(target=serve_pickles, args=(far, version.load_spec))
    pickles.start()

    def by_pickle(number: int) -> object:
        near.send(rows.slice(number * ROWS, ROWS).to_pandas())
        return near.recv()

    with Host(HostSpec(load=version.load_spec)) as host:
        host.load()
        ways: dict[str, Callable[[int], object]] = {
            "in this process": lambda number: here.predict(rows.slice(number * ROWS, ROWS)),
            "its host, copied": lambda number: host.predict(rows.slice(number * ROWS, ROWS)),
            "its host, mapped": lambda number: host.predict_rows(file, number * ROWS, ROWS),
            "multiprocessing, pickled": by_pickle,
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        with threadpool_limits(1):
            for _ in range(3):
                for way, ask in ways.items():
                    times[way] += each_ms(ask, count)
        host.finish()
    near.send(None)
    pickles.join()
    base = statistics.median(times["in this process"])
    lines = []
    for way, found in times.items():
        median = statistics.median(found)
        note = "" if way == "in this process" else f"{median - base:+.2f} ms"
        lines.append(Line(f"{name}, {way}", median, "ms a batch", median / base, note))
    return lines


def measure(*, count: int) -> Report:
    """Both models."""
    with tempfile.TemporaryDirectory() as folder:
        config = project(Path(folder))
        rows = batches(count)
        file = Path(folder) / "0.arrow"
        table = rows.to_arrow()
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table, max_chunksize=65_536)
        nothing = measure_one(config, "nothing", file, rows, count)
        boosting = measure_one(config, "boosting", file, rows, count)
    goals = []
    for number, way in ((1, "copied"), (2, "mapped")):
        added = nothing[number].figure - nothing[0].figure
        goals.append((f"a host adds under {GOAL_MS} ms to a batch, {way}", added < GOAL_MS))
        share = boosting[number].figure / boosting[0].figure - 1
        goals.append((f"a host adds under {GOAL_SHARE:.0%} to gradient boosting, {way}", share < GOAL_SHARE))
    title = f"a model in a process of its own: batches of {ROWS:,} rows x {len(COLUMNS)} float columns, median"
    return Report(title, (*nothing, *boosting), goals)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100, help="in each of three turns")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that are started, as in a run
    show(measure(count=options.batches), as_json=options.json)

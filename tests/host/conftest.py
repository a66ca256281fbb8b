"""A project of models that behave and models that do not, and hosts of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pytest

from mlstream.config import ExperimentConfig
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec, Limits
from mlstream.versions import Record, resolve_version
from tests.versions.conftest import _imports

__all__ = ["_imports"]  # loading a version is global to a process: each test gives back what it found

ROWS = 1000
FIRST = Record("orders", 2, 1200)
LIMITS = Limits(timeout_s=60)
COORDINATES = ("_partition", "_offset", "_timestamp", "_key")
MODELS = '''\
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl


class Plain:
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["x"].to_numpy() / frame["n"].max()


class Sorts:
    classes = ["small", "large"]

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        share = (frame["n"].to_numpy() % 7) / 7
        return np.column_stack([share, 1 - share])


class Tells(Plain):
    """Writes what it sees of its process to a file."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = {
            "environment": dict(os.environ),
            "columns": frame.columns,
            "modules": sorted(sys.modules),
            "path": sys.path,
            "random": float(np.random.random()),
            "stdin": sys.stdin.read(),
            "folder": os.getcwd(),
            "mlstream": sys.modules["mlstream"].__file__,
            "argv": sys.argv[1:],
        }
        self.file.write_text(json.dumps(found))
        return super().predict(frame)


class Loud(Plain):
    """Prints in every way there is, and leaves a child behind whose number it prints."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        print("printed")
        sys.stderr.write("on standard error\\n")
        os.write(1, b"mlsh" + b"\\xff" * 100 + b"\\n")
        subprocess.run(["echo", "from a child"], check=True)
        print("child:", subprocess.Popen(["sleep", "600"]).pid)
        return super().predict(frame)


class Bad(Plain):
    """Goes wrong in the way that is asked for, in the batch after `after` good ones."""

    def __init__(self, how: str, after: int = 0) -> None:
        self.how = how
        self.after = after

    def predict(self, frame: pl.DataFrame) -> object:
        found = super().predict(frame)
        self.after -= 1
        if self.after >= 0:
            return found
        print("about to go wrong:", self.how)
        return getattr(self, self.how)(found)

    def short(self, found):
        return found[:-1]

    def nan(self, found):
        found[3] = np.nan
        return found

    def words(self, found):
        return np.array(["a"] * len(found))

    def nothing(self, found):
        return None

    def raises(self, found):
        raise LookupError("no such customer")

    def leaves(self, found):
        sys.exit("enough")

    def ends(self, found):
        os._exit(7)

    def kills(self, found):
        os.kill(os.getpid(), signal.SIGKILL)

    def aborts(self, found):
        os.abort()

    def crashes(self, found):
        ctypes.string_at(0)

    def babbles(self, found):
        for descriptor in range(3, 1024):  # as many as the tests may have open
            try:
                os.write(descriptor, b"what is this?" * 10)
            except OSError:
                pass
        return found

    def closes(self, found):
        os.closerange(3, 1024)
        print("closed")
        time.sleep(600)

    def sleeps(self, found):
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)

    def spins(self, found):
        return sum(itertools.repeat(1))  # one call that lets no other thread run

    def eats(self, found):
        kept = []
        while True:
            kept.append(np.ones(1_000_000))
            time.sleep(0.001)

    def feeds(self, found):
        code = "import time; kept = bytearray(b'x') * 600_000_000; time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", code])
        time.sleep(600)


def broken() -> Plain:
    raise RuntimeError("no weights today")


def endless() -> Plain:
    time.sleep(600)
    return Plain()


class Late(Plain):
    """Loads a file of the project that no import statement names."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        import importlib

        importlib.import_module("shop." + "hidden")
        return super().predict(frame)
'''


class MakeHost(Protocol):
    """Makes a loaded host of a model in `shop/models.py`."""

    def __call__(
        self,
        model: str,
        parameters: dict[str, Any] | None = None,
        *,
        limits: Limits = ...,
        load: bool = True,
        features: list[str] | None = None,
        **settings: Any,
    ) -> Host: ...


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The root of the project."""
    root = tmp_path / "project"
    (root / "shop").mkdir(parents=True)
    (root / "pyproject.toml").write_text("")
    (root / "shop" / "__init__.py").write_text("")
    (root / "shop" / "hidden.py").write_text("")
    (root / "shop" / "models.py").write_text(MODELS)
    return root


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of the hosts."""
    return tmp_path / "v1.log"


@pytest.fixture
def make_spec(project: Path) -> Callable[..., HostSpec]:
    """What a host of a model in `shop/models.py` is told."""

    def make(
        model: str,
        parameters: dict[str, Any] | None = None,
        *,
        features: list[str] | None = None,
        task: str = "regression",
        seed: int = 11,
    ) -> HostSpec:
        config = ExperimentConfig.model_validate(
            {
                "experiment": "shop",
                "task": task,
                "input": {"topic": "orders"},
                "features": features,
                "versions": {"v1": {"model": f"shop/models.py:{model}", "parameters": parameters or {}}},
            }
        ).located(project / "shop.yaml", project)
        return HostSpec(load=resolve_version(config, "v1").load_spec, seed=seed, leave_out=COORDINATES)

    return make


@pytest.fixture
def make_host(make_spec: Callable[..., HostSpec], log: Path) -> Iterator[MakeHost]:
    """Hosts that end with the test."""
    with ExitStack() as stack:

        def make(
            model: str,
            parameters: dict[str, Any] | None = None,
            *,
            limits: Limits = LIMITS,
            load: bool = True,
            features: list[str] | None = None,
            **settings: Any,
        ) -> Host:
            told = {name: settings.pop(name) for name in ("task", "seed") if name in settings}
            spec = make_spec(model, parameters, features=features, **told)
            host = stack.enter_context(Host(spec, limits=limits, log=log, **settings))
            if load:
                host.load()
            return host

        yield make


def frame(rows: int = ROWS, start: int = 0) -> pl.DataFrame:
    """Rows as a view has them."""
    n = np.arange(start, start + rows)
    return pl.DataFrame(
        {
            "_partition": pl.Series(np.full(rows, 2, np.int32)),
            "_offset": pl.Series(1200 + n),
            "_timestamp": pl.Series(1_700_000_000_000 + n).cast(pl.Datetime("ms", "UTC")),
            "_key": pl.Series([b"k%d" % number for number in n], dtype=pl.Binary),
            "x": np.sin(n) * 1e9,
            "n": n + 1,
            "s": [None if number % 5 == 0 else f"ö{number}" for number in n],
        }
    )

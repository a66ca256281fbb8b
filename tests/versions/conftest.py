"""A small project on the disk, and its experiment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlstream.config import ExperimentConfig


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    """Loading a version is global to a process; each test gives back what it found."""
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:] = path
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if not name.startswith(("sklearn", "scipy", "pandas", "skops", "joblib", "numpy", "polars", "pyarrow")):
            sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The root of a project: a package `shop` with a model, what it imports, and data."""
    root = tmp_path / "project"
    files = {
        "pyproject.toml": "",
        "shop/__init__.py": "",
        "shop/model.py": """\
from __future__ import annotations
from typing import TYPE_CHECKING
import polars as pl
from shop.features import double
from . import rules
if TYPE_CHECKING:
    from shop import types_only

class Scale:
    def __init__(self, by: float = 1.0) -> None:
        self.by = by
    def predict(self, frame: pl.DataFrame) -> pl.Series:
        from shop.late import shift
        return double(frame["x"]) * self.by * rules.FACTOR + shift()

def make(by: float = 1.0) -> Scale:
    return Scale(by)

def broken() -> Scale:
    raise RuntimeError("no weights today")

def plain(frame):
    return frame["x"]

def nothing() -> int:
    return 3

number = 7
""",
        "shop/features.py": "def double(x):\n    return x * 2\n",
        "shop/rules.py": "FACTOR = 1.0\n",
        "shop/late.py": "def shift():\n    return 0.0\n",
        "shop/types_only.py": "",
        "shop/unrelated.py": "",
        "shop/secret.py": "import importlib\n\ndef make():\n"
        "    return importlib.import_module('shop.' + 'hidden').M()\n",
        "shop/hidden.py": "class M:\n    def predict(self, frame):\n        return frame['x']\n",
        "shop/wrong.py": "def make(:\n",
        "shop/lost.py": "import nowhere\n\nmake = nowhere.make\n",
        "shop/raises.py": "import shop.features\n\nvalue = 1 / 0\n",
        "scripts/my-model.py": "from neighbour import M\n\ndef make():\n    return M()\n",
        "scripts/neighbour.py": "class M:\n    def predict(self, frame):\n        return frame['x']\n",
        "data/table.csv": "a,b\n1,2\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def experiment(project: Path) -> Callable[..., ExperimentConfig]:
    """An experiment of that project with one version, `v1`."""

    def make(*, task: str = "regression", features: list[str] | None = None, **version: Any) -> ExperimentConfig:
        settings = {"model": "shop/model.py:make", **version}
        config = ExperimentConfig.model_validate(
            {
                "experiment": "shop",
                "task": task,
                "input": {"topic": "orders"},
                "features": features,
                "versions": {"v1": settings},
            }
        )
        return config.located(project / "configs" / "shop.yaml", project)

    return make

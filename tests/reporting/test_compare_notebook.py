"""notebooks/compare.ipynb: runs from the first cell to the last in a real kernel; docs/compare.md is a copy of it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlstream.broker.connection import Connection
from mlstream.home import Home
from mlstream.reporting.kept import list_comparisons

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "compare.ipynb"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """docs/render_notebook.py."""
    spec = importlib.util.spec_from_file_location("render_notebook", ROOT / "docs" / "render_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(kind: str) -> list[str]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


@pytest.mark.broker
@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what runs kernels
def test_the_notebook_runs_and_shows_what_it_found(
    render: ModuleType, broker: Connection, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTREAM_BOOTSTRAP_SERVERS", ",".join(broker.bootstrap_servers))
    monkeypatch.setenv("MLSTREAM_HOME", str(home.path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOK.parent, folder)
    done: Any = render.execute(folder / NOTEBOOK.name, folder)
    (found,) = list_comparisons(home)
    page = render.rendered(done, tmp_path / "images")
    assert "- v2 is better than v1 on all 3 metrics." in page
    assert found.id[:12] in page
    assert page.count("▲ **better**") == 3
    pictures = list((tmp_path / "images").iterdir())
    assert [picture.read_bytes()[:4] for picture in pictures] == [b"\x89PNG"]
    shown = [
        output.data.get("text/html", "")
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert sum('class="mlstream"' in html for html in shown) == 3  # snapshot, run, comparison


def test_the_notebook_is_stored_without_outputs() -> None:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_rendered_copy_is_of_this_notebook() -> None:
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    at = 0
    for source in cells("markdown") + cells("code"):
        assert source in page
    for source in cells("code"):
        at = page.index(f"```python\n{source}\n```", at)

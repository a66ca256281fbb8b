"""Run notebooks/compare.ipynb and write what it shows to docs/compare.md, with its pictures in docs/images/.

    python docs/render_notebook.py

Needs a Kafka (`mlstream broker up`, or MLSTREAM_BOOTSTRAP_SERVERS). Of what a cell shows, Markdown is taken before a
picture and a picture before text, since that is what a page of Markdown can show.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "compare.ipynb"
PAGE = ROOT / "docs" / "compare.md"


def execute(path: Path, folder: Path) -> Any:
    """The notebook with its outputs, run in a folder; raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def rendered(notebook: Any, images: Path) -> str:
    """The notebook as Markdown; pictures are written to `images`."""
    parts = ["<!-- Written by docs/render_notebook.py from notebooks/compare.ipynb. -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for number, output in enumerate(cell.outputs):
            shown = _shown(output, images / f"{cell.id}-{number}.png")
            if shown:
                parts.append(shown)
    return "\n\n".join(parts) + "\n"


def _shown(output: Any, image: Path) -> str:
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "text/markdown" in data:
        return str(data["text/markdown"])
    if "image/png" in data:
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(base64.b64decode(data["image/png"]))
        return f"![what the cell above shows](images/{image.name})"
    return f"```text\n{data['text/plain']}\n```" if "text/plain" in data else ""


def main() -> None:
    os.environ.setdefault("POLARS_FMT_MAX_COLS", "-1")
    os.environ.setdefault("POLARS_TABLE_WIDTH", "110")
    PAGE.write_text(rendered(execute(NOTEBOOK, NOTEBOOK.parent), PAGE.parent / "images"), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

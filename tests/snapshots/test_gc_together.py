"""gc beside other processes, and processes that are killed: nothing that is referred to is lost, nothing is half.

`MLSTREAM_GC_ROUNDS` makes the long test longer.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.capture import freeze, select
from mlstream.snapshots.gc import collect_garbage, find_garbage
from mlstream.snapshots.publishing import Publication
from mlstream.snapshots.snapshot import Snapshot, list_snapshots, open_snapshot
from mlstream.snapshots.store import Store
from tests.snapshots.kafka import Sent, produce, servers
from tests.snapshots.making import make_snapshot, plain

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("MLSTREAM_GC_ROUNDS", "3"))

Part = subprocess.Popen[str]


@contextmanager
def part(name: str, home: Home, *arguments: object, leases: bool = True) -> Iterator[Part]:
    """A process that plays a part (gc_parts.py), ended at the end."""
    environment = {key: value for key, value in os.environ.items() if key != "MLSTREAM_TEST_NO_LEASES"}
    if not leases:
        environment["MLSTREAM_TEST_NO_LEASES"] = "1"
    command = [sys.executable, "-m", "tests.snapshots.gc_parts", name, str(home.path), *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: Part) -> tuple[int, str]:
    """Let it go on, and wait for its exit code and its last words."""
    said, _ = process.communicate("\n", timeout=120)
    return process.returncode, said.strip()


def paused(process: Part) -> None:
    """Wait until it has stopped where the test wants it."""
    assert process.stdout is not None
    assert process.stdout.readline() == "paused\n"


def gc(home: Home, *, step: int = -1, leases: bool = True) -> int:
    """A gc in a process of its own, killed at a deletion; its exit code."""
    with part("gc", home, step, leases=leases) as process:
        return ended(process)[0]


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.path.rglob("*") if path.is_file() and path.suffix != ".lock")


@pytest.fixture
def publication(tmp_path: Path) -> Path:
    """A snapshot of another store, ready to be published as `new`, in a file."""
    made = make_snapshot(Home(tmp_path / "elsewhere"), "new", {"t": {0: plain(50)}})
    store = made.store
    ready = Publication(
        snapshot_id=made.id,
        name="new",
        objects={digest: store.object(digest) for digest in made.storage.objects},
        sizes={digest: found.size_bytes for digest, found in made.storage.objects.items()},
        manifest=store.read(store.manifest(made.id)),
        storage=store.read(store.storage(made.id)),
        cut=store.read(store.cuts(made.id)[0]),
        created_at_ms=1_700_000_000_000,
    )
    path = tmp_path / "publication"
    path.write_bytes(pickle.dumps(ready))
    return path


def test_gc_killed_at_any_deletion_leaves_every_snapshot_whole_and_the_next_one_does_the_rest(tmp_path: Path) -> None:
    def fresh(name: str) -> tuple[Home, Snapshot]:
        home = Home(tmp_path / name)
        kept = make_snapshot(home, "kept", {"t": {0: plain(10)}})
        for old in ("old", "older"):
            make_snapshot(home, old, {"t": {0: plain(10)}, "u": {0: plain(20), 1: plain(len(old))}})
            (home.path / "refs" / old).unlink()
        return home, kept

    home, kept = fresh("undisturbed")
    assert gc(home) == 0
    expected = names(home)
    for step in range(100):
        home, kept = fresh(f"killed-{step}")
        before = {snapshot.id for snapshot in list_snapshots(home)}
        code = gc(home, step=step)
        for snapshot_id in Store(home).ids():
            open_snapshot(snapshot_id, home=home).verify(deep=True)
        assert open_snapshot("kept", home=home) == kept
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert len(before) == 3
        assert gc(home) == 0
        assert [name[:64] for name in names(home) if "-" not in name] == [n[:64] for n in expected if "-" not in n]
        assert find_garbage(Store(home)).empty
    assert step == 9  # of two snapshots: the manifest, the storage map, the cut; and three objects


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("leases", [True, False], ids=["with-leases", "control"])
def test_gc_spares_what_is_being_published_and_the_checker_sees_it_when_it_does_not(
    home: Home, publication: Path, step: int, leases: bool
) -> None:
    with part("publish", home, publication, step) as process:
        paused(process)
        assert gc(home, leases=leases) == 0
        code, _ = ended(process)
    whole = True
    try:
        open_snapshot("new", home=home).verify(deep=True)
    except IntegrityError:
        whole = False
    # 0: nothing is there yet; 1 to 3: the object, the storage map, the cut are
    assert (code, whole) == (0, leases or step == 0)


def test_gc_waits_while_a_name_is_given(home: Home, publication: Path) -> None:
    with part("publish", home, publication, 4) as process:
        paused(process)  # in the gate, with everything there but the name
        with part("gc", home, -1) as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(2)
            assert (home.path / "manifests").is_dir()
            assert not (home.path / "refs" / "new").exists()
            assert ended(process)[0] == 0
            assert ended(other)[0] == 0
    open_snapshot("new", home=home).verify(deep=True)


@pytest.mark.parametrize("step", range(5))
def test_a_publisher_that_is_killed_holds_nothing_any_more(home: Home, publication: Path, step: int) -> None:
    kept = make_snapshot(home, "kept", {"t": {0: plain(10)}})
    before = names(home)
    with part("publish", home, publication, step) as process:
        paused(process)
        process.kill()
    collect_garbage(kept.store)
    assert names(home) == before
    assert kept.verify(deep=True).rows == 10


@pytest.fixture
def grown(client: Client, broker: Connection, topic: str) -> Callable[[int], None]:
    """Make the test's topic, and send it that many records."""

    def send(count: int) -> None:
        create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
        produce(broker, topic, [Sent(b"%d" % number) for number in range(count)])

    return send


@pytest.mark.broker
@pytest.mark.parametrize("point", ["reuse", "publish"])
@pytest.mark.parametrize("leases", [True, False], ids=["with-leases", "control"])
def test_a_freeze_keeps_what_it_builds_on_though_gc_runs_and_no_name_covers_it(
    home: Home,
    broker: Connection,
    client: Client,
    topic: str,
    grown: Callable[[int], None],
    point: str,
    leases: bool,
) -> None:
    grown(2000)
    base = freeze(client, Store(home), "base", select([f"{topic}@0..1000"])).snapshot
    (home.path / "refs" / "base").unlink()
    with part("freeze", home, servers(broker), topic, 2000, "new", point) as process:
        paused(process)
        assert gc(home, leases=leases) == 0
        assert base.store.manifest(base.id).exists() is leases
        code, said = ended(process)
    if leases:
        assert (code, said) == (0, "1000")  # rows that it took over
        assert open_snapshot("new", home=home).verify(deep=True).rows == 2000
    else:
        assert code == 1  # it noticed, and published nothing
        assert list_snapshots(home) == []


@pytest.mark.broker
def test_creating_collecting_and_verifying_at_once_loses_nothing(
    home: Home, broker: Connection, topic: str, grown: Callable[[int], None]
) -> None:
    grown(1000 * ROUNDS)
    made = (home, servers(broker), topic)
    with (
        part("collect", home) as first,
        part("collect", home) as second,
        part("check", home) as checker,
        part("create", *made, "a", ROUNDS) as one,
        part("create", *made, "b", ROUNDS) as other,
    ):
        created = [ended(process) for process in (one, other)]
        collected = [ended(process) for process in (first, second)]
        checked = ended(checker)
    assert [code for code, _ in (*created, *collected, checked)] == [0] * 5
    assert sum(int(said.split()[0]) for _, said in collected) > ROUNDS  # they ran all the time
    assert sum(int(said.split()[1]) for _, said in collected) > 0  # and found something
    assert sum(int(said) for _, said in created) > 0  # so did the freezes, to build on
    collect_garbage(Store(home))
    (last,) = list_snapshots(home)  # the same content has the same id
    assert last.names == (f"a-{ROUNDS - 1}", f"b-{ROUNDS - 1}")
    assert last.verify(deep=True).rows == 1000 * ROUNDS
    used = {path.name for path in (home.path / "objects").rglob("*") if path.is_file()}
    assert used == set(last.storage.objects)

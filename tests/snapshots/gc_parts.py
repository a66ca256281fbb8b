"""Processes that share a store with a gc: what they do is real, where they stop or die is the test's. No test is here.

    python -m tests.snapshots.gc_parts gc HOME STEP        gc; killed at the STEP-th deletion (-1: never)
    python -m tests.snapshots.gc_parts publish HOME FILE STEP
                                                           publish the pickled publication in FILE; before the STEP-th
                                                           rename say "paused" and wait for a line on stdin
    python -m tests.snapshots.gc_parts freeze HOME SERVERS TOPIC STOP NAME POINT
                                                           freeze [0, STOP) of TOPIC; pause at POINT:
                                                           reuse (what it builds on is chosen) or publish
    python -m tests.snapshots.gc_parts create HOME SERVERS TOPIC PREFIX ROUNDS
                                                           freeze growing ranges as PREFIX-0, PREFIX-1, …, each when
                                                           the name of the one that it builds on is gone
    python -m tests.snapshots.gc_parts collect HOME        gc, again and again, until stdin ends
    python -m tests.snapshots.gc_parts check HOME          verify every named snapshot, again and again, until then

With MLSTREAM_TEST_NO_LEASES a gc sees no lease: the negative control. What goes wrong ends the process with 1.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlstream.errors import IntegrityError, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots import documents, publishing, references, store
from mlstream.snapshots.gc import collect_garbage


def main(part: str, home: str, *rest: str) -> None:
    """Play a part."""
    if "MLSTREAM_TEST_NO_LEASES" in os.environ:
        references.live_leases = lambda root: []  # type: ignore[attr-defined]
    PARTS[part](store.Store(Home(Path(home))), *rest)


def gc(opened: store.Store, step: str) -> None:
    at, real, deletions = int(step), os.unlink, 0

    def counted(path: Any, **kwargs: Any) -> None:
        nonlocal deletions
        if not str(path).endswith(".lock"):
            if deletions == at:
                os.kill(os.getpid(), signal.SIGKILL)
            deletions += 1
        real(path, **kwargs)

    os.unlink = counted
    collect_garbage(opened)


def publish(opened: store.Store, file: str, step: str) -> None:
    publication = pickle.loads(Path(file).read_bytes())
    at, real, renames = int(step), documents.move_into_place, 0

    def counted(file: Path, target: Path, *, mode: int) -> None:
        nonlocal renames
        if renames == at:
            _pause()
        renames += 1
        real(file, target, mode=mode)

    documents.move_into_place = counted
    with opened.claim(publication.name), opened.staging() as staged:
        objects = {}
        for digest, path in publication.objects.items():
            objects[digest] = staged / digest
            objects[digest].write_bytes(path.read_bytes())
        fields = {name: getattr(publication, name) for name in publication.__slots__}
        publishing.publish(opened, publishing.Publication(**{**fields, "objects": objects}), staged=staged)


def freeze(opened: store.Store, servers: str, topic: str, stop: str, name: str, point: str) -> None:
    from mlstream.snapshots import capture

    attribute = {"reuse": "find_reuse", "publish": "publish"}[point]
    real = getattr(capture, attribute)

    def paused(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs) if point == "reuse" else None
        _pause()
        return found if point == "reuse" else real(*args, **kwargs)

    setattr(capture, attribute, paused)
    print(_freeze(opened, servers, f"{topic}@0..{stop}", name).reused, flush=True)


def create(opened: store.Store, servers: str, topic: str, prefix: str, rounds: str) -> None:
    from mlstream.snapshots.names import remove

    before, reused = None, 0
    for number in range(int(rounds)):
        name = f"{prefix}-{number}"
        if before is not None:
            remove(opened, [before])  # from here on gc may take what the next one builds on
        frozen = _freeze(opened, servers, f"{topic}@0..{1000 * (number + 1)}", name)
        _verify(opened, name)
        before, reused = name, reused + frozen.reused
    print(reused, flush=True)


def collect(opened: store.Store) -> None:
    snapshots = rounds = 0
    while not _ended():
        snapshots += len(collect_garbage(opened).snapshots)
        rounds += 1
    print(rounds, snapshots, flush=True)


def check(opened: store.Store) -> None:
    checked = 0
    while not _ended():
        for name in opened.refs():
            checked += _verify(opened, name)
    print(checked, flush=True)


def _freeze(opened: store.Store, servers: str, topic: str, name: str) -> Any:
    from mlstream.broker.client import Client
    from mlstream.broker.connection import Connection
    from mlstream.snapshots import capture

    with Client(Connection(bootstrap_servers=tuple(servers.split(",")), settings={})) as client:
        return capture.freeze(client, opened, name, capture.select([topic]))


def _verify(opened: store.Store, name: str) -> bool:
    """Whether a name stood for a snapshot; if it did, every row of it must be there."""
    from mlstream.snapshots.snapshot import open_snapshot

    try:
        found = open_snapshot(name, home=opened.home)
        with opened.in_use(found.id, "checking"):
            found.verify(deep=True)
    except UnknownSnapshot:
        return False  # its name was taken away
    except IntegrityError:
        if name in opened.refs():
            raise
        return False  # the manifest went between the name and its reading
    return True


def _pause() -> None:
    print("paused", flush=True)
    sys.stdin.readline()


def _ended() -> bool:
    """Whether the test has had enough; a moment's rest between two rounds, so that others get through the gate."""
    return bool(select.select([sys.stdin], [], [], 0.02)[0])


PARTS: dict[str, Callable[..., None]] = {
    "gc": gc,
    "publish": publish,
    "freeze": freeze,
    "create": create,
    "collect": collect,
    "check": check,
}

if __name__ == "__main__":
    main(*sys.argv[1:])

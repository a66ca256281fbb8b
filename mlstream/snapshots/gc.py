"""Delete what nothing refers to: the only code of the package that deletes data. leases.py has the protocol.

A snapshot stays when a name, a protection, a run, a comparison or a live lease refers to it; with it stay the objects
that its storage map mentions. Everything else of the store goes: manifests, storage maps, cuts, protections that have
run out, records of restores, objects, entries of the index, views, and what dead processes left. When something that
is needed to tell cannot be read, nothing is deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstream.errors import IntegrityError, StoreError
from mlstream.snapshots.damage import marks
from mlstream.snapshots.documents import flush_folder
from mlstream.snapshots.leases import clear_dead_leases
from mlstream.snapshots.references import References, digests_in, references
from mlstream.snapshots.store import Store, store_error

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DOCUMENTS = ("storage", "cuts", "keeps")  # folders of documents that begin with their snapshot's id


@dataclass(frozen=True, slots=True)
class Gone:
    """A snapshot to which nothing refers. What it was: None or empty where its documents do not say.

    Attributes:
        names: what it was called when it was frozen.
    """

    snapshot_id: str
    names: tuple[str, ...]
    topics: tuple[str, ...]
    rows: int | None


@dataclass(frozen=True, slots=True)
class Stays:
    """A snapshot that stays, and everything that refers to it, in words."""

    snapshot_id: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Garbage:
    """What a gc deletes, and what stays.

    Attributes:
        snapshots: those that go.
        stays: those that stay.
        objects: digest → bytes, of objects that no snapshot uses.
        documents: storage maps, cuts, protections and restores of snapshots that go, or that never came to be.
        index: entries of the index for such snapshots, for rows that no snapshot holds, and for objects that go.
        views: folders of decoded columns whose records no snapshot holds.
        leftovers: folders of work that dead processes left, and of pulls of which nothing was heard for a day.
    """

    snapshots: tuple[Gone, ...]
    stays: tuple[Stays, ...]
    objects: dict[str, int]
    documents: tuple[Path, ...]
    index: tuple[Path, ...]
    views: tuple[Path, ...]
    leftovers: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        """What the objects take."""
        return sum(self.objects.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to delete."""
        return not (self.snapshots or self.objects or self.documents or self.index or self.views or self.leftovers)


def find_garbage(store: Store) -> Garbage:
    """What a gc would delete now. Deletes nothing and waits for nobody.

    Raises:
        IntegrityError: something that is needed to tell is missing or damaged; the hint says what to do.
        StoreError: the store cannot be read, or is not a folder.
    """
    if store.home.url is not None:
        raise StoreError(
            f"{store.home.url}: gc works in a store that is a folder",
            hint="push what should stay to another URL (`mlstream snapshot push NAME URL`), and delete this one",
        )
    try:
        return _find_garbage(store)
    except OSError as exc:
        raise store_error(store.path, exc) from exc


def collect_garbage(store: Store) -> Garbage:
    """Delete what nothing refers to, and say what that was. Killed at any point, it leaves every snapshot whole.

    Raises:
        IntegrityError: something that is needed to tell is missing or damaged; nothing was deleted.
        StoreError: the store cannot be read or written, or is not a folder.
    """
    # 6. shut the gate
    with store.gate():
        # 7. read what is referred to
        garbage = find_garbage(store)
        # 8. delete
        try:
            _delete(store, garbage)
        except OSError as exc:
            raise store_error(store.path, exc) from exc
    # 9. the gate is open; what dead processes left is nobody's
    store.clear_leftovers()
    return garbage


def _find_garbage(store: Store) -> Garbage:
    ids = set(store.ids())
    documents = [(path, path.name[:64]) for folder in _DOCUMENTS for path in (store.path / folder).glob("*.json")]
    known = ids.union(snapshot_id for _, snapshot_id in documents)
    found = references(store, known)
    live = {*found.why, *found.leased}
    used = {*found.leased_objects, *_used(store, found, live)}
    cuts = _by_snapshot(path for path, _ in documents if path.parent.name == "cuts")
    return Garbage(
        snapshots=tuple(_describe(store, each, cuts.get(each, [])) for each in sorted(ids - live)),
        stays=tuple(Stays(each, found.reasons(each)) for each in sorted(live.intersection(known))),
        objects={digest: size for digest, size in _objects(store) if digest not in used},
        documents=(
            *sorted(path for path, snapshot_id in documents if snapshot_id not in live),
            *_stale_restores(store, live),
        ),
        index=tuple(sorted(_stale_entries(store, live, used))),
        views=tuple(_stale_views(store, live)),
        leftovers=tuple(store.leftovers()),
    )


def _used(store: Store, found: References, live: set[str]) -> Iterator[str]:
    """Every digest that a document of a snapshot that stays mentions: more than its objects, never less."""
    for snapshot_id in sorted(live):
        path = store.storage(snapshot_id)
        try:
            data = store.read(path)
            document = json.loads(data)
            if document["snapshot"] != snapshot_id or not isinstance(document["objects"], dict):
                raise ValueError("it is the storage map of something else")
        except (IntegrityError, ValueError, KeyError, TypeError) as exc:
            if snapshot_id not in found.why:
                continue  # only leased: it is about to be published, and its objects are held by themselves
            raise IntegrityError(
                f"storage/{snapshot_id}.json cannot be read, so nobody can say which objects it needs: {exc}",
                hint=f"restore it from a copy, or take away what refers to it: {', '.join(found.why[snapshot_id])}",
                snapshot_id=snapshot_id,
            ) from exc
        yield from digests_in(data)
        with suppress(IntegrityError):
            yield from digests_in(store.read(store.manifest(snapshot_id)))


def _objects(store: Store) -> Iterator[tuple[str, int]]:
    for path in (store.path / "objects").glob("??/*"):
        if _DIGEST.fullmatch(path.name) is not None:
            with suppress(FileNotFoundError):
                yield path.name, path.stat().st_size


def _stale_entries(store: Store, live: set[str], used: set[str]) -> Iterator[Path]:
    """Entries of the index for snapshots, objects and rows that go, and those that do not say what they are for."""
    yield from (path for path in store.index.glob("streams/*/*/*/*.json") if path.stem not in live)
    yield from (path for path in marks(store.index) if path.name not in used)
    entries = list(store.index.glob("schemas/*/*.json"))
    rows = {digest for snapshot_id in live for digest in _records(store, snapshot_id)} if entries else set()
    for path in entries:
        try:
            stale = rows.isdisjoint(json.loads(path.read_bytes())["cells"])
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            stale = True
        if stale:
            yield path


def _records(store: Store, snapshot_id: str) -> Iterator[str]:
    """The records digests of a snapshot's cells, as far as its storage map can be read."""
    with suppress(IntegrityError, ValueError, KeyError, TypeError):
        for stream in json.loads(store.read(store.storage(snapshot_id)))["streams"]:
            for part in stream["partitions"]:
                for cell in part["cells"]:
                    yield hashlib.sha256(bytes.fromhex(cell["positions"] + cell["payloads"])).hexdigest()


def _stale_restores(store: Store, live: set[str]) -> Iterator[Path]:
    """Records of restores of snapshots that go, each before its table; and tables without a record."""
    folder = store.path / "restores"
    gone = set()
    for path in sorted(folder.glob("*.json")):
        with suppress(IntegrityError, ValueError, KeyError, TypeError):  # one that cannot be read stays
            if json.loads(store.read(path))["snapshot"] not in live:
                gone.add(path)
                yield path
    for path in sorted(folder.glob("*.parquet")):
        record = path.with_suffix(".json")
        if record in gone or not record.exists():
            yield path


def _stale_views(store: Store, live: set[str]) -> Iterator[Path]:
    """Views whose records no snapshot that stays holds, and those that do not say whose they decode."""
    folders = sorted(path for path in store.views.glob("*") if path.is_dir())
    roots: set[tuple[str, str]] = set()
    for snapshot_id in live if folders else ():
        with suppress(IntegrityError, ValueError, KeyError, TypeError):
            manifest = json.loads(store.read(store.manifest(snapshot_id)))
            roots.update(
                (str(part["partition"]), part["root"])
                for stream in manifest["streams"]
                for part in stream["partitions"]
            )
    for folder in folders:
        try:
            records: dict[str, Any] = json.loads((folder / "view.json").read_bytes())["records"]
            stale = not roots.issuperset(records.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            stale = True
        if stale:
            yield folder


def _by_snapshot(cuts: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(cuts):
        found.setdefault(path.name[:64], []).append(path)
    return found


def _describe(store: Store, snapshot_id: str, cuts: Iterable[Path]) -> Gone:
    """What its documents say of a snapshot, as far as they can be read."""
    names: dict[str, None] = {}
    for path in cuts:
        with suppress(IntegrityError, ValueError, KeyError, TypeError):
            names[str(json.loads(store.read(path))["name"])] = None
    try:
        streams = json.loads(store.read(store.manifest(snapshot_id)))["streams"]
        topics = tuple(str(stream["topic"]) for stream in streams)
        rows = sum(int(part["rows"]) for stream in streams for part in stream["partitions"])
    except (IntegrityError, ValueError, KeyError, TypeError):
        return Gone(snapshot_id, tuple(names), (), None)
    return Gone(snapshot_id, tuple(names), topics, rows)


def _delete(store: Store, garbage: Garbage) -> None:
    # what is derived: no freeze finds the snapshots any more
    for folder in garbage.views:
        (folder / "view.json").unlink(missing_ok=True)  # without it there is no view
        shutil.rmtree(folder, ignore_errors=True)
    _unlink(garbage.index)
    for path in garbage.index:
        with suppress(OSError):
            path.parent.rmdir()  # as far as they are empty
            path.parent.parent.rmdir()
    # the manifests: from here on the snapshots do not exist, also after a power cut
    manifests = [store.manifest(gone.snapshot_id) for gone in garbage.snapshots]
    _unlink(manifests)
    if manifests:
        flush_folder(manifests[0].parent)
    # what belonged to them
    _unlink(garbage.documents)
    _unlink(store.object(digest) for digest in garbage.objects)
    clear_dead_leases(store.path)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)

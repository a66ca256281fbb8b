"""All snapshots of a store, a line each, quickly: what each holds comes from a summary of the small documents.

    index/listing.json      for each snapshot: sizes and times of the documents that were read, and what was read

A summary is used as long as the documents have the sizes and times that it was made from; what it lacks is read anew
and added to it. It is derived: without it the list is the same. Imports neither pyarrow nor polars.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstream.errors import IntegrityError
from mlstream.snapshots.manifest import FORMAT, parse_content
from mlstream.snapshots.protection import kept_until
from mlstream.snapshots.store import Store, store_error

_OBJECTS = b'{"format":%d,"objects":{' % FORMAT
_SUMMARY = 1  # raise it when a summary holds something else
_KEYS = {"stamp", "complete", "rows", "topics", "files", "tables", "size_bytes", "cut_at_ms"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One snapshot in the list.

    Attributes:
        names: all its names, in order.
        rows: records of all topics.
        topics: in the manifest's order.
        files, tables: how many it holds.
        size_bytes: what its objects take; None when the storage map is missing or damaged (`verify` says how).
        cut_at_ms: when it was frozen last, ms since 1970; None when no cut is there.
        kept_until_ms: until when it is protected; None when it is not.
    """

    id: str
    names: tuple[str, ...]
    complete: bool
    rows: int
    topics: tuple[str, ...]
    files: int
    tables: int
    size_bytes: int | None
    cut_at_ms: int | None
    kept_until_ms: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The snapshots of a store, the newest cut first; and those whose manifest is damaged: id → what is wrong."""

    entries: tuple[Entry, ...]
    damaged: dict[str, str]


def list_entries(store: Store) -> Listing:
    """All snapshots of a store.

    Raises:
        IntegrityError: a name holds no id.
        StoreError: the store cannot be read.
    """
    try:
        return _list(store)
    except OSError as exc:
        raise store_error(store.path, exc) from exc


def _list(store: Store) -> Listing:
    path = store.index / "listing.json"
    before = _read_summaries(path)
    cuts = store.last_cuts()
    found: dict[str, dict[str, Any]] = {}
    damaged: dict[str, str] = {}
    for snapshot_id in store.ids():
        cut = cuts.get(snapshot_id)
        stamp = [*_stamp(store.manifest(snapshot_id)), *_stamp(store.storage(snapshot_id)), cut.name if cut else None]
        known = before.get(snapshot_id)
        if known is None or known["stamp"] != stamp:
            try:
                known = {"stamp": stamp, **_summary(store, snapshot_id, cut)}
            except IntegrityError as exc:
                damaged[snapshot_id] = exc.message
                continue
        found[snapshot_id] = known
    if found != before:
        _write_summaries(path, found)
    names: dict[str, list[str]] = {}
    for name, snapshot_id in store.refs().items():
        names.setdefault(snapshot_id, []).append(name)
    now_ms = time.time_ns() // 1_000_000
    kept = {snapshot_id: until for snapshot_id, until in kept_until(store).items() if until > now_ms}
    entries = [
        Entry(
            id=snapshot_id,
            names=tuple(names.get(snapshot_id, ())),
            complete=known["complete"],
            rows=known["rows"],
            topics=tuple(known["topics"]),
            files=known["files"],
            tables=known["tables"],
            size_bytes=known["size_bytes"],
            cut_at_ms=known["cut_at_ms"],
            kept_until_ms=kept.get(snapshot_id),
        )
        for snapshot_id, known in found.items()
    ]
    entries.sort(key=lambda entry: (-(entry.cut_at_ms or 0), entry.names, entry.id))
    return Listing(tuple(entries), damaged)


def _summary(store: Store, snapshot_id: str, cut: Path | None) -> dict[str, Any]:
    """What the list says of a snapshot, from its documents.

    Raises:
        IntegrityError: the manifest is damaged.
    """
    data = store.read(store.manifest(snapshot_id))
    try:
        if hashlib.sha256(data).hexdigest() != snapshot_id:
            raise ValueError("it is not what its name says")
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise ValueError("another format")
        return {
            "complete": bool(content["complete"]),
            "rows": sum(int(part["rows"]) for stream in content["streams"] for part in stream["partitions"]),
            "topics": [str(stream["topic"]) for stream in content["streams"]],
            "files": len(content["files"]),
            "tables": len(content["tables"]),
            "size_bytes": _stored_bytes(store, snapshot_id),
            "cut_at_ms": None if cut is None else _cut_at_ms(store, cut),
        }
    except (ValueError, KeyError, TypeError):
        parse_content(data, snapshot_id)  # says what is wrong with it
        raise IntegrityError(f"manifests/{snapshot_id}.json: not a manifest") from None


def _stored_bytes(store: Store, snapshot_id: str) -> int | None:
    try:
        data = store.read(store.storage(snapshot_id))
        # As `Storage.to_bytes` writes it the objects come first, and the long list of cells need not be parsed.
        end = data.find(b'},"snapshot":')
        if data.startswith(_OBJECTS) and data.endswith(b"}") and end > 0:
            objects = json.loads(data[len(_OBJECTS) - 1 : end + 1])
        else:
            objects = json.loads(data)["objects"]
        return sum(int(found["size_bytes"]) for found in objects.values())
    except (IntegrityError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _cut_at_ms(store: Store, cut: Path) -> int | None:
    try:
        return int(json.loads(store.read(cut))["created_at_ms"])
    except (IntegrityError, ValueError, KeyError, TypeError):
        return None


def _stamp(path: Path) -> Iterator[int | None]:
    try:
        found = os.stat(path)
        yield from (found.st_mtime_ns, found.st_size)
    except FileNotFoundError:
        yield from (None, None)


def _read_summaries(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
        if document["format"] == _SUMMARY:
            return {each: found for each, found in document["snapshots"].items() if found.keys() == _KEYS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not there, or damaged: made anew
    return {}


def _write_summaries(path: Path, found: dict[str, dict[str, Any]]) -> None:
    # Where it cannot be written the next list takes as long as this one.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"format": _SUMMARY, "snapshots": found}), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()

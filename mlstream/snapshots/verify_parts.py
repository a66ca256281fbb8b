"""What is wrong with single objects, tables and names of a store, and what of a snapshot needs an object.

Reads; changes nothing but the marks of damaged objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mlstream.errors import IntegrityError, MlstreamError, UnknownSnapshot
from mlstream.snapshots.content import TableContent
from mlstream.snapshots.findings import Finding
from mlstream.snapshots.forms import Form, form_problem
from mlstream.snapshots.manifest import Content
from mlstream.snapshots.storage import Piece, Storage, StoredTable
from mlstream.snapshots.store import Store
from mlstream.snapshots.tables import check_table, read_table_rows
from mlstream.snapshots.verify_rows import UNREADABLE

_READ_BYTES = 1 << 20


def object_problem(store: Store, digest: str, size_bytes: int) -> str | None:
    """What is wrong with an object; None when it is there and has the bytes of its name.

    One with other bytes is marked: it counts as not there until it is mended.
    """
    found = hashlib.sha256()
    size = 0
    try:
        with store.obtain_anew(digest).open("rb", buffering=0) as file:
            while block := file.read(_READ_BYTES):
                found.update(block)
                size += len(block)
    except OSError as exc:
        store.mark(digest, damaged=True)
        return f"it cannot be read: {exc.strerror or exc}"
    except MlstreamError as exc:
        if store.mirror is not None and isinstance(exc, IntegrityError):  # here, one that is missing needs no mark
            store.mark(digest, damaged=True)
        return problem_of(exc, f"object {digest}")
    store.mark(digest, damaged=found.hexdigest() != digest)
    if found.hexdigest() == digest:
        # A digest that is right of a size that is wrong: the storage map lies.
        return None if size == size_bytes else f"it has {size} bytes, and the storage map says {size_bytes}"
    return "its bytes have changed" if size == size_bytes else f"it has {size} bytes instead of {size_bytes}"


def columns_problem(store: Store, digest: str, forms: Sequence[Form]) -> str | None:
    """What is wrong with the columns of an object whose bytes are right; None when they are what they have to be."""
    try:
        return form_problem(store.obtain(digest), forms)
    except UNREADABLE as exc:
        return problem_of(exc, f"object {digest}") if isinstance(exc, MlstreamError) else f"it cannot be read: {exc}"


def table_problem(store: Store, table: TableContent, stored: StoredTable) -> str | None:
    """What is wrong with a table's rows; None when they are those of its digest."""
    try:
        check_table(table, read_table_rows(table, stored.pieces, store.obtain))
    except UNREADABLE as exc:
        return problem_of(exc, f"table {table.name}") if isinstance(exc, MlstreamError) else f"it cannot be read: {exc}"
    return None


def uses_of(content: Content, storage: Storage) -> dict[str, list[str]]:
    """Object → the parts of the snapshot that need it: ranges of offsets, tables, files."""
    uses: dict[str, list[str]] = {}
    for stream in storage.streams:
        for part in stream.partitions:
            spans: dict[str, list[tuple[int, int]]] = {}
            for found in part.cells:
                for name in {piece.object for piece in found.pieces}:
                    mine = spans.setdefault(name, [])
                    start = mine.pop()[0] if mine and mine[-1][1] == found.cell.start else found.cell.start
                    mine.append((start, found.cell.stop))
            for name, mine in spans.items():
                where = f"{stream.topic}[{part.partition}] offsets"
                uses.setdefault(name, []).extend(f"{where} {start} to {stop}" for start, stop in mine)
    for table in storage.tables:
        for name in {piece.object for piece in table.pieces}:
            uses.setdefault(name, []).append(f"table {table.name}")
    for file in content.files:
        uses.setdefault(file.sha256, []).append(f"file {file.path}")
    return uses


def share(piece: Piece, storage: Storage) -> int:
    """How many of its object's bytes a piece takes, about."""
    known = storage.objects[piece.object]
    return known.size_bytes * piece.rows // max(known.rows, 1)


def check_names(store: Store) -> list[Finding]:
    """Names that hold no id, or stand for a snapshot whose manifest is not there; and what is no name at all."""
    findings = []
    there = set(store.ids())
    for known in store.names():
        name = f"refs/{known}"
        try:
            snapshot_id = store.id_of(known)
        except UnknownSnapshot:
            continue  # removed since it was listed
        except MlstreamError as exc:
            findings.append(Finding("name", name, problem_of(exc, name), (known,)))
            continue
        if snapshot_id not in there:
            problem = f"it stands for {snapshot_id}, and manifests/{snapshot_id}.json is missing"
            findings.append(Finding("name", name, problem, (known,)))
    stray = "it is no name of a snapshot; delete it"
    return findings + [Finding("name", f"refs/{path.name}", stray) for path in store.strays()]


def problem_of(exc: MlstreamError, name: str) -> str:
    """An error's message without the name of the thing that it is about."""
    return exc.message.removeprefix(f"{name}: ")

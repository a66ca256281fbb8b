"""Names of snapshots: give another one, take one away. Deletes no data: what no name covers is gc's to delete.

A name is a file that holds an id. Every change is made while the name is claimed (no freeze of that name is under
way) and through the gate (gc sees all names as they were before, or after).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mlstream.errors import NameTaken, Protected, UnknownSnapshot
from mlstream.naming import check_snapshot_name
from mlstream.snapshots.protection import check_not_kept
from mlstream.snapshots.store import Store, store_error


@dataclass(frozen=True, slots=True)
class Tagged:
    """A name that stands for a snapshot now; `before` is the id that it stood for until then, None when it was free."""

    name: str
    snapshot_id: str
    before: str | None


@dataclass(frozen=True, slots=True)
class Removed:
    """A name that is gone, the snapshot that it stood for, and the names that the snapshot still has."""

    name: str
    snapshot_id: str
    names_left: tuple[str, ...]


def tag(store: Store, name_or_id: str, new: str, *, force: bool = False) -> Tagged:
    """Let `new` stand for a snapshot; the names that it has stay.

    Args:
        name_or_id: which snapshot.
        force: move `new` when it stands for another snapshot.

    Raises:
        UsageError: `new` is no name.
        UnknownSnapshot: there is no such snapshot.
        IntegrityError: its manifest is missing.
        NameTaken: `new` stands for another snapshot, or one is being made under that name.
        Protected: moving it would take the last name of a snapshot that is kept.
        StoreError: the store cannot be written.
    """
    check_snapshot_name(new)
    with store.claim(new), store.staging() as staged, store.gate():
        snapshot_id, _ = store.find(name_or_id)
        store.read(store.manifest(snapshot_id))
        names = store.refs()
        before = names.get(new)
        if before == snapshot_id:
            return Tagged(new, snapshot_id, before)
        if before is not None:
            if not force:
                raise NameTaken(
                    f"{new!r} is the name of another snapshot (id {before[:12]})",
                    hint="choose another name, or move this one with --force",
                    name=new,
                    snapshot_id=before,
                )
            if not _left(names, before, [new]):
                check_not_kept(store, before, [new])
        try:
            store.set_ref(new, snapshot_id, staged=staged, new=before is None)
        except OSError as exc:
            raise store_error(store.ref(new), exc) from exc
    return Tagged(new, snapshot_id, before)


def untag(store: Store, name: str) -> Removed:
    """Take one of its names from a snapshot that has others.

    Raises:
        UnknownSnapshot: there is no such name.
        Protected: it is the snapshot's last name.
        NameTaken: a snapshot is being made under that name.
        StoreError: the store cannot be written.
    """
    return _remove(store, [name], last=False)[0]


def remove(store: Store, names: Sequence[str]) -> list[Removed]:
    """Take names away, all of them or, when one cannot be, none. The snapshots' data stays until a gc.

    Raises:
        UnknownSnapshot: one is no name.
        Protected: the snapshot is kept, and would have no name left.
        NameTaken: a snapshot is being made under that name.
        StoreError: the store cannot be written.
    """
    return _remove(store, names, last=True)


def _remove(store: Store, names: Sequence[str], *, last: bool) -> list[Removed]:
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        _check_is_name(store, name)
    with ExitStack() as held:
        for name in chosen:
            held.enter_context(store.claim(name))
        held.enter_context(store.gate())
        for name in chosen:
            _check_is_name(store, name)
        known = store.refs()
        removed = [Removed(name, known[name], _left(known, known[name], chosen)) for name in chosen]
        for each in removed:
            if each.names_left:
                continue
            if not last:
                raise Protected(
                    f"{each.name!r} is the last name of its snapshot (id {each.snapshot_id[:12]})",
                    hint=f"to give the snapshot up: mlstream snapshot rm {each.name}",
                    name=each.name,
                    snapshot_id=each.snapshot_id,
                )
            check_not_kept(store, each.snapshot_id, [n for n in chosen if known[n] == each.snapshot_id])
        for name in chosen:
            try:
                store.drop_ref(name)
            except OSError as exc:
                raise store_error(store.ref(name), exc) from exc
    return removed


def _left(names: dict[str, str], snapshot_id: str, without: Sequence[str]) -> tuple[str, ...]:
    """The names that a snapshot has beside some."""
    return tuple(name for name, found in names.items() if found == snapshot_id and name not in without)


def _check_is_name(store: Store, name: str) -> None:
    """Only names can be taken away; an id is answered with the names that it has."""
    snapshot_id, found = store.find(name)
    if found is None:
        names = _left(store.refs(), snapshot_id, ())
        raise UnknownSnapshot(
            f"{name!r} is the id of a snapshot, not a name",
            hint=f"its names: {', '.join(names)}" if names else "it has no name; `mlstream snapshot gc` deletes it",
            name=name,
        )

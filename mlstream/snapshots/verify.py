"""Check snapshots against their digests, from the manifest down to every row, and name all that is wrong.

Changes nothing, but remembers which objects are damaged, so that nobody builds on them (damage.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlstream.errors import IntegrityError, MlstreamError
from mlstream.snapshots.content import TableContent
from mlstream.snapshots.findings import Finding
from mlstream.snapshots.forms import Form, forms_of
from mlstream.snapshots.gaps import Account, account
from mlstream.snapshots.manifest import Content, parse_content
from mlstream.snapshots.storage import Storage, StoredTable, misfits, parse_storage
from mlstream.snapshots.store import Store
from mlstream.snapshots.verify_parts import columns_problem, object_problem, problem_of, share, table_problem, uses_of
from mlstream.snapshots.verify_rows import Segment, check_segment, segments

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

_ALL = ("the whole snapshot",)
_HINT = "restore it from a copy of the store, or freeze the range again while the broker still has it"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked, and what was found.

    Attributes:
        objects, size_bytes: whose bytes were hashed.
        cells, rows, files, tables, table_rows: what they hold; recomputed from rows only when it was `deep`. `rows` are
            records of streams.
        findings: everything that is missing or wrong; empty when the snapshot is whole.
        gaps: why offsets of each partition hold no record, as far as that is known.
    """

    snapshot_id: str
    objects: int
    size_bytes: int
    cells: int
    rows: int
    files: int
    tables: int
    table_rows: int
    deep: bool
    findings: tuple[Finding, ...]
    gaps: tuple[Account, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or wrong."""
        return not self.findings


@dataclass(slots=True)
class Seen:
    """What was checked already, so that what snapshots share is checked once."""

    objects: dict[str, str | None] = field(default_factory=dict)
    forms: dict[tuple[str, tuple[Form, ...]], str | None] = field(default_factory=dict)
    segments: dict[Segment, tuple[Finding, ...]] = field(default_factory=dict)
    tables: dict[tuple[TableContent, StoredTable], str | None] = field(default_factory=dict)


def verify(snapshot: Snapshot, *, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> Verified:
    """`check`, for a caller who wants a whole snapshot or an error.

    Raises:
        IntegrityError: naming the first thing that is missing or wrong; its `findings` are all of them.
    """
    found = check(snapshot.store, snapshot.id, deep=deep, progress=progress)
    if not found.ok:
        first, more = found.findings[0], len(found.findings) - 1
        others = f", and {more} more finding{'s' if more > 1 else ''}" if more else ""
        raise IntegrityError(
            first.message + others,
            hint=_HINT,
            findings=found.findings,
            snapshot_id=snapshot.id,
            object=first.name if first.kind == "object" else None,
        )
    return found


def check(
    store: Store,
    snapshot_id: str,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] | None = None,
    seen: Seen | None = None,
) -> Verified:
    """Check a snapshot; whatever is wrong with it is in the answer.

    1. the manifest's bytes are those of the id
    2. the storage map's cells, groups, tables and files add up to the manifest's digests, all of them
    3. every object is there and its bytes are those of its name; a file is an object. One that holds rows has the
       columns of records, or those that the manifest declares of the table, and exactly their types
    4. (deep) every cell's rows have its records digest, their offsets increase and lie inside it, their times are
       those that the manifest says; the rows in groups have the payload digest; tables have theirs
    5. the gaps add up to what the cuts say

    Args:
        progress: called with the bytes done and the bytes in all.
        seen: what earlier calls have checked; this one adds to it.
    """
    with store.in_use(snapshot_id, "verifying it", damaged_ok=True):
        return _Check(store, snapshot_id, deep, progress, Seen() if seen is None else seen).run()


class _Check:
    """One snapshot under way."""

    def __init__(
        self,
        store: Store,
        snapshot_id: str,
        deep: bool,
        progress: Callable[[int, int], None] | None,
        seen: Seen,
    ) -> None:
        self._store = store
        self._id = snapshot_id
        self._deep = deep
        self._progress = progress
        self._seen = seen
        self._findings: list[Finding] = []
        self._total = 0
        self._done = 0

    def run(self) -> Verified:
        # 1. and 2.: read anew, whatever was read when the snapshot was opened
        content = self._manifest()
        storage = self._storage()
        doubtful = set() if content is None or storage is None else self._add_up(content, storage)
        content = Content(()) if content is None else content
        storage = Storage((), {}) if storage is None else storage
        self._total = storage.size_bytes * (2 if self._deep else 1)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="verify") as pool:
            # 3. the objects
            broken = self._check_objects(pool, content, storage)
            broken |= self._check_forms(pool, content, storage, broken)
            # 4. every row
            if self._deep:
                self._check_streams(pool, storage, broken, doubtful)
                self._check_tables(pool, content, storage, broken, doubtful)
        # 5. the gaps
        gaps, faults = account(self._store, self._id, content)
        breaks = ("the account of its gaps, no row",)
        self._findings += [Finding("cut", fault.path, fault.problem, breaks) for fault in faults]
        return Verified(
            self._id,
            objects=len(storage.objects),
            size_bytes=storage.size_bytes,
            cells=sum(len(part.cells) for stream in storage.streams for part in stream.partitions),
            rows=sum(stream.rows for stream in content.streams),
            files=len(content.files),
            tables=len(content.tables),
            table_rows=sum(table.rows for table in content.tables),
            deep=self._deep,
            findings=tuple(self._findings),
            gaps=gaps,
        )

    def _manifest(self) -> Content | None:
        name = f"manifests/{self._id}.json"
        try:
            return parse_content(self._store.read(self._store.manifest(self._id)), self._id)
        except MlstreamError as exc:
            self._findings.append(Finding("manifest", name, problem_of(exc, name), _ALL))
            return None

    def _storage(self) -> Storage | None:
        name = f"storage/{self._id}.json"
        try:
            return parse_storage(self._store.read(self._store.storage(self._id)), self._id)
        except MlstreamError as exc:
            self._findings.append(Finding("storage map", name, problem_of(exc, name), _ALL))
            return None

    def _add_up(self, content: Content, storage: Storage) -> set[str]:
        """Compare the two documents; the parts of the map that are not the manifest's."""
        doubtful = set()
        for misfit in misfits(storage, content):
            problem = f"{misfit.part}: {misfit.problem}" if misfit.part else misfit.problem
            breaks = (misfit.part,) if misfit.part else _ALL
            self._findings.append(Finding("storage map", f"storage/{self._id}.json", problem, breaks))
            doubtful.add(misfit.part)
        return doubtful

    def _check_objects(self, pool: ThreadPoolExecutor, content: Content, storage: Storage) -> set[str]:
        """Hash every object that was not hashed yet; the names of those that are missing or wrong."""
        known = self._seen.objects
        new = [name for name in storage.objects if name not in known]
        self._tell(storage.size_bytes - sum(storage.objects[name].size_bytes for name in new))
        problems = pool.map(lambda name: object_problem(self._store, name, storage.objects[name].size_bytes), new)
        for name, problem in zip(new, problems, strict=True):
            known[name] = problem
            self._tell(storage.objects[name].size_bytes)
        broken = {name: problem for name in storage.objects if (problem := known[name]) is not None}
        if broken:
            uses = uses_of(content, storage)
            self._findings += [
                Finding("object", name, problem, tuple(uses.get(name, ()))) for name, problem in sorted(broken.items())
            ]
        return set(broken)

    def _check_forms(self, pool: ThreadPoolExecutor, content: Content, storage: Storage, broken: set[str]) -> set[str]:
        """Compare the columns of whole objects with those that they have to have; the names of those that differ."""
        known = self._seen.forms
        forms = {name: found for name, found in forms_of(content, storage).items() if name in storage.objects}
        jobs = [(name, found) for name, found in sorted(forms.items()) if name not in broken]
        new = [job for job in jobs if job not in known]
        known.update(zip(new, pool.map(lambda job: columns_problem(self._store, *job), new), strict=True))
        wrong = {job[0]: problem for job in jobs if (problem := known[job]) is not None}
        if wrong:
            uses = uses_of(content, storage)
            self._findings += [Finding("object", name, wrong[name], tuple(uses.get(name, ()))) for name in wrong]
        return set(wrong)

    def _check_streams(self, pool: ThreadPoolExecutor, storage: Storage, broken: set[str], doubtful: set[str]) -> None:
        """Recompute what the rows come to, where the storage map is the manifest's."""
        jobs = [
            segment
            for stream in storage.streams
            for part in stream.partitions
            if not doubtful & {"", stream.topic, f"{stream.topic}[{part.partition}]"}
            for segment in segments(stream.topic, part)
        ]
        new = [segment for segment in jobs if segment not in self._seen.segments]
        shares = {segment: sum(share(piece, storage) for piece in segment.pieces) for segment in jobs}
        self._tell(sum(shares.values()) - sum(shares[segment] for segment in new))
        found = pool.map(lambda segment: tuple(check_segment(self._store, segment, broken)), new)
        for segment, findings in zip(new, found, strict=True):
            self._seen.segments[segment] = findings
            self._tell(shares[segment])
        # An object that several segments read is reported by each.
        self._findings += dict.fromkeys(finding for segment in jobs for finding in self._seen.segments[segment])

    def _check_tables(
        self, pool: ThreadPoolExecutor, content: Content, storage: Storage, broken: set[str], doubtful: set[str]
    ) -> None:
        """Recompute the digests of the tables whose objects are whole."""
        if "" in doubtful or len(content.tables) != len(storage.tables):
            return
        jobs = [
            (table, stored)
            for table, stored in zip(content.tables, storage.tables, strict=True)
            if f"table {table.name}" not in doubtful and not any(piece.object in broken for piece in stored.pieces)
        ]
        new = [job for job in jobs if job not in self._seen.tables]
        for job, problem in zip(new, pool.map(lambda job: table_problem(self._store, *job), new), strict=True):
            self._seen.tables[job] = problem
        for job in jobs:
            table, stored = job
            problem = self._seen.tables[job]
            if problem is not None:
                self._findings.append(Finding("table", f"table {table.name}", problem, (f"table {table.name}",)))
            self._tell(sum(share(piece, storage) for piece in stored.pieces))

    def _tell(self, size_bytes: int) -> None:
        self._done += size_bytes
        if self._progress is not None:
            self._progress(self._done, self._total)

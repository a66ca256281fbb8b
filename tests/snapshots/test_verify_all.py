"""verify names everything that is wrong, in streams, files and tables, and what it breaks; deep, down to every row."""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import mlstream
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.findings import Finding
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.verify import Seen, Verified, check
from tests.snapshots import oracle
from tests.snapshots.forging import OTHER_TYPES, Forged, pieces_of
from tests.snapshots.making import columns, make_snapshot, plain, values

Call = Callable[..., Any]


def spread(count: int, step: int) -> pa.RecordBatch:
    """Rows at every `step`-th offset, so that groups and cells do not coincide."""
    rows = plain(count)
    return rows.set_column(0, rows.schema.field(0), pa.array(np.arange(count) * step, pa.int64()))


@pytest.fixture
def mixed(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """Two files and a table, no topic."""
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("shop.db") as database:
        database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT)")
        database.executemany("INSERT INTO accounts VALUES (?, ?)", [(n, f"name {n}") for n in range(1000)])
    database.close()
    Path("a.csv").write_text("a")
    Path("b.csv").write_text("b")
    return mlstream.snapshot("mixed", files=["*.csv"], tables=["sqlite:///shop.db#accounts"], home=home)


def checked(made: Snapshot | Forged, *, deep: bool = True) -> Verified:
    store = made.store if isinstance(made, Snapshot) else mlstream.open_snapshot(made.id, home=made.path).store
    return check(store, made.id, deep=deep)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def problems(found: Verified) -> set[tuple[str, str]]:
    return {(finding.name, finding.problem) for finding in found.findings}


def test_everything_that_is_wrong_is_named_with_what_it_breaks(home: Home) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: plain(5000), 1: plain(70_000), 2: columns(values([b"a"]))}})
    first, second, _ = (part.cells[0].pieces[0].object for part in made.stored("ticks"))
    flip(made.store.object(first))
    made.store.object(second).unlink()
    assert checked(made).findings == tuple(
        sorted(
            [
                Finding("object", first, "its bytes have changed", ("ticks[0] offsets 0 to 5000",)),
                Finding("object", second, "it is missing", ("ticks[1] offsets 0 to 70000",)),
            ],
            key=lambda finding: finding.name,
        )
    )
    with pytest.raises(IntegrityError, match="and 1 more finding;") as caught:
        made.verify()
    assert len(caught.value.findings) == 2


def test_a_reader_that_imports_no_mlstream_comes_to_the_same_id_of_files_and_tables(mixed: Snapshot) -> None:
    assert oracle.recomputed_id(mixed.store.path, mixed.id) == mixed.id
    # It can tell: with one other row it comes to another id, as the deep check says.
    (piece,) = mixed.storage.tables[0].pieces
    rows = pq.read_table(mixed.store.object(piece.object))
    names = pa.array([*rows.column("name").to_pylist()[:-1], "another"])
    point_at(Forged(mixed), piece.object, rows.set_column(1, "name", names))
    assert oracle.recomputed_id(mixed.store.path, mixed.id) != mixed.id
    assert not checked(mixed).ok


def test_files_and_tables_are_checked_like_records(mixed: Snapshot) -> None:
    found = checked(mixed)
    assert (found.ok, found.files, found.tables, found.objects) == (True, 2, 1, 3)
    assert (found.rows, found.table_rows) == (0, 1000)
    table = mixed.storage.tables[0].pieces[0].object
    flip(mixed.store.object(table))
    mixed.file("b.csv").unlink()
    wrong = {finding.name: finding for finding in checked(mixed, deep=False).findings}
    assert wrong[table].breaks == ("table accounts",)
    file = wrong[mixed.files[1].sha256]
    assert (file.problem, file.breaks) == ("it is missing", ("file b.csv",))
    assert len(wrong) == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows.set_column(1, "name", pc.utf8_upper(rows.column("name"))), "are not those of the manifest"),
        (lambda rows: rows.take(pa.array([1, 0, *range(2, 1000)])), "its rows are not in order near row 0"),
    ],
)
def test_a_table_of_other_rows_is_found_by_a_deep_check_only(
    mixed: Snapshot, change: Callable[[pa.Table], pa.Table], problem: str
) -> None:
    # Every file is whole and has the name of its bytes; the storage map names another one.
    piece = mixed.storage.tables[0].pieces[0]
    with pq.ParquetFile(mixed.store.object(piece.object)) as file:
        rows = file.read()
    forged = Forged(mixed)
    point_at(forged, piece.object, change(rows))
    assert checked(forged, deep=False).ok
    (finding,) = checked(forged).findings
    assert (finding.kind, finding.name, finding.breaks) == ("table", "table accounts", ("table accounts",))
    assert problem in finding.problem


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows.rename_columns(["id", "title"]), ""),
        (lambda rows: rows.append_column("more", rows.column("id")), ""),
        (lambda rows: cast(rows, id=pa.int32()), ": id is int32 instead of int64"),
        (lambda rows: cast(rows, name=pa.large_string()), ": name is large_string instead of text"),
    ],
)
def test_a_table_of_other_columns_or_types_is_found(
    mixed: Snapshot, change: Callable[[pa.Table], pa.Table], problem: str, deep: bool
) -> None:
    piece = mixed.storage.tables[0].pieces[0]
    rows = pq.read_table(mixed.store.object(piece.object))
    forged = Forged(mixed)
    digest = point_at(forged, piece.object, change(rows))
    found = f"its columns are not those of table accounts{problem}"
    assert checked(forged, deep=deep).findings == (Finding("object", digest, found, ("table accounts",)),)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("column", "kind"), OTHER_TYPES)
def test_records_of_other_types_are_found(home: Home, column: str, kind: pa.DataType, deep: bool) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: columns(values([b"a", None, b""]))}})
    forged = Forged(made)
    (first,) = forged.objects
    rows = cast(pq.read_table(forged.object(first)), **{column: kind})
    digest = write_object(forged, rows)
    forged.put_object(forged.object(digest).read_bytes(), first)
    found = checked(forged, deep=deep).findings
    said = str(kind).replace("<item:", "<element:")  # Parquet's name for what is in a list
    problem = f"its columns are not those of records: {column} is {said} instead of "
    assert [(each.kind, each.name, each.breaks) for each in found] == [("object", digest, ("ticks[0] offsets 0 to 3",))]
    assert found[0].problem.startswith(problem)


def cast(rows: pa.Table, **types: pa.DataType) -> pa.Table:
    """The same rows with other types of some columns."""
    for name, kind in types.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).cast(kind))
    return rows


def point_at(forged: Forged, instead_of: str, rows: pa.Table) -> str:
    """Store other rows for the table's object."""
    digest = write_object(forged, rows)

    def point(document: Any) -> None:
        document["objects"][digest] = {"size_bytes": str(forged.object(digest).stat().st_size), "rows": "1000"}
        del document["objects"][instead_of]
        document["tables"][0]["pieces"][0]["object"] = digest

    forged.storage(point)
    return digest


def write_object(forged: Forged, rows: pa.Table) -> str:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    forged.object(digest).parent.mkdir(exist_ok=True)
    forged.object(digest).write_bytes(buffer.getvalue())
    return digest


@pytest.fixture
def sparse(home: Home) -> Snapshot:
    """A partition of 27 cells in two segments, whose five groups end inside of cells."""
    return make_snapshot(home, "ticks", {"ticks": {0: spread(300_000, 6)}})


def test_groups_that_reach_over_cells_and_segments_are_recomputed(sparse: Snapshot) -> None:
    (part,) = sparse.stored("ticks")
    assert (len(part.cells), len(part.groups)) == (28, 5)
    found = checked(sparse)
    assert (found.findings, found.rows) == ((), 300_000)


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_a_manifest_that_lies_about_a_group_is_found_out(sparse: Snapshot, number: int) -> None:
    forged = Forged(sparse)
    groups = forged.document("storage")["streams"][0]["partitions"][0]["groups"]
    groups[number] = hashlib.sha256(b"other").hexdigest()
    payloads = hashlib.sha256(b"".join(map(bytes.fromhex, groups))).hexdigest()
    forged.storage(lambda document: document["streams"][0]["partitions"][0].update(groups=groups))
    forged.manifest(lambda document: document["streams"][0]["partitions"][0].update(payload_digest=payloads))
    assert checked(forged, deep=False).ok
    assert problems(checked(forged)) == {(f"ticks[0] group {number}", "its rows are not those of its payload digest")}


def test_a_manifest_that_lies_about_times_is_found_out(home: Home) -> None:
    forged = Forged(make_snapshot(home, "ticks", {"ticks": {0: plain(100)}}))
    forged.storage(lambda document: document["streams"][0]["partitions"][0]["cells"][0].update(max_timestamp_ms="500"))
    assert {problem for _, problem in problems(checked(forged, deep=False))} == {
        "ticks[0]: its cells have another range of time than the manifest says"
    }
    forged.manifest(lambda document: document["streams"][0]["partitions"][0].update(max_timestamp_ms="500"))
    assert checked(forged, deep=False).ok
    assert problems(checked(forged)) == {("ticks[0] cell 0", "its rows have another range of time than it says")}


def test_the_partition_column_that_no_digest_covers_is_checked(home: Home) -> None:
    forged = Forged(make_snapshot(home, "ticks", {"ticks": {0: plain(100)}}))
    (name,) = forged.objects
    rows = pq.read_table(forged.object(name))
    buffer = io.BytesIO()
    pq.write_table(rows.set_column(0, rows.schema.field(0), pa.array([7] * 100, pa.int32())), buffer)
    other = forged.put_object(buffer.getvalue(), name)
    assert checked(forged, deep=False).ok
    assert problems(checked(forged)) == {(other, "its partition column says something else than 0")}


def test_one_bad_cell_does_not_hide_another(home: Home) -> None:
    forged = Forged(make_snapshot(home, "ticks", {"ticks": {0: plain(3 * 65_536, size=150)}}))
    storage = forged.document("storage")
    names = [piece["object"] for piece in pieces_of(storage)]
    assert len(set(names)) == 3
    for name in names[0], names[2]:
        rows = pq.read_table(forged.object(name))
        buffer = io.BytesIO()
        pq.write_table(rows.set_column(4, rows.schema.field(4), rows.column(5)), buffer)
        forged.put_object(buffer.getvalue(), name)
    flip(forged.object(names[1]))
    found = {(finding.name, finding.problem) for finding in checked(forged).findings}
    assert found == {
        (names[1], "its bytes have changed"),
        ("ticks[0] cell 0", "its rows are not those of its digest"),
        ("ticks[0] cell 2", "its rows are not those of its digest"),
        ("ticks[0] group 0", "its rows are not those of its payload digest"),
        ("ticks[0] group 2", "its rows are not those of its payload digest"),
    }


@pytest.mark.parametrize("column", ["offset", "timestamp_type", "headers", "value"])
def test_an_object_that_is_no_object_of_records_is_a_finding_not_a_crash(home: Home, column: str) -> None:
    forged = Forged(make_snapshot(home, "ticks", {"ticks": {0: plain(100)}}))
    (name,) = forged.objects
    rows = pq.read_table(forged.object(name))
    at = rows.schema.get_field_index(column)
    nulls = pa.nulls(100, rows.schema.field(at).type)
    buffer = io.BytesIO()
    pq.write_table(rows.remove_column(at) if column == "value" else rows.set_column(at, column, nulls), buffer)
    digest = forged.put_object(buffer.getvalue(), name)
    (finding,) = checked(forged).findings
    assert finding.name == (digest if column == "value" else "ticks[0] cell 0")
    assert finding.problem.startswith("its columns are not" if column == "value" else "its rows cannot be read")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda cell: cell.update(stop="60"), "its cells are not those of the manifest"),
        (lambda cell: cell.update(timestamp_types=9), "a cell has no type of timestamp"),
        (lambda cell: cell["pieces"][0].update(rows="99"), "cell 0 is not covered by its pieces"),
    ],
)
def test_a_storage_map_that_does_not_add_up_is_named(home: Home, change: Callable[[Any], object], problem: str) -> None:
    forged = Forged(make_snapshot(home, "ticks", {"ticks": {0: plain(100), 1: plain(50)}}))
    forged.storage(lambda document: change(document["streams"][0]["partitions"][0]["cells"][0]))
    (finding,) = checked(forged).findings
    assert (finding.problem, finding.breaks) == (f"ticks[0]: {problem}", ("ticks[0]",))


def test_without_its_manifest_the_objects_are_still_checked(home: Home) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: plain(100)}})
    (name,) = made.storage.objects
    flip(made.store.object(name))
    made.store.manifest(made.id).write_bytes(b"{}")
    assert [finding.kind for finding in checked(made).findings] == ["manifest", "object"]


def test_what_snapshots_share_is_checked_once(home: Home) -> None:
    one = make_snapshot(home, "one", {"ticks": {0: plain(1000)}})
    two = make_snapshot(home, "two", {"ticks": {0: plain(1000), 1: plain(10)}})
    seen = Seen()
    assert check(one.store, one.id, deep=True, seen=seen).ok
    for path in (one.store.object(name) for name in one.storage.objects):
        flip(path)  # is not looked at again
    assert check(two.store, two.id, deep=True, seen=seen).ok
    assert (len(seen.objects), len(seen.segments)) == (2, 2)
    assert not check(two.store, two.id, seen=Seen()).ok


def test_the_command_lists_all_findings_of_several_snapshots(bare_cli: Call, home: Home) -> None:
    whole = make_snapshot(home, "whole", {"ticks": {0: plain(100)}})
    broken = make_snapshot(home, "broken", {"ticks": {0: plain(200, size=9), 1: plain(300, size=7)}})
    for name in broken.storage.objects:
        broken.store.object(name).unlink()
    (home.path / "refs" / "lost").write_text("0" * 64 + "\n")
    (home.path / "refs" / "torn").write_text("1234")
    for called in bare_cli("snapshot", "verify", "--all", "--json"), bare_cli("snapshot", "verify", "whole", "broken"):
        assert called.exit_code == 1
        assert "not whole" in called.stderr
    said = bare_cli("snapshot", "verify", "--all", "--json").json
    assert said["ok"] is False
    assert {found["name"]: found["ok"] for found in said["snapshots"]} == {"broken": False, "whole": True}
    findings = next(found for found in said["snapshots"] if found["name"] == "broken")["findings"]
    assert {finding["name"] for finding in findings} == set(broken.storage.objects)
    assert [finding["name"] for finding in said["names"]] == ["refs/lost", "refs/torn"]
    once = bare_cli("snapshot", "verify", "whole", whole.id[:10]).stdout
    assert once.startswith("ok: whole: ")
    assert once.count("\n") == 1
    assert bare_cli("snapshot", "verify").exit_code == 2


def test_progress_ends_at_all_bytes(home: Home) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: plain(5000), 1: plain(100)}})
    told: list[tuple[int, int]] = []
    check(made.store, made.id, deep=True, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2 * made.size_bytes, 2 * made.size_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)

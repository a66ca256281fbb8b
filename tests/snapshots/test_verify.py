"""verify finds a flipped bit, a missing or swapped object, a truncated document, and names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import mlstream
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots import oracle
from tests.snapshots.making import columns, make_snapshot, plain, values


@pytest.fixture
def made(home: Home) -> Snapshot:
    return make_snapshot(home, "one", {"ticks": {0: plain(5000), 2: columns(values([b"a", None, b""]))}})


def objects(made: Snapshot) -> list[Path]:
    return [made.store.object(name) for name in made.storage.objects]


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_snapshot_is_found_whole(made: Snapshot, deep: bool) -> None:
    found = made.verify(deep=deep)
    assert (found.objects, found.cells, found.rows, found.deep) == (2, 2, 5003, deep)
    assert found.size_bytes == made.size_bytes == sum(path.stat().st_size for path in objects(made))


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.999])
def test_a_flipped_bit_anywhere_in_an_object_is_found(made: Snapshot, where: float) -> None:
    path = objects(made)[0]
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=f"object {path.name}: its bytes have changed") as caught:
        made.verify()
    assert caught.value.hint is not None
    assert caught.value.object == path.name


def test_a_missing_object_is_named(made: Snapshot) -> None:
    path = objects(made)[1]
    path.unlink()
    for use in (made.verify, lambda: made.scan("ticks")):
        with pytest.raises(IntegrityError, match=f"object {path.name}: it is missing"):
            use()


def test_a_truncated_object_is_named_with_its_size(made: Snapshot) -> None:
    path = objects(made)[0]
    size = path.stat().st_size
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=f"it has {size - 10} bytes instead of {size}"):
        made.verify()


@pytest.mark.parametrize("folder", ["manifests", "storage"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_a_damaged_document_is_named(made: Snapshot, folder: str, damage: str) -> None:
    path = made.store.path / folder / f"{made.id}.json"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"")
    with pytest.raises(IntegrityError, match=f"{folder}/{made.id}.json"):
        made.verify()


def test_rows_that_belong_elsewhere_are_found_by_a_deep_check_only(home: Home) -> None:
    # Two cells of the same number of rows, whose pieces were swapped: every file is whole.
    made = make_snapshot(home, "one", {"t": {0: plain(100), 1: plain(100, size=30)}})

    def swap(document: Any) -> None:
        one, other = (part["cells"][0] for part in document["streams"][0]["partitions"])
        one["pieces"], other["pieces"] = other["pieces"], one["pieces"]

    rewrite(made.store.storage(made.id), swap)
    made.verify()
    with pytest.raises(IntegrityError, match=r"t\[0\] cell 0: its rows are not those of its digest"):
        made.verify(deep=True)


def test_offsets_outside_of_their_cell_are_found(home: Home) -> None:
    made = make_snapshot(home, "one", {"t": {0: plain(65_536), 1: plain(131_072)}})

    def swap(document: Any) -> None:
        first, second = document["streams"][0]["partitions"]
        first["cells"][0]["pieces"] = second["cells"][1]["pieces"]

    rewrite(made.store.storage(made.id), swap)
    with pytest.raises(IntegrityError, match=r"t\[0\] cell 0: its offsets do not increase, or lie outside of it"):
        made.verify(deep=True)


def test_an_edited_manifest_cannot_be_opened(made: Snapshot) -> None:
    path = made.store.manifest(made.id)
    path.write_bytes(path.read_bytes().replace(b'"5000"', b'"5001"'))
    with pytest.raises(IntegrityError, match="not its name"):
        mlstream.open_snapshot("one", home=made.store.home)


def test_scanning_a_snapshot_whose_storage_map_lies_is_refused(made: Snapshot) -> None:
    def drop(document: Any) -> None:
        document["streams"][0]["partitions"][0]["cells"] = []

    rewrite(made.store.storage(made.id), drop)
    with pytest.raises(IntegrityError, match="its cells are not those of the manifest"):
        mlstream.open_snapshot("one", home=made.store.home).scan("ticks")


def test_the_id_stands_when_the_same_rows_are_stored_in_another_way(made: Snapshot) -> None:
    before = made.scan("ticks").collect()

    def store_anew(document: Any) -> None:
        for stream in document["streams"]:
            for part in stream["partitions"]:
                for cell in part["cells"]:
                    (piece,) = cell["pieces"]
                    table = pq.read_table(made.store.object(piece["object"]))
                    temporary = made.store.path / "anew"
                    pq.write_table(table, temporary, compression="gzip", row_group_size=100, version="1.0")
                    name = hashlib.sha256(temporary.read_bytes()).hexdigest()
                    made.store.object(name).parent.mkdir(parents=True, exist_ok=True)
                    temporary.replace(made.store.object(name))
                    size = made.store.object(name).stat().st_size
                    document["objects"][name] = {**document["objects"].pop(piece["object"]), "size_bytes": str(size)}
                    piece["object"] = name

    rewrite(made.store.storage(made.id), store_anew)
    again = mlstream.open_snapshot(made.id, home=made.store.home)
    assert again.verify(deep=True).rows == made.rows
    assert again.scan("ticks").collect().equals(before)
    assert oracle.recomputed_id(made.store.path, made.id) == made.id

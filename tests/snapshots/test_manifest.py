"""The documents: a golden manifest and id, what proves what, and damage that is found and named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.cuts import Cut, CutPartition, CutStream, Gaps, parse_cut
from mlstream.snapshots.manifest import Content, PartitionContent, StreamContent, parse_content
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.storage import Piece, Storage, StoredCell, StoredPartition, check_storage, parse_storage
from tests.snapshots import oracle
from tests.snapshots.making import Row, columns, make_snapshot

# The example of docs/format.md, "A worked example": three records, one of them null, one without a time.
EXAMPLE = [
    Row(0, b"v", key=b"k", timestamp=0),
    Row(2, None, key=None, timestamp=None, timestamp_type=1),
    Row(3, b"", key=b"", timestamp=1_700_000_000_123, headers=((b"trace", b"\x01"), (b"", None))),
]
GOLDEN_ID = "1635928fe9860e389d56f32049c9d29f5fe3c7e5e94fe010466d29b1887ccb00"
GOLDEN_MANIFEST = (
    '{"complete":true,"files":[],"format":1,"streams":[{"cluster_id":"cluster-0000000000000A","partitions":['
    '{"max_timestamp_ms":"1700000000123","min_timestamp_ms":"0","missing":[],"partition":0,'
    '"payload_digest":"db88dbee73f8fbcccf87137c674a242695c86a2c9a060c7159644d5a819114d1",'
    '"root":"2f28ad1f69600d035075804bfa0f84c77fa74b615724eeb8355128e4edfebf09","rows":"3","start":"0","stop":"4",'
    '"timestamp_type":"mixed"}],"topic":"ticks","topic_id":"topic-000000000000000A"}],"tables":[]}'
)


@pytest.fixture
def example(home: Home) -> Snapshot:
    return make_snapshot(home, "example", {"ticks": {0: columns(EXAMPLE)}})


def test_the_example_of_the_format_has_its_golden_manifest_and_id(example: Snapshot) -> None:
    data = example.store.manifest(example.id).read_bytes()
    assert data.decode() == GOLDEN_MANIFEST
    assert hashlib.sha256(data).hexdigest() == example.id == GOLDEN_ID


def test_the_format_s_page_shows_this_example() -> None:
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert GOLDEN_ID in page
    shown = next(block for block in page.split("```json\n")[1:] if '"partitions"' in block).split("\n```")[0]
    assert json.loads(shown) == json.loads(GOLDEN_MANIFEST)
    for digest in (
        json.loads(GOLDEN_MANIFEST)["streams"][0]["partitions"][0][key] for key in ("root", "payload_digest")
    ):
        assert page.count(digest) >= 2  # in the steps, and in the manifest


def test_a_reader_that_imports_no_mlstream_comes_to_the_same_id(example: Snapshot) -> None:
    assert oracle.recomputed_id(example.store.path, example.id) == example.id


def test_reading_a_manifest_gives_the_content_that_it_was_written_from(example: Snapshot) -> None:
    assert parse_content(example.content.to_bytes(), example.id) == example.content


def test_an_incomplete_snapshot_is_another_one(example: Snapshot) -> None:
    assert Content(example.content.streams, complete=False).id != example.id


@pytest.mark.parametrize("damage", ["cut off", "edited", "spaced"])
def test_a_manifest_that_is_not_what_its_name_says_is_refused(example: Snapshot, damage: str) -> None:
    data = example.content.to_bytes()
    broken = {"cut off": data[:-5], "edited": data.replace(b'"rows":"3"', b'"rows":"4"'), "spaced": data + b"\n"}[
        damage
    ]
    with pytest.raises(IntegrityError, match=f"manifests/{example.id}.json: its bytes have the digest"):
        parse_content(broken, example.id)


def test_a_manifest_of_a_later_format_is_refused_by_name() -> None:
    data = b'{"complete":true,"files":[],"format":2,"streams":[],"tables":[]}'
    with pytest.raises(IntegrityError, match="format 2, and this version reads format 1"):
        parse_content(data, hashlib.sha256(data).hexdigest())


def test_numbers_past_what_json_readers_keep_survive() -> None:
    part = PartitionContent(0, 2**62, 2**63 - 1, 1, "0" * 64, "f" * 64, -(2**63), 2**63 - 1, "CreateTime")
    content = Content((StreamContent("c", "t", "i", (part,)),))
    assert parse_content(content.to_bytes(), content.id) == content


def test_reading_a_storage_map_gives_what_it_was_written_from(example: Snapshot) -> None:
    assert parse_storage(example.storage.to_bytes(example.id), example.id) == example.storage


def broken(storage: Storage, change: str) -> Storage:
    stream = storage.streams[0]
    part = stream.partitions[0]
    cell = part.cells[0]
    cells = {
        "a cell is left out": (),
        "a cell is there twice": (cell, cell),
        "a cell's digest": (StoredCell(replace(cell.cell, payloads=b"0" * 32), cell.pieces),),
        "a cell's rows": (StoredCell(replace(cell.cell, rows=4), cell.pieces),),
        "a piece is left out": (StoredCell(cell.cell, ()),),
        "an unknown object": (StoredCell(cell.cell, (Piece("0" * 64, 0, 3),)),),
        "rows past the object": (StoredCell(cell.cell, (Piece(cell.pieces[0].object, 1, 3),)),),
    }
    groups = (b"1" * 32,) if change == "a group's digest" else part.groups
    changed = StoredPartition(part.partition, cells.get(change, part.cells), groups)
    return replace(storage, streams=(replace(stream, partitions=(changed,)),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a cell is left out", r"ticks\[0\]: its cells are not those of the manifest"),
        ("a cell is there twice", "its cells are not those"),
        ("a cell's digest", "its cells are not those"),
        ("a cell's rows", "its cells are not those"),
        ("a group's digest", r"ticks\[0\]: its groups are not those of the manifest"),
        ("a piece is left out", "cell 0 is not covered by its pieces"),
        ("an unknown object", "cell 0 wants rows that no object has"),
        ("rows past the object", "cell 0 wants rows that no object has"),
    ],
)
def test_a_storage_map_that_the_manifest_does_not_cover_is_refused(
    example: Snapshot, change: str, message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        check_storage(broken(example.storage, change), example.content, example.id)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format":1}', b'{"format":9,"snapshot":"x"}'])
def test_a_damaged_storage_map_is_named(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"storage/abc\.json: not a storage map"):
        parse_storage(data, "abc")


def test_a_cut_survives_its_file() -> None:
    part = CutPartition(0, 1, 2, 3, ((0, 0), (4, 9)), Gaps(1, 2, 3, 4), fetched=5, reused=6)
    cut = Cut("n", 7, 8, 0.5, "u", "h", ("a:1", "b:2"), {"mlstream": "1"}, (CutStream("c", "t", None, (part,)),))
    assert parse_cut(cut.to_bytes("x"), "cuts/x.json") == cut
    assert part.gaps.total == 10
    with pytest.raises(IntegrityError, match=r"cuts/x\.json: not a cut"):
        parse_cut(b"{}", "cuts/x.json")

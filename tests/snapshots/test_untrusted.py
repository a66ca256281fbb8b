"""A snapshot from a store that somebody else filled: what lies is refused, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstream.errors import MlstreamError, StoreError
from mlstream.home import Home
from mlstream.snapshots import arrival
from mlstream.snapshots.pull import pull
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import open_snapshot
from mlstream.snapshots.storage import parse_storage
from tests.snapshots.forging import Document, Forged, cells_of, files, parquet, pieces_of, places, put, refused
from tests.snapshots.making import make_snapshot, plain


@pytest.fixture
def forged(tmp_path: Path) -> Forged:
    made = make_snapshot(Home(tmp_path / "theirs"), "ticks", {"a": {0: plain(3000), 1: plain(3000, start=3000)}})
    return Forged(made)


def test_what_is_not_changed_is_pulled(forged: Forged, home: Home) -> None:
    pull("ticks", open_remote(forged.path), home=home)
    assert open_snapshot("ticks", home=home).rows == 6000


def test_a_forger_who_does_it_right_has_made_a_snapshot(forged: Forged, home: Home) -> None:
    """The forging of these tests is not what is refused."""
    forged.manifest(lambda document: document["streams"][0].update(topic_id="another"))
    pull("ticks", open_remote(forged.path), home=home)
    assert open_snapshot("ticks", home=home).id == forged.id


# The manifest


def test_a_manifest_whose_id_lies(forged: Forged, home: Home) -> None:
    (forged.path / "manifests" / f"{forged.id}.json").write_bytes(b"{}")
    refused(forged, home, "its bytes have the digest 44136fa355b3…, not its name")


@pytest.mark.parametrize(
    "path", ["../../.ssh/authorized_keys", "/etc/passwd", "a/../../b", "a//b", "C:/x", "a\\..\\b", "a/\x1b[2J", ".", ""]
)
def test_a_file_whose_path_escapes(forged: Forged, home: Home, path: str) -> None:
    entry = {"path": path, "sha256": forged.objects[0], "size_bytes": "1"}
    forged.manifest(lambda document: document["files"].append(entry))
    refused(forged, home, "not a manifest: path")


def test_a_file_that_is_a_folder_of_another(forged: Forged, home: Home) -> None:
    entries = [{"path": path, "sha256": forged.objects[0], "size_bytes": "1"} for path in ("a", "a/b")]
    forged.manifest(lambda document: document["files"].extend(entries))
    refused(forged, home, "'a' is a file and a folder")


@pytest.mark.parametrize("topic", ["../x", "a/b", "\x1b]0;owned\x07", "", ".."])
def test_a_topic_that_no_topic_is_called(forged: Forged, home: Home, topic: str) -> None:
    forged.manifest(lambda document: document["streams"][0].update(topic=topic))
    forged.storage(lambda document: document["streams"][0].update(topic=topic))
    refused(forged, home, "is no name of a topic")


def test_more_rows_than_there_are(forged: Forged, home: Home) -> None:
    forged.manifest(lambda document: document["streams"][0]["partitions"][0].update(rows="2999"))
    refused(forged, home, re.escape("a[0]: its cells are not those of the manifest"))


def test_times_that_no_row_has(forged: Forged, home: Home) -> None:
    forged.manifest(lambda document: document["streams"][0]["partitions"][0].update(max_timestamp_ms="9"))
    refused(forged, home, "another range of time")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"format":1,"complete":true,"streams":{},"files":[],"tables":7}',
        b'{"complete":true,"files":[],"format":1,"streams":[],"tables":[],"z":1}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
)
def test_a_manifest_that_is_none(forged: Forged, home: Home, data: bytes) -> None:
    forged.manifest_bytes(data)
    refused(forged, home, "not a manifest")


def test_a_manifest_of_a_size_that_none_has(forged: Forged, home: Home) -> None:
    os.truncate(forged.path / "manifests" / f"{forged.id}.json", 1 << 40)
    refused(forged, home, "1,099,511,627,776 bytes, and no such document has more")


def test_a_number_that_is_too_large_for_64_bits(forged: Forged, home: Home) -> None:
    forged.storage(lambda document: cells_of(document)[0].update(start=str(1 << 70)))
    refused(forged, home, "is no 64-bit integer")


# Names and cuts


@pytest.mark.parametrize("text", ["../../etc/passwd", "", "0" * 63, "0" * 5000])
def test_a_name_that_holds_no_id(forged: Forged, home: Home, text: str) -> None:
    (forged.path / "refs" / "ticks").write_text(text)
    refused(forged, home, "it holds no id|no such document has more")


def test_names_that_are_none_are_not_pulled_with_all(forged: Forged, home: Home) -> None:
    from mlstream.snapshots.transfer import names_there

    for odd in ("Evil", "-rf", "x.json", "\x1b[2J"):
        (forged.path / "refs" / odd).write_text(f"{forged.id}\n")
    assert names_there(open_remote(forged.path)) == ["ticks"]


@pytest.mark.parametrize(
    "change",
    [
        lambda cut: cut.update(user="\x1b[2Jroot"),
        lambda cut: cut["tools"].update({"\x07": "1"}),
        lambda cut: cut.update(cut_ms="soon"),
        lambda cut: cut.update(streams=7),
        lambda cut: cut.update(source=[{}]),
    ],
)
def test_a_cut_that_is_none(forged: Forged, home: Home, change: Callable[[Document], object]) -> None:
    path = next((forged.path / "cuts").iterdir())
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    refused(forged, home, "control characters|not a cut")


# The storage map


def test_an_object_that_nothing_uses(forged: Forged, home: Home) -> None:
    data = b"not asked for"
    digest = hashlib.sha256(data).hexdigest()
    forged.object(digest).parent.mkdir(exist_ok=True)
    forged.object(digest).write_bytes(data)
    entry = {"size_bytes": str(len(data)), "rows": "0"}
    forged.storage(lambda document: document["objects"].update({digest: entry}))
    refused(forged, home, f"it lists object {digest}, which nothing in it uses")


def test_an_object_that_is_used_and_not_listed(forged: Forged, home: Home) -> None:
    forged.storage(lambda document: document["objects"].pop(forged.objects[0]))
    refused(forged, home, "wants rows that no object has")


@pytest.mark.parametrize("name", ["../../../evil", "0" * 63 + "/", "A" * 64])
def test_an_object_whose_name_is_no_digest(forged: Forged, home: Home, name: str) -> None:
    entry = {"size_bytes": "1", "rows": "0"}
    forged.storage(lambda document: document["objects"].update({name: entry}))
    refused(forged, home, "is no SHA-256")


def test_cells_whose_rows_are_those_of_another(forged: Forged, home: Home) -> None:
    """Everything is right but which rows of which object: only reading them tells."""

    def swap(document: Document) -> None:
        one, two = pieces_of(document)
        one["object"], two["object"] = two["object"], one["object"]

    forged.storage(swap)
    refused(forged, home, re.escape("a[0]"))


def test_rows_that_lead_out_of_an_object(forged: Forged, home: Home) -> None:
    forged.storage(lambda document: pieces_of(document)[0].update(row="-5"))
    refused(forged, home, "wants rows that no object has")


def test_a_storage_map_that_is_nested_too_deep(forged: Forged, home: Home) -> None:
    forged.storage_bytes(b"[" * 200_000)
    refused(forged, home, "not a storage map")


# The objects


def test_an_object_with_other_bytes(forged: Forged, home: Home) -> None:
    path = forged.object(forged.objects[0])
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(forged, home, "its bytes are not those of its name")


def test_an_object_that_is_cut_off(forged: Forged, home: Home) -> None:
    path = forged.object(forged.objects[0])
    path.chmod(0o644)
    os.truncate(path, 100)
    refused(forged, home, "100 bytes instead of")


def test_of_an_object_that_is_larger_than_announced_no_more_is_fetched(forged: Forged, home: Home) -> None:
    path = forged.object(forged.objects[0])
    path.chmod(0o644)
    os.truncate(path, 1 << 40)  # with zeros after its own bytes
    pull("ticks", open_remote(forged.path), home=home)
    assert open_snapshot("ticks", home=home).store.object(forged.objects[0]).stat().st_size < 1 << 20


def test_a_size_that_the_disk_has_no_room_for(forged: Forged, home: Home) -> None:
    entry = {"size_bytes": str(1 << 60), "rows": "3000"}
    forged.storage(lambda document: document["objects"].update({forged.objects[0]: entry}))
    refused(forged, home, "its objects take 1,152,921,504,.* bytes, and .* free", error=StoreError)


@pytest.mark.parametrize(("size", "rows"), [("-1", "3000"), ("9", str(1 << 40))])
def test_sizes_that_no_object_has(forged: Forged, home: Home, size: str, rows: str) -> None:
    forged.storage(lambda document: document["objects"].update({forged.objects[0]: {"size_bytes": size, "rows": rows}}))
    refused(forged, home, "bytes and .* rows")


def test_an_object_that_is_no_parquet(forged: Forged, home: Home) -> None:
    forged.put_object(b"#!/bin/sh\nrm -rf ~\n", forged.objects[0])
    refused(forged, home, "it is no Parquet file")


def test_an_object_with_other_columns(forged: Forged, home: Home, tmp_path: Path) -> None:
    forged.put_object(parquet(tmp_path, pa.table({"x": [1] * 3000})), forged.objects[0])
    refused(forged, home, "its columns are not those of records")


def test_an_object_with_fewer_rows_than_are_said(forged: Forged, home: Home, tmp_path: Path) -> None:
    table = pq.read_table(forged.object(forged.objects[0]))
    forged.put_object(parquet(tmp_path, table.slice(0, 10)), forged.objects[0])
    refused(forged, home, "10 rows instead of 3000")


def test_an_object_with_one_other_value(forged: Forged, home: Home, tmp_path: Path) -> None:
    digest = forged.objects[0]
    table = pq.read_table(forged.object(digest))
    values = table.column("value").to_pylist()
    values[1234] = b"another value"
    index = table.schema.get_field_index("value")
    forged.put_object(parquet(tmp_path, table.set_column(index, "value", pa.array(values, pa.binary()))), digest)
    refused(forged, home, "cell 0")


def test_the_same_rows_in_another_file_are_the_same_snapshot(forged: Forged, home: Home, tmp_path: Path) -> None:
    digest = forged.objects[0]
    table = pq.read_table(forged.object(digest))
    forged.put_object(parquet(tmp_path, table, compression="gzip", row_group_size=77), digest)
    pull("ticks", open_remote(forged.path), home=home)
    assert open_snapshot("ticks", home=home).verify(deep=True).rows == 6000


def test_an_object_that_would_take_too_much_memory(forged: Forged, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "_MOST_GROUP_BYTES", 1000)
    refused(forged, home, "it would take too much memory")


# What a folder may be made of


def test_symbolic_links_in_a_folder(forged: Forged, home: Home, tmp_path: Path) -> None:
    for path in (
        forged.object(forged.objects[0]),
        forged.object(forged.objects[0]).parent,
        forged.path / "objects",
        forged.path / "manifests" / f"{forged.id}.json",
        forged.path / "storage",
        forged.path / "refs" / "ticks",
        next((forged.path / "cuts").iterdir()),
    ):
        moved = path.rename(tmp_path / "moved")
        path.symlink_to(moved)
        refused(forged, home, "it is a symbolic link")
        path.unlink()
        moved.rename(path)
    pull("ticks", open_remote(forged.path), home=home)


def test_the_folder_itself_may_be_a_link(forged: Forged, home: Home, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(forged.path)
    pull("ticks", open_remote(tmp_path / "mount"), home=home)


def test_a_pipe_is_not_waited_for(forged: Forged, home: Home) -> None:
    path = forged.object(forged.objects[0])
    path.unlink()
    os.mkfifo(path)
    refused(forged, home, "it is no ordinary file")


def test_what_the_home_has_already_is_not_touched_by_what_is_refused(forged: Forged, home: Home) -> None:
    mine = make_snapshot(home, "mine", {"a": {0: plain(3000)}})
    assert set(mine.storage.objects) & set(forged.objects)  # it would be shared
    forged.put_object(b"no parquet", next(each for each in forged.objects if each not in mine.storage.objects))
    refused(forged, home, "it is no Parquet file")
    assert open_snapshot("mine", home=home).verify(deep=True).rows == 3000


# Anything else

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_whatever_stands_in_a_document_it_is_refused_or_is_the_same(
    forged: Forged, tmp_path: Path, data: st.DataObject
) -> None:
    folder = data.draw(st.sampled_from(["manifests", "storage", "cuts"]))
    path = next(iter(sorted((forged.path / folder).glob(f"{forged.id}*.json"))))
    original = path.read_bytes()
    document = json.loads(original)
    place = data.draw(st.sampled_from(places(document)))
    changed = json.dumps(put(document, place, data.draw(JSON_VALUES)), sort_keys=True, separators=(",", ":")).encode()
    was = forged.id
    home = Home(tmp_path / "fuzzed")
    try:
        if folder == "manifests":
            storage = forged.document("storage")
            forged.manifest_bytes(changed)
            forged.storage_bytes(json.dumps({**storage, "snapshot": forged.id}).encode())
        else:
            path.write_bytes(changed)
        try:
            pull("ticks", open_remote(forged.path), home=home)
        except MlstreamError:
            assert files(home) == set()
        else:
            found = open_snapshot("ticks", home=home)
            assert found.verify(deep=True).rows == 6000
            parse_storage(found.store.read(found.store.storage(found.id)), found.id)
            found.cuts()
    finally:
        forged.id = was
        (forged.path / "refs" / "ticks").write_text(f"{was}\n")
        path.write_bytes(original)
        shutil.rmtree(home.path, ignore_errors=True)

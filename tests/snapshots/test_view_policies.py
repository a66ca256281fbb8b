"""What becomes of records that do not decode: for every format the same three policies, counted and told."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import fastavro
import polars as pl
import pytest

from mlstream.config import DecodeConfig
from mlstream.errors import DecodeError, UsageError
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots.making import columns, make_snapshot, values

SCHEMA: dict[str, Any] = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}
JSON_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


@dataclass(frozen=True)
class Format:
    """A format, how it writes `n`, and values that are no record of it with what is said of them."""

    decode: dict[str, Any]
    written: Any
    wrong: Sequence[tuple[bytes | None, str]]


def avro(n: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), {"n": n})
    return b"\0" + struct.pack(">I", 1) + out.getvalue()


NOTHING = (None, "it has no value (null)")
FORMATS = {
    "json": Format({"format": "json"}, lambda n: b'{"n":%d}' % n, [(b"x", "it is not a JSON object"), NOTHING]),
    "json-declared": Format(
        {"format": "json", "columns": {"n": "int"}},
        lambda n: b'{"n":%d}' % n,
        [(b'{"n":"1"}', "column 'n' is int, and the value is \"1\""), NOTHING],
    ),
    "avro": Format(
        {"format": "avro", "schemas": {1: SCHEMA}},
        avro,
        [(avro(1) + b"!", "something follows the record"), (b"x", "it names no schema"), NOTHING],
    ),
    "json-schema": Format(
        {"format": "json-schema", "schemas": {1: JSON_SCHEMA}},
        lambda n: b"\0\0\0\0\1" + b'{"n":%d}' % n,
        [(b"\0\0\0\0\2{}", "it names schema 2"), (b"\0\0\0\0\1", "its value is empty"), NOTHING],
    ),
    "csv": Format(
        {"format": "csv", "columns": {"n": "int"}},
        lambda n: b"%d\n" % n,
        [(b"1,2", "it has more than 1 fields"), (b"x", "column 'n' is int"), NOTHING],
    ),
    "fixed-width": Format(
        {"format": "fixed-width", "columns": {"n": {"type": "int", "width": 5}}},
        lambda n: b"%05d" % n,
        [(b"123", "it ends inside column 'n'"), (b"0000x", "column 'n' is int"), NOTHING],
    ),
}
each_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def made(home: Home, form: Format) -> Snapshot:
    """20,000 good records in partition 0 with the wrong ones among them, and one wrong and two good in partition 1."""
    first = [form.written(n) for n in range(20_000)]
    for place, (value, _) in enumerate(form.wrong):
        first.insert(9_000 + place, value)
    second = [form.wrong[0][0], form.written(1), form.written(2)]
    return make_snapshot(home, "one", {"t": {0: columns(values(first)), 1: columns(values(second))}})


def decode_of(form: Format, on_error: str) -> DecodeConfig:
    return DecodeConfig(**form.decode, on_error=on_error)


@each_format
def test_fail_names_topic_partition_offset_and_reason(home: Home, form: Format) -> None:
    with pytest.raises(DecodeError) as caught:
        made(home, form).view("t", decode_of(form, "fail"))
    assert str(caught.value).startswith(f"t[0]@9000: {form.wrong[0][1]}")
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("t", 0, 9000)
    assert "on_error: dead-letter" in str(caught.value)
    assert not list((home.path / "views").glob("*"))


@each_format
def test_null_keeps_the_record_with_null_columns_and_counts_it(home: Home, form: Format) -> None:
    view = made(home, form).view("t", decode_of(form, "null"))
    assert view.rows == {0: 20_000 + len(form.wrong), 1: 3}
    assert view.faults == {0: len(form.wrong), 1: 1}
    frame = view.frame().collect()
    wrong = range(9_000, 9_000 + len(form.wrong))
    assert frame.filter(pl.col("n").is_null()).select("_partition", "_offset").rows() == [
        *((0, offset) for offset in wrong),
        (1, 0),
    ]
    assert frame["n"].drop_nulls().to_list() == [*range(20_000), 1, 2]
    with pytest.raises(UsageError, match="leaves no records out; decode with `on_error: dead-letter`"):
        view.dead_letters()


@each_format
def test_dead_letter_leaves_the_record_out_and_keeps_it_apart_as_it_was(home: Home, form: Format) -> None:
    snapshot = made(home, form)
    decode = decode_of(form, "dead-letter")
    view = snapshot.view("t", decode)
    assert (view.rows, view.faults) == ({0: 20_000, 1: 2}, {0: len(form.wrong), 1: 1})
    frame = view.frame().collect()
    assert frame["n"].to_list() == [*range(20_000), 1, 2]
    dead = snapshot.dead_letters("t", decode).collect()
    assert dead.schema == pl.Schema(
        {
            "partition": pl.Int32(),
            "offset": pl.Int64(),
            "timestamp": pl.Datetime("ms", "UTC"),
            "key": pl.Binary(),
            "value": pl.Binary(),
            "reason": pl.String(),
        }
    )
    assert dead["offset"].to_list() == [*range(9_000, 9_000 + len(form.wrong)), 0]
    assert dead["value"].to_list() == [*(value for value, _ in form.wrong), form.wrong[0][0]]
    assert dead["key"][0] == b"k%d" % (9_000 % 7)
    assert dead["timestamp"][0] == datetime(2023, 11, 14, 22, 13, 29, tzinfo=UTC)
    for found, (_, reason) in zip(dead["reason"], form.wrong, strict=False):
        assert found.startswith(reason)
    # Together they are every record, once.
    raw = snapshot.scan("t").select("partition", "offset").collect()
    both = pl.concat(
        [
            frame.select(partition="_partition", offset="_offset"),
            dead.select("partition", "offset"),
        ]
    ).sort("partition", "offset")
    assert both.equals(raw)


@each_format
def test_the_policies_are_views_of_their_own_and_made_anew_when_deleted(home: Home, form: Format) -> None:
    snapshot = made(home, form)
    views = {policy: snapshot.view("t", decode_of(form, policy)) for policy in ("null", "dead-letter")}
    assert views["null"].digest != views["dead-letter"].digest
    before = views["dead-letter"].dead_letters().collect()
    shutil.rmtree(snapshot.store.views)
    assert snapshot.dead_letters("t", decode_of(form, "dead-letter")).collect().equals(before)


def test_a_dead_letter_decides_no_inferred_type(home: Home) -> None:
    form = replace(FORMATS["json"], wrong=[(b'{"n":"text","n":1}', "a key that the object has twice")])
    view = made(home, form).view("t", decode_of(form, "dead-letter"))
    assert view.columns == (("n", "int"),)


def test_nothing_left_out_is_an_empty_frame(home: Home) -> None:
    snapshot = make_snapshot(home, "one", {"t": {0: columns(values([b'{"n":1}']))}})
    assert snapshot.dead_letters("t", DecodeConfig(on_error="dead-letter")).collect().height == 0


def test_all_left_out_is_an_empty_view(home: Home) -> None:
    snapshot = make_snapshot(home, "one", {"t": {0: columns(values([b"x", b"y"]))}})
    decode = DecodeConfig(columns={"n": "int"}, on_error="dead-letter")
    assert snapshot.scan("t", decode).collect().height == 0
    assert snapshot.dead_letters("t", decode).collect()["value"].to_list() == [b"x", b"y"]


def test_a_file_of_a_view_that_was_changed_is_noticed_and_one_that_was_only_copied_is_not_made_anew(
    home: Home,
) -> None:
    snapshot = make_snapshot(home, "one", {"t": {0: columns(values([b'{"n":%d}' % n for n in range(100)]))}})
    view = snapshot.view("t", DecodeConfig())
    file = view.folder / "0.arrow"
    data = file.read_bytes()
    file.write_bytes(data)  # another time of change, the same bytes
    inode = file.stat().st_ino
    assert snapshot.view("t", DecodeConfig()).frame().collect()["n"].sum() == 4950
    assert file.stat().st_ino == inode
    at = data.index(struct.pack("<q", 50) + struct.pack("<q", 51))
    file.write_bytes(data[:at] + struct.pack("<q", 999) + data[at + 8 :])
    assert snapshot.view("t", DecodeConfig()).frame().collect()["n"].sum() == 4950
    assert file.stat().st_ino != inode


def test_topics_that_cannot_be_decoded_so_say_why(home: Home) -> None:
    snapshot = make_snapshot(home, "one", {"t": {0: columns(values([avro(1)]))}})
    with pytest.raises(DecodeError, match="topic t: the snapshot holds no schemas for it; freeze it with --schema-reg"):
        snapshot.view("t", DecodeConfig(format="avro"))
    own = json.loads(json.dumps(SCHEMA).replace('"n"', '"_offset"'))
    with pytest.raises(DecodeError, match="'_offset', which is a column that every view has"):
        snapshot.view("t", DecodeConfig(format="avro", schemas={1: own}))
    with pytest.raises(DecodeError, match=r"topic t: column 'a': the format '%d.' does not say a date"):
        snapshot.view("t", DecodeConfig(format="csv", columns={"a": {"type": "date", "format": "%d."}}))

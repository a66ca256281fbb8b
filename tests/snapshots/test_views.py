"""Views: typed columns over a frozen topic, made once, kept by digests, made anew when deleted or damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlstream.config import DecodeConfig
from mlstream.errors import DecodeError, UnknownPartition, UnknownTopic
from mlstream.home import Home
from mlstream.snapshots import views
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots.making import columns, make_snapshot, values

JSON = DecodeConfig()


def records(count: int, *, start: int = 0) -> list[bytes]:
    return [
        json.dumps({"n": n, "price": n / 4, "symbol": f"S{n % 3}", "up": n % 2 == 0, "legs": [n]}).encode()
        for n in range(start, start + count)
    ]


@pytest.fixture
def made(home: Home) -> Snapshot:
    first, second = records(20_000), records(10, start=20_000)
    return make_snapshot(home, "one", {"ticks": {0: columns(values(first)), 1: columns(values(second))}})


def made_of(home: Home, *found: bytes | None, name: str = "one") -> Snapshot:
    return make_snapshot(home, name, {"ticks": {0: columns(values(found))}})


def test_a_typed_scan_has_coordinates_and_inferred_columns_in_order(made: Snapshot) -> None:
    frame = made.scan("ticks", JSON).collect()
    assert frame.schema == pl.Schema(
        {
            "_partition": pl.Int32(),
            "_offset": pl.Int64(),
            "_timestamp": pl.Datetime("ms", "UTC"),
            "_key": pl.Binary(),
            "legs": pl.String(),
            "n": pl.Int64(),
            "price": pl.Float64(),
            "symbol": pl.String(),
            "up": pl.Boolean(),
        }
    )
    assert frame["n"].to_list() == list(range(20_010))
    assert frame["_partition"].to_list() == [0] * 20_000 + [1] * 10
    assert frame["_offset"].to_list() == [*range(20_000), *range(10)]
    assert frame.row(20_003)[4:] == ("[20003]", 20_003, 5000.75, "S2", False)
    assert frame["_timestamp"][1] == datetime(2023, 11, 14, 22, 13, 20, 1000, tzinfo=UTC)
    assert frame["_key"][8] == b"k1"


def test_partitions_are_frames_of_their_own_and_together_the_whole(made: Snapshot) -> None:
    view = made.view("ticks", JSON)
    assert view.partitions == (0, 1)
    assert view.rows == {0: 20_000, 1: 10}
    assert view.schema == view.frame().collect_schema()
    assert dict(view.columns) == {"legs": "json", "n": "int", "price": "float", "symbol": "string", "up": "bool"}
    assert_frame_equal(pl.concat([view.partition(0), view.partition(1)]), view.frame().collect())
    with pytest.raises(UnknownPartition, match="no partition 2"):
        view.partition(2)


def test_a_view_is_made_once_and_made_anew_when_deleted(made: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = views.make_view
    monkeypatch.setattr(views, "make_view", lambda *args: (calls.append(1), real(*args)))
    first = made.view("ticks", JSON)
    again = made.view("ticks", JSON)
    assert (first.digest, len(calls)) == (again.digest, 1)
    before = first.frame().collect()
    shutil.rmtree(made.store.views)
    assert_frame_equal(made.scan("ticks", JSON).collect(), before)
    assert len(calls) == 2
    (made.store.views / first.digest / "1.arrow").write_bytes(b"cut off")
    assert_frame_equal(made.scan("ticks", JSON).collect(), before)
    assert len(calls) == 3
    (made.store.views / first.digest / "view.json").unlink()
    assert_frame_equal(made.scan("ticks", JSON).collect(), before)
    assert [path.name for path in made.store.views.iterdir()] == [first.digest]


def test_other_records_and_other_decoders_have_other_views(home: Home, made: Snapshot) -> None:
    others = [
        DecodeConfig(format="raw"),
        DecodeConfig(on_error="null"),
        DecodeConfig(columns={"n": "int", "price": "float"}),
        DecodeConfig(columns={"price": "float", "n": "int"}),
        DecodeConfig(columns={"n": "float"}),
    ]
    digests = [made.view("ticks", decode).digest for decode in [JSON, *others]]
    digests.append(made_of(home, b'{"n":1}', name="two").view("ticks", JSON).digest)
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("decode", "digest"),
    [
        (JSON, "cd6887d013ad7aae6702dfede91a6d69362c2a74b9a507542cfd2466652e4933"),
        (
            DecodeConfig(columns={"b": "int", "a": "time"}, on_error="null"),
            "a9334902f3a7674ddb581f239a84ce1d9d8b70977bcc953dd3762fdd22c1f986",
        ),
    ],
)
def test_a_decoder_s_digest_stays_what_it_was_when_options_are_added(decode: DecodeConfig, digest: str) -> None:
    assert views.decoder_digest(decode) == digest
    assert list(decode.model_dump()) == ["format", "columns", "on_error"]  # what the key of a run covers


def test_the_same_records_in_another_snapshot_share_the_view(home: Home, made: Snapshot) -> None:
    ticks = {0: columns(values(records(20_000))), 1: columns(values(records(10, start=20_000)))}
    both = make_snapshot(home, "more", {"other": {0: columns(values([b"x"]))}, "ticks": ticks})
    assert both.id != made.id
    assert both.view("ticks", JSON).digest == made.view("ticks", JSON).digest


def test_a_column_s_type_covers_all_partitions(home: Home) -> None:
    made = make_snapshot(
        home, "one", {"t": {0: columns(values([b'{"x":1}', b"{}"])), 1: columns(values([b'{"x":2.5,"y":null}']))}}
    )
    frame = made.scan("t", JSON).collect()
    assert frame.select("x", "y").to_dict(as_series=False) == {"x": [1.0, None, 2.5], "y": [None, None, None]}


def test_a_value_that_is_not_json_is_named_by_topic_partition_offset_and_reason(home: Home) -> None:
    made = made_of(home, *records(9000), b"not json", b"neither")
    for decode in (JSON, DecodeConfig(columns={"n": "int"})):
        with pytest.raises(DecodeError, match=r"ticks\[0\]@9000: it is not a JSON object, at byte 0") as caught:
            made.scan("ticks", decode)
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("ticks", 0, 9000)
        assert "on_error: null" in str(caught.value)
    assert not list(made.store.views.glob("*")) if made.store.views.exists() else True


def test_records_that_do_not_decode_can_be_null_and_are_counted(home: Home) -> None:
    made = made_of(home, b'{"n":1}', b"oops", None, b'{"n":2,"m":"x"}', b'{"n":2,"n":3}')
    view = made.view("ticks", DecodeConfig(on_error="null"))
    assert view.faults == {0: 3}
    assert view.frame().collect().select("m", "n").rows() == [
        (None, 1), (None, None), (None, None), ("x", 2), (None, None),
    ]  # fmt: skip
    declared = made.view("ticks", DecodeConfig(columns={"n": "string"}, on_error="null"))
    assert declared.faults == {0: 5}


def test_a_declared_type_that_a_value_does_not_fit_is_an_error_never_a_silent_null(home: Home) -> None:
    made = made_of(home, b'{"n":1}', b'{"n":"1"}')
    with pytest.raises(DecodeError, match=r"""ticks\[0\]@1: column 'n' is int, and the value is "1\""""):
        made.scan("ticks", DecodeConfig(columns={"n": "int"}))


def test_declared_times_are_datetimes(home: Home) -> None:
    made = made_of(home, b'{"at":"2013-10-01T06:00+02:00"}', b'{"at":5}', b"{}")
    frame = made.scan("ticks", DecodeConfig(columns={"at": "time"})).collect()
    assert frame.schema["at"] == pl.Datetime("ms", "UTC")
    assert frame["at"].to_list() == [
        datetime(2013, 10, 1, 4, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 0, 5000, UTC),
        None,
    ]


def test_raw_values_are_bytes_as_they_are(home: Home) -> None:
    frame = made_of(home, b"\xff\n", None, b"").scan("ticks", DecodeConfig(format="raw")).collect()
    assert frame.columns == ["_partition", "_offset", "_timestamp", "_key", "value"]
    assert frame["value"].to_list() == [b"\xff\n", None, b""]


def test_a_topic_without_records_has_an_empty_frame(home: Home) -> None:
    made = make_snapshot(home, "one", {"t": {0: columns([])}})
    assert made.scan("t").collect().height == 0
    frame = made.scan("t", DecodeConfig(columns={"n": "int"})).collect()
    assert (frame.height, frame.columns[-1]) == (0, "n")
    assert made.view("t", JSON).partition(0).height == 0


@pytest.mark.parametrize("decode", [JSON, DecodeConfig(columns={"_offset": "int"})])
def test_a_key_that_is_a_view_s_own_column_is_refused(home: Home, decode: DecodeConfig) -> None:
    with pytest.raises(DecodeError, match="'_offset', which is a column that every view has"):
        made_of(home, b'{"_offset":1}').scan("ticks", decode)


def test_a_topic_that_is_not_there_is_named(made: Snapshot) -> None:
    with pytest.raises(UnknownTopic, match=r"holds no topic .tocks.; did you mean .ticks."):
        made.view("tocks", JSON)


def test_frames_are_mapped_not_read(made: Snapshot, tmp_path: Path) -> None:
    view = made.view("ticks", JSON)
    maps = Path("/proc/self/maps")
    frame = view.partition(0)
    assert frame.height == 20_000
    if maps.exists():
        assert str(view.folder / "0.arrow") in maps.read_text()


def test_processes_that_want_the_same_view_at_once_make_it_once_and_all_read_it(home: Home, tmp_path: Path) -> None:
    rows = values([b'{"n":%d,"text":"%s"}' % (n, b"x" * 50) for n in range(20_000)])
    make_snapshot(home, "wanted", {"ticks": {0: columns(rows), 1: columns(rows)}})
    program = (
        "import os, sys, time, mlstream\n"
        "from mlstream.config import DecodeConfig\n"
        "from mlstream.snapshots import views\n"
        "made, make_view = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND), views.make_view\n"
        "def slowly(*args):\n"
        "    os.write(made, b'made ')\n"
        "    time.sleep(0.5)\n"  # so that all the others find that there is no view yet
        "    make_view(*args)\n"
        "views.make_view = slowly\n"
        "snapshot = mlstream.open_snapshot('wanted', home=sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "frame = snapshot.scan('ticks', decode=DecodeConfig())\n"
        "print(frame.select('n').collect()['n'].sum())\n"
    )
    makings = tmp_path / "makings"
    command = [sys.executable, "-c", program, str(home.path), str(makings)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    sums = [reader.communicate(timeout=120)[0].strip() for reader in readers]
    assert sums == [str(2 * sum(range(20_000)))] * 4
    assert makings.read_text() == "made "
    (view,) = [folder for folder in (home.path / "views").iterdir() if folder.is_dir()]
    assert {file.suffix for file in view.iterdir()} == {".arrow", ".json"}


@pytest.mark.parametrize("name", ["with [brackets]", "a*b?c", "{a,b}"])
def test_a_home_s_path_is_no_pattern(name: str, tmp_path: Path) -> None:
    made = made_of(Home(tmp_path / name), *records(5), b"{no json")
    assert made.scan("ticks").collect().height == 6
    apart = DecodeConfig(on_error="dead-letter")
    assert made.scan("ticks", apart).collect()["n"].to_list() == [0, 1, 2, 3, 4]
    assert made.dead_letters("ticks", apart).collect()["offset"].to_list() == [5]

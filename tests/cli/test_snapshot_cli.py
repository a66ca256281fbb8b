"""`mlstream snapshot …`: results on stdout, messages on stderr, one object with --json, 80 columns, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.home import Home
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import columns, make_snapshot, plain, values

Call = Callable[..., Any]


@pytest.fixture
def filled(broker: Connection, client: Client, topic: str) -> str:
    """A topic of two partitions with 50 records each."""
    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b'{"n":%d}' % n, partition=n % 2) for n in range(100)])
    return topic


def test_create_prints_a_summary_that_fits_the_screen(cli: Call, filled: str) -> None:
    made = cli("snapshot", "create", "jan", "--topic", filled)
    assert made.exit_code == 0
    lines = made.stdout.splitlines()
    assert lines[0].split() == ["snapshot", "jan"]
    assert len(lines[1].split()[1]) == 64
    assert "100 (all fetched)" in lines[2]
    assert lines[3].split()[:3] == ["cut", "fixed", "in"]
    assert "in 2 objects" in lines[4]
    assert all(word in made.stdout for word in ("part", "from", "to", "gaps", "unstable", "records", "payloads"))
    assert max(map(len, lines)) <= 80 + len(filled)  # the topic's own line may be longer
    assert "froze 100 rows" in made.stderr


def test_create_in_json_is_one_object_with_all_digests(cli: Call, filled: str) -> None:
    made = cli("snapshot", "create", "jan", "--topic", f"{filled}[0]@5..20", "--json").json
    assert (made["name"], made["rows"], made["existed"], made["fetched"], made["complete"]) == (
        "jan",
        15,
        False,
        15,
        True,
    )
    (part,) = made["streams"][0]["partitions"]
    assert (part["start"], part["stop"], len(part["root"]), len(part["payload_digest"])) == (5, 20, 64, 64)
    assert (part["cut"]["log_start"], part["cut"]["last_stable"], part["cut"]["high_watermark"]) == (0, 50, 50)
    again = cli("snapshot", "create", "jan", "--topic", f"{filled}[0]@5..20", "--json").json
    assert (again["id"], again["existed"], again["fetched"]) == (made["id"], True, 0)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--partition", "1"], 50),
        (["--partition", "0-1", "--from", "10"], 80),
        (["--from", "10", "--to", "12"], 4),
        (["--from", "2001-01-01", "--to", "-1h"], 100),
    ],
)
def test_options_choose_partitions_and_range(cli: Call, filled: str, options: list[str], rows: int) -> None:
    assert cli("snapshot", "create", "x", "--topic", filled, *options, "--json").json["rows"] == rows


def test_a_dry_run_says_rows_bytes_and_disk_and_makes_nothing(cli: Call, filled: str) -> None:
    said = cli("snapshot", "create", "jan", "--topic", filled, "--dry-run")
    assert said.exit_code == 0
    assert all(word in said.stdout for word in ("not made", "about 100;", "to write", "free"))
    found = cli("snapshot", "create", "jan", "--topic", filled, "--dry-run", "--json").json
    assert (found["dry_run"], found["rows"], found["fits"]) == (True, 100, True)
    assert found["size_bytes"] > 0
    assert cli("snapshot", "ls", "--json").json == {"snapshots": [], "damaged": {}}


def test_several_topics_go_into_one_snapshot(cli: Call, filled: str, broker: Connection, client: Client) -> None:
    create_topic(client, f"{filled}-b", partitions=1, config=KEEP_EVERYTHING)
    produce(broker, f"{filled}-b", [Sent(b"x")])
    made = cli("snapshot", "create", "two", "--topic", filled, "--topic", f"{filled}-b", "--json").json
    assert made["topics"] == [filled, f"{filled}-b"]
    assert made["rows"] == 101


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["create", "x", "--topic", "{topic}x"], 1, ["there is no topic", "did you mean '{topic}'"]),
        (["create", "x", "--topic", "{topic}[9]"], 1, ["has no partition 9", "it has 0 to 1"]),
        (["create", "x", "--topic", "{topic}", "--partition", "9"], 1, ["has no partition 9"]),
        (["create", "x", "--topic", "{topic}@7..7"], 1, ["nothing between 7 and 7"]),
        (["create", "x", "--topic", "{topic}", "--to", "99"], 1, ["asked up to 99, the stream ends at 50", "--to 50"]),
        (["create", "x", "--topic", "{topic}", "--from", "soon"], 2, ["'soon' is not a position"]),
        (["create", "x", "--topic", "a b"], 2, ["does not name a topic"]),
        (["create", "x", "--topic", "{topic}", "--partition", "a"], 2, ["is not a list of partitions"]),
        (["create", "X Y", "--topic", "{topic}"], 2, ["rename it, for example to 'x-y'"]),
        (["create", "x"], 2, ["there is nothing to freeze", "name topics, files, tables or queries"]),
        (["show", "nothing"], 1, ["no snapshot is called 'nothing'"]),
        (["verify", "nothing"], 1, ["no snapshot is called 'nothing'"]),
    ],
)
def test_a_wrong_call_says_what_to_do_and_leaves_nothing(
    cli: Call, filled: str, home: Home, args: list[str], code: int, words: list[str]
) -> None:
    said = cli("snapshot", *[arg.format(topic=filled) for arg in args])
    assert (said.exit_code, said.stdout) == (code, "")
    for word in words:
        assert word.format(topic=filled) in " ".join(said.stderr.split())
    assert not (home.path / "manifests").exists()
    assert not (home.path / "refs").exists()


def test_a_taken_name_is_refused_and_the_same_content_is_not(cli: Call, filled: str) -> None:
    assert cli("snapshot", "create", "jan", "--topic", filled).exit_code == 0
    taken = cli("snapshot", "create", "jan", "--topic", f"{filled}@0..1")
    assert taken.exit_code == 1
    assert "choose another name" in taken.stderr
    again = cli("snapshot", "create", "jan", "--topic", filled)
    assert again.exit_code == 0
    assert "it held this already" in again.stdout


def test_a_broker_that_is_not_there_is_exit_1_with_the_fix(bare_cli: Call) -> None:
    said = bare_cli("--bootstrap-servers", "127.0.0.1:1", "snapshot", "create", "x", "--topic", "t")
    assert said.exit_code == 1
    assert "127.0.0.1:1" in said.stderr
    assert "fix:" in said.stderr


def test_a_terminal_sees_a_bar_with_rows_rate_and_what_is_left(broker: Connection, filled: str, home: Home) -> None:
    program = "import sys; from mlstream.cli.main import main; main(sys.argv[1:])"
    args = ["--home", str(home.path), "--bootstrap-servers", ",".join(broker.bootstrap_servers)]
    screen, terminal = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-c", program, *args, "snapshot", "create", "x", "--topic", filled],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        cwd=Path(__file__).parents[2],
    )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # what Linux gives at the end of a terminal
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    out, _ = running.communicate(timeout=30)
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert running.returncode == 0
    assert b"100 (all fetched)" in out
    assert "100 rows" in seen
    assert "MB/s" in seen
    assert "0 left" in seen
    assert "froze" not in seen  # the line for pipes


# What follows needs no broker.


def test_ls_shows_names_ids_rows_and_damage(bare_cli: Call, home: Home) -> None:
    none = bare_cli("snapshot", "ls")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "mlstream snapshot create" in none.stderr
    one = make_snapshot(home, "one", {"ticks": {0: plain(1234)}})
    two = make_snapshot(home, "two", {"ticks": {0: plain(5)}})
    two.store.manifest(two.id).write_text("{}")
    said = bare_cli("snapshot", "ls")
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert all(word in said.stdout for word in ("one", one.id[:12], "1,234", "ticks", two.id[:12], "damaged"))
    found = bare_cli("snapshot", "ls", "--json").json
    assert [each["id"] for each in found["snapshots"]] == [one.id]
    assert list(found["damaged"]) == [two.id]


def test_ls_leaves_out_the_outputs_of_runs_and_says_so(bare_cli: Call, home: Home) -> None:
    make_snapshot(home, "input", {"ticks": {0: plain(10)}})
    output = "an-experiment.v1.0123456789ab"
    make_snapshot(home, output, {output: {0: plain(10)}})
    make_snapshot(home, "a.look-alike.0123456789ab", {"ticks": {0: plain(11)}})
    said = bare_cli("snapshot", "ls")
    assert output not in said.stdout
    assert "a.look-alike.0123456789ab" in said.stdout
    assert "1 frozen outputs of runs are not shown; --all shows them" in said.stderr
    everything = bare_cli("snapshot", "ls", "--all")
    assert all(name in everything.stdout for name in ("input", output, "a.look-alike.0123456789ab"))
    assert max(map(len, everything.stdout.splitlines())) <= 80
    assert len(bare_cli("snapshot", "ls", "--json").json["snapshots"]) == 3


def test_show_says_what_a_snapshot_holds_in_80_columns(bare_cli: Call, home: Home) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: plain(1234), 1: columns(values([b"x"]))}})
    for name in ("one", made.id, made.id[:8]):
        said = bare_cli("snapshot", "show", name)
        assert said.exit_code == 0
        assert max(map(len, said.stdout.splitlines())) <= 80
        assert all(word in said.stdout for word in (made.id, "1,235", "ticks", made.streams[0].partitions[0].root[:8]))
    assert bare_cli("snapshot", "show", "one", "--json").json["streams"][0]["partitions"][1]["rows"] == 1


@pytest.mark.parametrize("options", [[], ["--deep"]])
def test_verify_says_ok_or_names_the_damage(bare_cli: Call, home: Home, options: list[str]) -> None:
    made = make_snapshot(home, "one", {"ticks": {0: plain(100)}})
    good = bare_cli("snapshot", "verify", "one", *options)
    assert good.exit_code == 0
    assert good.stdout.startswith("ok: one: 1 object, ")
    assert bare_cli("snapshot", "verify", "one", *options, "--json").json["ok"] is True
    (name,) = made.storage.objects
    made.store.object(name).unlink()
    bad = bare_cli("snapshot", "verify", "one", *options)
    assert bad.exit_code == 1
    assert bad.stdout.startswith("damaged: one: ")
    assert f"object {name}: it is missing" in bad.stdout
    assert "breaks ticks[0] offsets 0 to 100" in bad.stdout
    assert "error: snapshot one: it is not whole" in bad.stderr
    assert "fix: restore it" in bad.stderr


@pytest.mark.parametrize(
    ("options", "end"), [([], "(--deep recomputes every row)"), (["--deep"], "every row recomputed")]
)
def test_verify_says_how_many_rows_the_tables_of_a_snapshot_without_topics_have(
    bare_cli: Call, home: Home, tmp_path: Path, options: list[str], end: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE goods (id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE empty (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO goods VALUES (?)", [(n,) for n in range(1234)])
    url = f"sqlite:///{tmp_path}/shop.db"
    mlstream.snapshot("shop", tables=[f"{url}#goods", f"{url}#empty"], home=home)
    said = bare_cli("snapshot", "verify", "shop", *options)
    assert said.exit_code == 0
    assert "; 2 tables with 1,234 rows" in said.stdout
    assert said.stdout.rstrip().endswith(end)
    (found,) = bare_cli("snapshot", "verify", "shop", *options, "--json").json["snapshots"]
    assert (found["rows"], found["tables"], found["table_rows"]) == (0, 2, 1234)


def test_ls_show_and_verify_work_without_kafka_s_client(home: Home) -> None:
    make_snapshot(home, "one", {"ticks": {0: plain(10)}})
    program = (
        "import sys\n"
        "from mlstream.cli.main import run\n"
        "for args in (['ls'], ['show', 'one'], ['verify', 'one', '--json']):\n"
        "    assert run(['--home', sys.argv[1], 'snapshot', *args]) == 0\n"
        "print('kafka' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(home.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])["ok"] is True

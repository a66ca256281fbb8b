"""`mlstream snapshot create` with files, tables and a configuration: what it prints, and what it says of mistakes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.home import Home
from tests.databases.postgres_server import Postgres
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import left

Call = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two files, in which the test stands."""
    root = tmp_path / "project"
    (root / "reference").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "reference" / "airports.csv").write_text("code\nJFK\n")
    (root / "reference" / "weights[1].bin").write_bytes(bytes(5000))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def weather(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of ten rows; the URL of its database, as a variable of the environment."""
    postgres.run(
        "CREATE TABLE weather (station text, hour int, wind numeric(6,2), PRIMARY KEY (station, hour))",
        "INSERT INTO weather SELECT 'JFK', n, n + 0.25 FROM generate_series(1, 10) n",
    )
    monkeypatch.setenv("WEATHER_DB", postgres.url)
    return "${WEATHER_DB}"


@pytest.fixture
def filled(broker: Connection, client: Client, topic: str) -> str:
    """A topic of two partitions with 50 records each."""
    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b'{"n":%d}' % n, partition=n % 2) for n in range(100)])
    return topic


@pytest.mark.broker
def test_topics_files_and_tables_make_one_snapshot_that_is_shown_in_80_columns(
    cli: Call, project: Path, weather: str, filled: str
) -> None:
    query = f"{weather}#windy=SELECT hour, wind FROM weather WHERE wind > 8"
    what = ("--topic", filled, "--file", "reference", "--table", f"{weather}#weather", "--query", query)
    made = cli("snapshot", "create", "all", *what)
    assert made.exit_code == 0
    for said in (made.stdout, cli("snapshot", "show", "all").stdout):
        lines = said.splitlines()
        assert max(map(len, lines)) <= 80 + len(filled)  # the topic's own line may be longer
        words = [line.split() for line in lines]
        assert ["tables", "2", "with", "13", "rows"] in words
        assert ["files", "2", "of", "5.0", "kB"] in words
        assert any(line[:5] == ["weather", "10", "3", "station,", "hour"] for line in words)
        assert any(line[:4] == ["windy", "3", "2", "(none)"] for line in words)
        assert any(line[:2] == ["reference/weights[1].bin", "5,000"] for line in words)
    steps = ["reading table weather", "reading table windy", "reading 2 files", "copying 2 files", "froze 100 rows"]
    assert [line.split(" in ")[0] for line in made.stderr.splitlines()] == steps
    found = cli("snapshot", "show", "all", "--json").json
    assert [(table["name"], table["rows"], table["primary_key"]) for table in found["tables"]] == [
        ("weather", 10, ["station", "hour"]),
        ("windy", 3, []),
    ]
    assert [column["type"] for column in found["tables"][0]["columns"]] == ["text", "int32", "decimal(6,2)"]
    assert [file["path"] for file in found["files"]] == ["reference/airports.csv", "reference/weights[1].bin"]
    assert [database["tables"] for database in found["databases"]] == [["weather", "windy"]]
    assert found["cut_ms"] > 0  # a database was opened meanwhile
    assert f"cut       fixed in {found['cut_ms']:,} ms\n" in made.stdout


@pytest.mark.broker
def test_a_configuration_says_what_to_freeze_and_the_command_line_adds_to_it(
    cli: Call, project: Path, weather: str, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "configs").mkdir()
    (project / "configs" / "january.yaml").write_text(
        f"""\
snapshot:
  topics: ["{filled}[0]"]
  from: 10
  to: 30
  files: [reference/*.csv]
  tables: ["{weather}#weather"]
  queries:
    - >-
      {weather}#windy=SELECT hour, wind
      FROM weather WHERE wind > 8
  max_rate: 50MB/s
"""
    )
    monkeypatch.chdir(project / "reference")
    whole = cli("snapshot", "create", "a", "--config", "../configs/january.yaml", "--json").json
    assert (whole["rows"], len(whole["tables"]), [file["path"] for file in whole["files"]]) == (
        20,
        2,
        ["reference/airports.csv"],
    )
    more = cli(
        "snapshot", "create", "b", "--config", "../configs/january.yaml", "--from", "25", "--file", "weights*", "--json"
    ).json
    assert (more["rows"], len(more["files"])) == (5, 2)


def test_an_sqlite_database_of_a_configuration_is_looked_for_from_the_project_s_root(
    bare_cli: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(project / "reference" / "a b.db")) as database:
        database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO t VALUES (7)")
        database.commit()
    (project / "c.yaml").write_text("snapshot:\n  tables: ['sqlite:///reference/a%20b.db#t']\n")
    monkeypatch.chdir(project / "reference")
    made = bare_cli("snapshot", "create", "x", "--config", "../c.yaml", "--json")
    assert [(table["name"], table["rows"]) for table in made.json["tables"]] == [("t", 1)]
    again = bare_cli("snapshot", "create", "x", "--table", "sqlite:///a%20b.db#t", "--json")
    assert again.json["existed"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connection: {}\n", ["c.yaml: it has no `snapshot:` section", "add one, with topics, files"]),
        ("snapshot:\n  file: [x]\n", ["c.yaml:2: snapshot.file: no such key; did you mean 'files'?"]),
        ("snapshot: {}\n", ["c.yaml:1: snapshot: it names nothing to freeze"]),
        ("snapshot:\n  files: [x]\n  from: soon\n", ["c.yaml:3: snapshot.from: 'soon' is not a position"]),
        ("snapshot:\n  topics: [a b]\n", ["c.yaml:2: snapshot.topics.0: 'a b' does not name a topic"]),
        ("snapshot:\n  files: [x]\n  max_rate: 5\n", ["c.yaml:3: snapshot.max_rate"]),
        ("snapshot:\n  files: [x]\n  max_rate: 5 MB\n", ["c.yaml:3: snapshot.max_rate: '5 MB' is not a rate"]),
        ("experiment: e\nsnapshot:\n  files: [x]\n", ["c.yaml:1: input: missing"]),
    ],
)
def test_a_mistake_in_the_configuration_is_named_by_its_line(
    bare_cli: Call, project: Path, home: Home, text: str, words: list[str]
) -> None:
    (project / "c.yaml").write_text(text)
    said = bare_cli("snapshot", "create", "x", "--config", "c.yaml")
    assert (said.exit_code, said.stdout) == (1, "")
    for word in words:
        assert word in " ".join(said.stderr.split())
    assert left(home) == []


def test_files_and_tables_alone_need_no_broker_and_a_dry_run_makes_nothing(
    bare_cli: Call, project: Path, home: Home, weather: str
) -> None:
    what = ("--file", "reference", "--table", f"{weather}#weather")
    said = bare_cli("snapshot", "create", "x", *what, "--dry-run")
    assert said.exit_code == 0
    assert all(
        word in said.stdout for word in ("not made", "weather; their rows are not estimated", "2, of which 5.0 kB")
    )
    found = bare_cli("snapshot", "create", "x", *what, "--dry-run", "--json").json
    assert (found["files"], found["files_bytes"], found["tables"], found["partitions"]) == (2, 5009, ["weather"], [])
    assert left(home) == []
    assert bare_cli("snapshot", "create", "x", *what).exit_code == 0
    again = bare_cli("snapshot", "create", "x", *what, "--dry-run", "--json").json
    assert again["files_bytes"] == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--file", "referense"], 1, ["there is no such file", "did you mean 'reference'?"]),
        (["--table", "{db}#wether"], 1, ["no table 'wether'", "weather"]),
        (["--table", "{db}"], 2, ["write URL#TABLE"]),
        (["--table", "${{NOT_SET}}#x"], 2, ["NOT_SET, which is not set"]),
        (["--query", "{db}#x=SELECT wnd FROM weather"], 1, ["query x", "wnd"]),
        (["--file", "reference", "--max-rate", "fast"], 2, ["'fast' is not a rate", "50MB/s"]),
        (["--file", "reference", "--schema-registry", "nowhere"], 1, ["its address is not a URL"]),
        (["--config", "nothing.yaml"], 1, ["nothing.yaml: there is no such file"]),
    ],
)
def test_a_mistake_on_the_command_line_is_named_with_the_fix(
    bare_cli: Call, project: Path, home: Home, weather: str, options: list[str], code: int, words: list[str]
) -> None:
    said = bare_cli("snapshot", "create", "x", *[option.format(db=weather) for option in options])
    assert (said.exit_code, said.stdout) == (code, "")
    for word in words:
        assert word in " ".join(said.stderr.split())
    assert left(home) == []


def test_many_files_are_counted_and_json_lists_them_all(bare_cli: Call, project: Path) -> None:
    for n in range(50):
        (project / "reference" / f"{n:02}.txt").write_text(str(n))
    made = bare_cli("snapshot", "create", "x", "--file", "reference")
    assert "and 32 files more; --json lists all" in made.stdout
    assert len(made.stdout.splitlines()) < 40
    assert len(bare_cli("snapshot", "show", "x", "--json").json["files"]) == 52


def test_a_password_is_shown_nowhere(bare_cli: Call, home: Home, postgres: Postgres, monkeypatch: Any) -> None:
    postgres.run("CREATE TABLE t (n int)")
    monkeypatch.setenv("WEATHER_DB", postgres.as_user("postgres", "Sesame-4711"))
    made = bare_cli("snapshot", "create", "x", "--table", "${WEATHER_DB}#t")
    shown = bare_cli("snapshot", "show", "x", "--json")
    failed = bare_cli("snapshot", "create", "y", "--table", "${WEATHER_DB}#nothing")
    assert (made.exit_code, shown.exit_code, failed.exit_code) == (0, 0, 1)
    texts = [said.stdout + said.stderr for said in (made, shown, failed)]
    texts += [path.read_text() for path in home.path.rglob("*.json")]
    assert not [text for text in texts if "Sesame" in text]


@pytest.mark.broker
def test_a_compacted_topic_is_said_to_be_one(
    cli: Call, broker: Connection, client: Client, topic: str, filled: str
) -> None:
    compacted = f"{topic}-compacted"
    create_topic(client, compacted, partitions=1, config={**KEEP_EVERYTHING, "cleanup.policy": "compact"})
    produce(broker, compacted, [Sent(b"{}", key=b"k%d" % n, partition=0) for n in range(5)])
    done = cli("snapshot", "create", "both", "--topic", compacted, "--topic", filled)
    assert done.exit_code == 0
    assert f"{compacted} is compacted: a key that was written again meanwhile may be missing" in done.stderr
    assert f"{filled} is compacted" not in done.stderr

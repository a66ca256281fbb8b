"""A comparison is recorded once, whole or not at all, wherever records go and whatever else happens."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlstream.errors import TrackingError
from mlstream.home import Home
from mlstream.registry.place import shown_uri, tracking_uri
from mlstream.reporting.tracking import newest, track
from tests.reporting.examples import digest, example_comparison, example_run
from tests.reporting.stores import TRACK, active_runs, in_a_process, rows

if TYPE_CHECKING:
    from tests.reporting.conftest import Reader

# Once, whole, or not at all


def test_the_same_comparison_is_recorded_once(stocked: Home) -> None:
    first = track(example_comparison(), example_run(), home=stocked)
    assert track(example_comparison(), example_run(), home=stocked) == first
    assert rows(stocked, "SELECT count(*) FROM runs") == [(4,)]


def test_another_comparison_is_another_record_of_the_same_models(stocked: Home, reader: Reader) -> None:
    first = track(example_comparison(), example_run(), home=stocked)
    other = example_comparison(id=digest("another"), snapshot_id=digest("later"), snapshot_name="flights-later")
    second = track(other, example_run(snapshot_id=digest("later")), home=stocked)
    assert second.run_id != first.run_id
    assert newest(stocked) == second
    with reader(stocked.mlflow_uri) as client:
        models = client.search_logged_models([first.experiment_id])
    assert len(models) == 3
    assert {metric.dataset_name for metric in models[0].metrics} == {"flights-q4", "flights-later"}


class Interrupted(dict[str, str]):
    """An environment that, when it is written down at the very end, ends the process or fails."""

    def __init__(self, how: str) -> None:
        super().__init__(numpy="1")
        self.how = how

    def items(self) -> Any:
        if self.how == "killed":
            os._exit(9)
        raise ZeroDivisionError(self.how)


def test_a_record_that_was_killed_is_not_complete_and_makes_way_for_a_whole_one(stocked: Home) -> None:
    code = "from tests.reporting.test_tracking_once import Interrupted\n"
    call = "track(example_comparison(), example_run(environment=Interrupted('killed')), home=find_home())"
    done = in_a_process(TRACK + code + call, home=stocked)
    assert done.returncode == 9, done.stderr
    assert active_runs(stocked) == 4
    assert rows(stocked, "SELECT count(*) FROM tags WHERE key = 'mlstream.status' AND value = 'completed'") == [(0,)]
    assert newest(stocked) is None
    whole = track(example_comparison(), example_run(), home=stocked)
    assert newest(stocked) == whole
    assert active_runs(stocked) == 4


def test_a_record_that_fails_is_shown_as_failed_and_not_as_complete(stocked: Home) -> None:
    with pytest.raises(ZeroDivisionError):
        track(example_comparison(), example_run(environment=Interrupted("fails")), home=stocked)
    assert {status for (status,) in rows(stocked, "SELECT status FROM runs")} == {"FAILED"}
    assert newest(stocked) is None


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[dict[str, Any]]]:
    """Two processes that record the same comparison in one new store at once, and what each says of itself."""
    home = Home(tmp_path_factory.mktemp("fresh") / "home")
    code = """
        import json, os, sys
        before = set(os.environ)
        tracked = track(example_comparison(), example_run(), home=find_home())
        import logging, mlflow
        from mlflow.telemetry import get_telemetry_client
        print(json.dumps({
            "run_id": tracked.run_id,
            "set": sorted(set(os.environ) - before),
            "telemetry": os.environ["MLFLOW_DISABLE_TELEMETRY"] != "true" or get_telemetry_client() is not None,
            "tracking_uri": mlflow.is_tracking_uri_set(),
            "active_run": mlflow.active_run() is not None,
            "level": logging.getLogger("mlflow").level,
            "pyplot": "matplotlib.pyplot" in sys.modules,
        }))
    """
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: in_a_process(TRACK + textwrap.dedent(code), home=home), range(2)))
    assert [(done.returncode, done.stderr) for done in both] == [(0, ""), (0, "")]
    return home, [json.loads(done.stdout) for done in both]


def test_two_processes_at_once_make_one_store_and_one_record(
    two_processes: tuple[Home, list[dict[str, Any]]],
) -> None:
    home, said = two_processes
    assert said[0]["run_id"] == said[1]["run_id"]
    assert rows(home, "SELECT count(*) FROM runs") == [(4,)]
    assert rows(home, "SELECT name FROM experiments ORDER BY experiment_id") == [("Default",), ("flights",)]


# Manners


def test_nothing_is_left_behind_and_nothing_is_printed(two_processes: tuple[Home, list[dict[str, Any]]]) -> None:
    for said in two_processes[1]:  # and no other line on stdout, none on stderr
        del said["run_id"]
        assert said == {
            "set": ["MLFLOW_DISABLE_AGENT_HINT", "MLFLOW_DISABLE_TELEMETRY"],
            "telemetry": False,
            "tracking_uri": False,
            "active_run": False,
            "level": logging.INFO,
            "pyplot": False,
        }


def test_a_choice_of_the_users_about_telemetry_stands(stocked: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    newest(stocked)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_where_records_go(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(home) == home.mlflow_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(home) == home.mlflow_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert tracking_uri(home) == "https://mlflow.example"
    assert tracking_uri(home, "sqlite:///other.db") == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@mlflow.example:5000/x", "https://…@mlflow.example:5000/x"),
        ("postgresql://me:secret@db/mlflow", "postgresql://…@db/mlflow"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_a_password_is_never_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


# Stores that cannot be used


def test_a_file_that_is_no_store_is_named_at_once(home: Home) -> None:
    home.path.mkdir(parents=True)
    (home.path / "mlflow.db").write_bytes(hashlib.sha256(b"").digest() * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db: file is not a database"):
        newest(home, uri=home.mlflow_uri)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = Home(tmp_path / "file")
    with pytest.raises(TrackingError, match="file"):
        newest(home, uri=home.mlflow_uri)


def test_a_store_of_another_mlflow_comes_with_the_command_that_upgrades_it(stocked: Home) -> None:
    with closing(sqlite3.connect(stocked.path / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        database.commit()
    with pytest.raises(TrackingError, match="another version of MLflow") as caught:
        newest(stocked)
    assert caught.value.hint == f"back it up and run: mlflow db upgrade {stocked.mlflow_uri}"


def test_a_deleted_experiment_comes_with_the_command_that_restores_it(stocked: Home, reader: Reader) -> None:
    tracked = track(example_comparison(), example_run(), home=stocked)
    with reader(stocked.mlflow_uri) as client:
        client.delete_experiment(tracked.experiment_id)
    with pytest.raises(TrackingError, match="'flights' was deleted") as caught:
        track(example_comparison(), example_run(), home=stocked)
    assert f"mlflow experiments restore -x {tracked.experiment_id}" in str(caught.value)
    assert newest(stocked) is None

"""Run records on the disk: found by the beginning of an id, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlstream.errors import RunError, UnknownRun, UsageError
from mlstream.home import Home
from mlstream.runs.record import alone, find_id, read_records, write_record
from mlstream.runs.run import list_runs, open_run


def record(run_id: str, started_at: str = "2026-01-01T00:00:00.000Z") -> dict[str, Any]:
    return {"format": 1, "id": run_id, "started_at": started_at}


def test_an_id_may_be_shortened_while_it_is_unambiguous(home: Home) -> None:
    for run_id in ("abcd0" + "0" * 59, "abcd1" + "1" * 59):
        write_record(home, record(run_id))
    assert find_id(home, "abcd1") == "abcd1" + "1" * 59
    with pytest.raises(UnknownRun, match=r"'abcd' begins the ids of 2 runs; write more of it: abcd0000"):
        find_id(home, "abcd")
    with pytest.raises(UnknownRun, match=r"no run 'ffff' in .*runs; `mlstream run ls` lists them"):
        find_id(home, "ffff")
    for text in ("abc", "../x", "*"):
        with pytest.raises(UnknownRun, match=r"no run .* in .*runs; write the first digits of its id, 4 at least"):
            find_id(home, text)


def test_a_home_that_cannot_be_written_is_named_before_anything_is_computed(home: Home) -> None:
    home.path.mkdir()
    home.runs.touch()
    with pytest.raises(RunError, match=r"runs: no run can be kept there: .*; set MLSTREAM_HOME to a folder that can"):
        alone(home, "a" * 64).__enter__()


def test_records_are_listed_the_newest_first_and_other_files_are_left_alone(home: Home) -> None:
    assert list_runs(home) == []
    with pytest.raises(UnknownRun, match=r"no runs in .*; make one: mlstream run CONFIG --snapshot NAME"):
        open_run(home=home)
    write_record(home, record("a" * 64, "2026-01-01T00:00:00.000Z"))
    write_record(home, record("b" * 64, "2026-01-02T00:00:00.000Z"))
    (home.runs / "notes.json").write_text("mine")
    assert [found["id"][0] for found in read_records(home)] == ["b", "a"]


def test_the_newest_run_of_an_experiment_is_found_behind_those_of_others(home: Home) -> None:
    write_record(home, {**record("a" * 64, "2026-01-01T00:00:00.000Z"), "experiment": "flights"})
    write_record(home, {**record("b" * 64, "2026-01-02T00:00:00.000Z"), "experiment": "parcels"})
    # These records hold nothing else, so what names them shows which was opened.
    for chosen, run in ((None, "bbbbbbbbbbbb"), ("flights", "aaaaaaaaaaaa"), ("parcels", "bbbbbbbbbbbb")):
        with pytest.raises(RunError, match=f"run {run}: its record is damaged"):
            open_run(experiment=chosen, home=home)
    with pytest.raises(UnknownRun, match=r"no runs of clicks in .*; make one"):
        open_run(experiment="clicks", home=home)
    with pytest.raises(UsageError, match="give the id or the experiment"):
        open_run("aaaa", experiment="flights", home=home)


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps(record("c" * 64))])
def test_a_damaged_record_is_named(home: Home, text: str) -> None:
    home.runs.mkdir(parents=True)
    (home.runs / f"{'a' * 64}.json").write_text(text)
    with pytest.raises(RunError, match=r"aaaa\.json: the run's record is damaged: .*; remove the file and run again"):
        open_run("aaaa", home=home)


def test_a_record_of_another_format_is_refused(home: Home) -> None:
    write_record(home, {**record("a" * 64), "format": 9})
    with pytest.raises(RunError, match=r"run aaaaaaaaaaaa: its record has the format 9; this mlstream reads 1"):
        open_run("aaaa", home=home)


def test_a_record_that_lacks_something_is_refused(home: Home) -> None:
    write_record(home, record("a" * 64))
    with pytest.raises(RunError, match=r"run aaaaaaaaaaaa: its record is damaged"):
        open_run("aaaa", home=home)


def test_a_home_that_cannot_be_written_is_an_error_with_a_fix(home: Home, tmp_path: Path) -> None:
    home.path.mkdir()
    home.runs.write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"the run's record cannot be written"):
        write_record(home, record("a" * 64))

"""Run records on the disk: JSON objects, written whole and atomically, found by id. Knows not what is in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlstream.errors import RunError, UnknownRun
from mlstream.home import Home
from mlstream.snapshots.remote_home import refresh, send
from mlstream.versions.files import write_atomically

_ID = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{4,64}")


def record_path(home: Home, run_id: str) -> Path:
    """Where the record of a run is."""
    return home.runs / f"{run_id}.json"


def log_path(home: Home, run_id: str, version: str) -> Path:
    """Where the log of a version of a run is."""
    return home.runs / run_id / f"{version}.log"


def write_record(home: Home, record: dict[str, Any]) -> None:
    """Write the record of the run that it names, in place of an earlier one.

    Raises:
        RunError: the home cannot be written.
    """
    path = record_path(home, record["id"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False).encode())
        send(home, path)
    except OSError as exc:
        raise RunError(f"{path}: the run's record cannot be written: {exc}", hint="free the disk, run again") from exc


def read_record(home: Home, run_id: str) -> dict[str, Any]:
    """The record of a run.

    Raises:
        UnknownRun: there is none.
        RunError: it is damaged.
    """
    path = record_path(home, run_id)
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnknownRun(f"no run {run_id[:12]} in {home.runs}", hint="`mlstream run ls` lists them") from None
    except (OSError, ValueError) as exc:
        raise _damaged(path, str(exc)) from exc
    if not isinstance(record, dict) or record.get("id") != run_id:
        raise _damaged(path, "it is not the record of the run that it is named for")
    return record


def read_records(home: Home) -> list[dict[str, Any]]:
    """All records, the newest first.

    Raises:
        RunError: one is damaged.
    """
    refresh(home)
    paths = home.runs.glob("*.json") if home.runs.is_dir() else ()
    records = [read_record(home, path.stem) for path in paths if _ID.fullmatch(path.stem)]
    return sorted(records, key=lambda record: (record["started_at"], record["id"]), reverse=True)


def find_id(home: Home, beginning: str) -> str:
    """The whole id of the run whose id begins so.

    Raises:
        UnknownRun: there is none, or more than one.
    """
    refresh(home)
    ids = sorted(path.stem for path in home.runs.glob(f"{beginning}*.json")) if _BEGINNING.fullmatch(beginning) else []
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise UnknownRun(
            f"{beginning!r} begins the ids of {len(ids)} runs",
            hint=f"write more of it: {', '.join(i[:16] for i in ids)}",
        )
    raise UnknownRun(f"no run {beginning!r} in {home.runs}", hint="`mlstream run ls` lists them")


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path}: the run's record is damaged: {why}", hint="remove the file and run again", path=str(path))

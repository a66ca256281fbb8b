"""Run records on the disk: JSON objects, written whole and atomically, found by id, locked. Knows not what they say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlstream.errors import RunError, UnknownRun
from mlstream.home import Home
from mlstream.snapshots.beside import remove_files
from mlstream.snapshots.remote_home import refresh, remove, send
from mlstream.versions.files import write_atomically

_ID = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{4,64}")
_GLANCE_S = 0.5  # `is_computed` holds the lock for a moment


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
    """All records, the newest first: that of the run that was asked for last.

    Raises:
        RunError: one is damaged.
    """
    records, damaged = readable_records(home)
    if damaged is not None:
        raise damaged
    return records


def readable_records(home: Home) -> tuple[list[dict[str, Any]], RunError | None]:
    """The records that can be read, as `read_records` has them, and the error of the first that cannot."""
    refresh(home)
    paths = sorted(home.runs.glob("*.json")) if home.runs.is_dir() else ()
    records, damaged = [], None
    for path in paths:
        if not _ID.fullmatch(path.stem):
            continue
        try:
            records.append(read_record(home, path.stem))
        except UnknownRun:
            continue  # removed since it was listed
        except RunError as exc:
            damaged = exc if damaged is None else damaged
    return sorted(records, key=lambda record: (_asked_at(record), record["id"]), reverse=True), damaged


def _asked_at(record: dict[str, Any]) -> str:
    asked_at = record.get("asked_at")
    return str(record["started_at"] if asked_at is None else asked_at)


def remove_record(home: Home, run_id: str) -> None:
    """Remove the record of a run, and the logs beside it.

    Raises:
        RunError: the home cannot be written.
    """
    path = record_path(home, run_id)
    try:
        remove_files(home, home.runs / run_id)
        shutil.rmtree(home.runs / run_id, ignore_errors=True)
        remove(home, path)
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise RunError(f"{path}: the run's record cannot be removed: {exc}", hint="check the rights on it") from exc


@contextmanager
def alone(home: Home, key: str, *, what: str = "the same run") -> Iterator[None]:
    """Hold a run's key, so that no other process computes the same run, removes it or takes its topics for leftovers.

    Raises:
        RunError: another process holds it, or the home cannot be written.
    """
    lock = FileLock(_lock_path(home, key), timeout=_GLANCE_S)
    try:
        home.runs.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{what} is being computed by another process", hint="wait for it: `mlstream run ls` shows it"
        ) from None
    except OSError as exc:
        raise RunError(
            f"{home.runs}: no run can be kept there: {exc}", hint="set MLSTREAM_HOME to a folder that can be written"
        ) from exc
    try:
        yield
    finally:
        lock.release()


def is_computed(home: Home, key: str) -> bool:
    """Whether a process of this machine computes the run with that key at this moment."""
    path = _lock_path(home, key)
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a home that this process may not write
        return False
    lock.release()
    return False


def _lock_path(home: Home, key: str) -> Path:
    return home.runs / f".{key[:16]}.lock"


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
    few = "" if _BEGINNING.fullmatch(beginning) else "write the first digits of its id, 4 at least; "
    raise UnknownRun(f"no run {beginning!r} in {home.runs}", hint=f"{few}`mlstream run ls` lists them")


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path}: the run's record is damaged: {why}", hint="remove the file and run again", path=str(path))

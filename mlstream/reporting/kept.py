"""Comparisons on the disk: kept whole, found again, and noted as unsent until MLflow has them. Computes nothing.

A comparison is `comparisons/ID.json` in the home. While it is being recorded in MLflow, `unsent/ID.json` says so, with
what the record needs of the run: whatever dies or does not answer, `send_unsent` finishes it, even without the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlstream.comparison.result import Comparison
from mlstream.errors import ComparisonError, StoreError
from mlstream.home import Home, find_home
from mlstream.reporting import tracking
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.tracking import Tracked
from mlstream.snapshots.remote_home import refresh, send
from mlstream.versions.files import write_atomically

FORMAT = 1
_BEGINNING = re.compile(r"[0-9a-f]{4,64}")


def keep(comparison: Comparison, home: Home) -> None:
    """Write `comparisons/ID.json`, whole.

    Raises:
        StoreError: the home cannot be written.
    """
    path = home.comparisons / f"{comparison.id}.json"
    text = json.dumps({"format": FORMAT, **comparison.to_dict()}, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{text}\n".encode())
        send(home, path)
    except OSError as exc:
        raise StoreError(f"{path}: the comparison cannot be written: {exc}", path=str(path)) from exc


def open_comparison(comparison_id: str | None = None, *, home: Home | str | Path | None = None) -> Comparison:
    """The comparison with that id, or beginning of an id (4 digits or more); the newest when None.

    Raises:
        ComparisonError: there is none, the beginning fits more than one, or its record is damaged.
    """
    home = home if isinstance(home, Home) else find_home(home)
    paths = _paths(home)
    if comparison_id is None:
        if not paths:
            raise ComparisonError(f"no comparisons in {home.comparisons}", hint="make one: mlstream compare")
        return _read(paths[0])
    fitting = [path for path in paths if path.stem.startswith(comparison_id)]
    if not _BEGINNING.fullmatch(comparison_id) or not fitting:
        few = "" if _BEGINNING.fullmatch(comparison_id) else "write the first digits of its id, 4 at least; "
        hint = f"{few}`mlstream compare ls` lists them"
        raise ComparisonError(f"no comparison {comparison_id!r} in {home.comparisons}", hint=hint)
    if len(fitting) > 1:
        raise ComparisonError(
            f"{comparison_id!r} begins the ids of {len(fitting)} comparisons",
            hint=f"write more of it: {', '.join(sorted(path.stem[:16] for path in fitting))}",
        )
    return _read(fitting[0])


def list_comparisons(home: Home | str | Path | None = None) -> list[Comparison]:
    """All comparisons of a home, the newest first.

    Raises:
        ComparisonError: a record is damaged.
    """
    found, damaged = read_comparisons(home)
    if damaged is not None:
        raise damaged
    return found


def read_comparisons(
    home: Home | str | Path | None = None,
) -> tuple[list[Comparison], ComparisonError | None]:
    """The comparisons of a home that can be read, the newest first, and the error of those that cannot."""
    home = home if isinstance(home, Home) else find_home(home)
    found: list[Comparison] = []
    errors: list[ComparisonError] = []
    for path in _paths(home):
        try:
            found.append(_read(path))
        except ComparisonError as exc:
            errors.append(exc)
    if len(errors) < 2:
        return found, errors[0] if errors else None
    several = "\n".join(f"  {error.message}" for error in errors)
    hint = "remove the files and compare again"
    return found, ComparisonError(f"{len(errors)} comparisons cannot be read\n{several}", hint=hint)


def mark_pending(comparison: Comparison, facts: RunFacts, home: Home) -> None:
    """Note that MLflow does not have the comparison yet.

    Raises:
        StoreError: the home cannot be written.
    """
    path = _unsent(comparison.id, home)
    text = json.dumps({"format": FORMAT, **facts.to_dict()}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{text}\n".encode())
    except OSError as exc:
        raise StoreError(f"{path}: what is to be sent cannot be noted: {exc}", path=str(path)) from exc


def unmark_pending(comparison_id: str, home: Home) -> None:
    """Note that MLflow has it."""
    _unsent(comparison_id, home).unlink(missing_ok=True)


def list_unsent(home: Home) -> list[str]:
    """The ids of the comparisons that MLflow does not have yet, those that have waited longest first."""
    found = [(path.stat().st_mtime_ns, path.stem) for path in home.unsent.glob("*.json")]
    return [comparison_id for _, comparison_id in sorted(found)]


def send_unsent(home: Home, *, progress: Callable[[str], None] | None = None) -> dict[str, Tracked]:
    """Record in MLflow what it does not have yet: comparison's id → where it is now.

    A comparison whose file is gone is forgotten.

    Raises:
        TrackingError: MLflow cannot be reached or refuses; what was not sent stays noted.
        ComparisonError: a record is damaged.
    """
    sent = {}
    kept = {path.stem: path for path in _paths(home)}
    for comparison_id in list_unsent(home):
        if comparison_id in kept:
            if progress is not None:
                progress(f"recording {comparison_id[:12]} in MLflow")
            comparison = _read(kept[comparison_id])
            sent[comparison_id] = tracking.track(comparison, _read_facts(_unsent(comparison_id, home)), home=home)
        unmark_pending(comparison_id, home)
    return sent


def _unsent(comparison_id: str, home: Home) -> Path:
    return home.unsent / f"{comparison_id}.json"


def _paths(home: Home) -> list[Path]:
    """The records, the newest first."""
    refresh(home)
    if not home.comparisons.is_dir():
        return []
    return sorted(home.comparisons.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _read(path: Path) -> Comparison:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found.pop("format") != FORMAT:
            raise ValueError("it was written by another version of mlstream")
        kept = Comparison.from_dict(found)
        kept.settings["confidence"]  # which every reader shows
        return kept
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        why = f"it lacks {exc}" if isinstance(exc, KeyError) else str(exc)
        raise ComparisonError(
            f"{path}: the comparison cannot be read: {why}", hint="remove the file and compare again", path=str(path)
        ) from exc


def _read_facts(path: Path) -> RunFacts:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found.pop("format") != FORMAT:
            raise ValueError("it was written by another version of mlstream")
        return RunFacts.from_dict(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ComparisonError(
            f"{path}: what is to be sent cannot be read: {exc}",
            hint="remove the file and compare again",
            path=str(path),
        ) from exc

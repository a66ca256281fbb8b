"""One version's training in a process of its own: call its function, write what it returned. Decides nothing.

Started as `python -m mlstream.runs.trainer`; `spec.py` says what it reads and reports.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from mlstream import __version__
from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.home import find_home
from mlstream.host.serving import seed_all
from mlstream.runs.machine import cpu_seconds, math_threads, peak_memory_bytes
from mlstream.runs.process import Reports, config_of, serve
from mlstream.runs.spec import Report, TrainTask
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.versions.files import write_atomically
from mlstream.versions.importing import Account, load_attribute, raised
from mlstream.versions.reference import ESTIMATOR_SUFFIXES, PICKLE_SUFFIXES, parse_code
from mlstream.versions.sources import find_sources


def train(task: TrainTask, reports: Reports) -> Report:
    """Call the version's `train:` function and write what it returned, with a note of what made it beside it.

    Raises:
        VersionLoadError: the function cannot be had, raised, or returned what cannot be written.
    """
    seed_all(task.seed)
    config = config_of(task)
    text = str(config.versions[task.version].train)
    where = f"versions.{task.version}.train"
    reference = parse_code(text, root=config.root, where=where)
    sources = find_sources(reference, root=config.root, where=where)
    account = Account(sources.project)
    function = load_attribute(sources, reference, account, where=where)
    snapshot = open_snapshot(task.snapshot_id, home=find_home(task.home))
    reports.send(Report("loaded"))
    began = time.monotonic()
    try:
        trained = function(snapshot, config)
    except Exception as exc:
        raise raised(exc, sources.project, f"{where}: {reference.name} raised", where=where) from exc
    seconds = time.monotonic() - began
    target = Path(task.target)
    trust = config.versions[task.version].trust
    data = as_bytes(trained, target.name, trust=trust, where=f"version {task.version}")
    note = _note(config, snapshot, text, sources.digest, trained, data, seconds)
    if target.name.endswith(ESTIMATOR_SUFFIXES):
        note["types"] = _types(data, target.name)
    if task.environment is not None:
        note["environment"] = task.environment
    target.parent.mkdir(parents=True, exist_ok=True)
    # The note first: with the old file it is a wrong note for a moment, with a new file and no note nobody knows
    # what made it.
    write_atomically(note_path(target), json.dumps(note, indent=2).encode())
    write_atomically(target, data)
    return Report("done")


def note_path(target: Path) -> Path:
    """Where the note of what made a file is: beside it, with `.json` at the end."""
    return target.with_name(f"{target.name}.json")


def as_bytes(trained: Any, name: str, *, trust: bool, where: str) -> bytes:
    """What a training returned, as the bytes of a file with that name.

    An estimator for .skops, .joblib and .pkl; else JSON values, a text, or bytes.

    Raises:
        VersionLoadError: it does not go into such a file.
    """
    if name.endswith(ESTIMATOR_SUFFIXES):
        if not callable(getattr(trained, "predict", None)):
            raise VersionLoadError(
                f"{where}: training returned a {type(trained).__name__}, which has no predict",
                hint="return the fitted estimator",
            )
        from mlstream.versions.trusted import dump_estimator  # scikit-learn takes seconds, and tables need none

        return dump_estimator(trained, name, trust=trust, where=where)
    if isinstance(trained, bytes):
        return trained
    if isinstance(trained, str):
        return trained.encode()
    try:
        return (json.dumps(trained, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as exc:
        raise VersionLoadError(
            f"{where}: training returned a {type(trained).__name__}, which cannot be written to {name}: {exc}",
            hint="return JSON values, a text or bytes; for an estimator let `model:` name a .skops file",
        ) from exc


def _types(data: bytes, name: str) -> list[str]:
    """What skops must be told to trust in a file; a pickle does not say what it holds."""
    if name.endswith(PICKLE_SUFFIXES):
        return []
    from mlstream.versions.trusted import listed_types

    return listed_types(data)


def _note(
    config: ExperimentConfig,
    snapshot: Snapshot,
    train: str,
    code_digest: str,
    trained: Any,
    data: bytes,
    seconds: float,
) -> dict[str, Any]:
    kind = type(trained)
    return {
        "train": train,
        "code_digest": code_digest,
        "snapshot_id": snapshot.id,
        "snapshot_name": snapshot.name,
        "rows": snapshot.stream(config.input.topic).rows,
        "seed": config.seed,
        "math_threads": math_threads(),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds(), 3),
        "memory_bytes": peak_memory_bytes(),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "digest": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "python": platform.python_version(),
        "scikit_learn": _release("scikit-learn"),
        "mlstream": __version__,
    }


def _release(name: str) -> str | None:
    """Of an installed package; None when it is not there, as in an environment that trains tables only."""
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    serve(TrainTask, train)

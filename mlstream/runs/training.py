"""Train the versions that have a `train:` function on a frozen snapshot, each in a process of its own.

What a training returns goes to the version's file: the one that `model:` names when it is an estimator's, else the one
under `files:`; and, where it is asked for, to MLflow. Versions without `train:` are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mlstream.config import ExperimentConfig, load_config
from mlstream.errors import RunError, UnknownVersion, UsageError, VersionLoadError
from mlstream.home import Home, find_home
from mlstream.registry.registration import Registered, Registration, check_reachable
from mlstream.registry.registration import register as register_all
from mlstream.registry.uri import ModelUri
from mlstream.runs.fleet import Ended, run_workers
from mlstream.runs.machine import threads_for
from mlstream.runs.plan import chosen_versions
from mlstream.runs.registering import registration_of
from mlstream.runs.run import config_values
from mlstream.runs.spec import Report, TrainTask
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.versions.reference import FileReference, parse_code, parse_model
from mlstream.versions.sources import find_sources
from mlstream.versions.surroundings import Surroundings, training_of

Listener = Callable[[str, Literal["building", "started", "running", "done", "failed"]], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """How the training of one version went.

    Attributes:
        version: its name.
        path: the file that it is written to.
        log: what its process printed.
        note: what made the file: snapshot, rows, seconds, digest, versions of Python and scikit-learn; None when it
            failed.
        error, hint, log_tail: why it failed.
        registered: where MLflow has it; None where that was not asked for.
    """

    version: str
    path: Path
    log: Path
    note: dict[str, Any] | None
    error: str | None = None
    hint: str | None = None
    log_tail: tuple[str, ...] = ()
    registered: Registered | None = None


def train(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None = None,
    register: bool = False,
    home: Home | str | Path | None = None,
    progress: Listener | None = None,
) -> list[Trained]:
    """Call each version's `train:` function, `path.py:function(snapshot, config)`, and write what it returns.

    Args:
        config: an experiment or its file.
        snapshot: what to train on, or its name or id.
        versions: which versions; all that have a `train:` when None.
        register: record the trainings in MLflow, and register estimators as versions of models there.
        home: where snapshots are kept; found as `find_home` says when None.
        progress: called in this thread when a training starts and ends, and before its environment is built.

    Returns:
        One entry a training; see `check_trained`.

    Raises:
        UsageError: no version, or a named one, has a `train:`.
        UnknownVersion, UnknownSnapshot, VersionLoadError: something is not there; nothing was started.
        TrackingError: MLflow cannot be reached, which is found out before anything is started, or refuses.
    """
    home = home if isinstance(home, Home) else find_home(home)
    config = config if isinstance(config, ExperimentConfig) else load_config(config)
    source = snapshot if isinstance(snapshot, Snapshot) else open_snapshot(snapshot, home=home)
    source.stream(config.input.topic)
    if register:
        check_reachable(home)
    targets = {name: target_of(config, name) for name in _trainable(config, versions)}
    surroundings = {name: _surroundings(config, name, target, progress) for name, target in targets.items()}
    folder = home.path / "training" / config.experiment
    folder.mkdir(parents=True, exist_ok=True)
    logs = {name: folder / f"{name}.log" for name in targets}
    tasks = [
        TrainTask(
            config=config_values(config),
            path=_path(config),
            root=str(config.root),
            version=name,
            home=home.address,
            snapshot_id=source.id,
            seed=config.seed,
            threads=threads_for(len(targets)),
            target=str(target),
            **_in_environment(surroundings[name]),
        )
        for name, target in targets.items()
    ]
    for task in tasks:
        if progress is not None:
            progress(task.version, "started")

    def hear(name: tuple[str, int], report: Report) -> None:
        if progress is not None:
            progress(name[0], "failed" if report.event == "failed" else "done" if report.event == "done" else "running")

    for log in logs.values():
        log.unlink(missing_ok=True)  # what an earlier training said
    with source.store.in_use(source.id, f"a training for {config.experiment}"):
        ended = run_workers(tasks, logs={(name, 0): log for name, log in logs.items()}, on_report=hear)
    trained = [_trained(name, target, logs[name], ended[name, 0]) for name, target in targets.items()]
    return _register(config, source, trained, home) if register else trained


def check_trained(trained: Sequence[Trained]) -> None:
    """Nothing, if every training went well.

    Raises:
        RunError: names those that failed, why, and their logs.
    """
    failed = [found for found in trained if found.note is None]
    if failed:
        raise RunError(
            f"{len(failed)} of {len(trained)} trainings failed\n" + "\n".join(map(_words, failed)),
            hint="correct what their logs say and train again",
            versions=[found.version for found in failed],
        )


def target_of(config: ExperimentConfig, name: str) -> Path:
    """The file that a version's training writes.

    Raises:
        UsageError: it cannot be told.
        VersionLoadError: the model or the function is not there.
    """
    own = config.versions[name]
    where = f"versions.{name}"
    function = parse_code(str(own.train), root=config.root, where=f"{where}.train")
    find_sources(function, root=config.root, where=f"{where}.train")
    reference = parse_model(own.model, root=config.root, where=f"{where}.model")
    if isinstance(reference, ModelUri):
        raise UsageError(
            f"{where}.train: which file does it make? `model:` is {own.model}, which MLflow keeps",
            hint="let `model:` name a .skops file, train it with --register, and name what that prints in a version",
        )
    if isinstance(reference, FileReference):
        return reference.path
    if len(own.files) != 1:
        raise UsageError(
            f"{where}.train: which file does it make? `model:` is code, and `files:` names {len(own.files)}",
            hint="name one file under `files:`, which the code reads",
        )
    return config.root / own.files[0]


def _register(config: ExperimentConfig, source: Snapshot, trained: Sequence[Trained], home: Home) -> list[Trained]:
    """Register what was trained. What cannot be registered has failed, though its file is there."""
    asked: dict[str, Registration] = {}
    refused: dict[str, VersionLoadError] = {}
    for found in trained:
        if found.note is not None:
            try:
                asked[found.version] = registration_of(
                    config, found.version, snapshot=source, target=found.path, note=found.note
                )
            except VersionLoadError as exc:
                refused[found.version] = exc
    known = {found.version: found for found in (register_all(list(asked.values()), home=home) if asked else ())}
    done = []
    for found in trained:
        if found.version in refused:
            why = refused[found.version]
            done.append(replace(found, note=None, error=why.message, hint=why.hint))
        else:
            done.append(replace(found, registered=known.get(found.version)))
    return done


def _surroundings(config: ExperimentConfig, name: str, target: Path, progress: Listener | None) -> Surroundings | None:
    """The version's own environment, with what training takes."""

    def tell(_: str) -> None:
        if progress is not None:
            progress(name, "building")

    named = config.versions[name].environment
    return training_of(named, target, root=config.root, where=f"versions.{name}", on_building=tell)


def _in_environment(found: Surroundings | None) -> dict[str, Any]:
    """What a task says of the environment of its process."""
    if found is None:
        return {}
    return {"python": str(found.python), "environment": {"digest": found.digest, **found.described}}


def _trainable(config: ExperimentConfig, names: Sequence[str] | None) -> list[str]:
    chosen = chosen_versions(config, names)
    unknown = [name for name in chosen if name not in config.versions]
    if unknown:
        raise UnknownVersion(
            f"experiment {config.experiment} has no version {unknown[0]!r}",
            hint=f"there are: {', '.join(config.versions)}",
        )
    found = [name for name in chosen if config.versions[name].train is not None]
    lacking = [name for name in chosen if name not in found]
    if lacking and (names is not None or not found):
        raise UsageError(
            f"{', '.join(lacking)}: no `train:` to call", hint="write `train: path.py:function` under the version"
        )
    return found


def _trained(name: str, target: Path, log: Path, ended: Ended) -> Trained:
    if ended.report is None:
        return Trained(name, target, log, None, ended.error, ended.hint, ended.log_tail)
    note: dict[str, Any] = json.loads(target.with_name(f"{target.name}.json").read_bytes())
    return Trained(name, target, log, note)


def _words(found: Trained) -> str:
    lines = [] if found.hint is None else [f"fix: {found.hint}"]
    lines += [f"its log: {found.log}", *(f"  {line}" for line in found.log_tail)]
    return f"training {found.version} failed: {found.error}" + "".join(f"\n  {line}" for line in lines)


def _path(config: ExperimentConfig) -> str:
    try:
        return str(config.path)
    except ValueError:
        return ""

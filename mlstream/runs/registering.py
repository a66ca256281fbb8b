"""Say what a training made in the words of a model registry. Talks to none; `registry/registration.py` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlstream.config import ExperimentConfig
from mlstream.config.decode import ColumnConfig
from mlstream.errors import VersionLoadError
from mlstream.registry.dataset import DatasetFacts, dataset_facts
from mlstream.registry.registration import Estimator, Registration
from mlstream.runs.trainer import note_path
from mlstream.snapshots.snapshot import Snapshot
from mlstream.versions.digests import installed
from mlstream.versions.reference import ESTIMATOR_SUFFIXES, PICKLE_SUFFIXES

# What reading a fitted estimator takes, where it is installed; pandas only if it is asked with named columns.
_NEEDED = ("scikit-learn", "numpy", "scipy", "joblib", "pandas")
_PLAIN_TYPES = frozenset({"int", "float", "string", "bool", "time"})


def registration_of(
    config: ExperimentConfig, name: str, *, snapshot: Snapshot, target: Path, note: Mapping[str, Any]
) -> Registration:
    """What a model registry is told of a training.

    Args:
        name: the version that was trained.
        snapshot: what it was trained on.
        target: the file that it wrote.
        note: of what made it, as the training wrote it.

    Raises:
        VersionLoadError: the estimator is made of the project's own code, which would not be with it.
    """
    own = config.versions[name]
    estimator = None
    if target.name.endswith(ESTIMATOR_SUFFIXES):
        estimator = _estimator(config, name, target, note)
    params = {
        "train": str(note["train"]),
        "seed": str(note["seed"]),
        "type": str(note["type"]),
        "python": str(note["python"]),
        "scikit_learn": str(note["scikit_learn"]),
        **{f"parameters.{key}": str(value) for key, value in own.parameters.items()},
    }
    return Registration(
        name=f"{config.experiment}-{name}",
        version=name,
        description=own.description,
        experiment=config.experiment,
        question=config.question,
        task=config.task,
        snapshot_id=snapshot.id,
        dataset=_dataset(config, snapshot),
        file=target,
        note_file=note_path(target),
        digest=str(note["digest"]),
        estimator=estimator,
        params=params,
        metrics={
            "rows": float(note["rows"]),
            "seconds": float(note["seconds"]),
            "cpu_seconds": float(note["cpu_seconds"]),
            "memory_bytes": float(note["memory_bytes"]),
        },
        tags={
            "mlstream.version": name,
            "mlstream.snapshot": snapshot.id,
            "mlstream.weights": str(note["digest"]),
            "mlstream.code": str(note["code_digest"]),
            "mlstream.mlstream": str(note["mlstream"]),
        },
    )


def _dataset(config: ExperimentConfig, snapshot: Snapshot) -> DatasetFacts:
    return dataset_facts(
        snapshot.id,
        snapshot.name,
        streams={
            stream.topic: {str(part.partition): [part.start, part.stop] for part in stream.partitions}
            for stream in snapshot.streams
        },
        rows=snapshot.rows,
        size_bytes=snapshot.size_bytes,
        schema=_types(config),
    )


def _estimator(config: ExperimentConfig, name: str, target: Path, note: Mapping[str, Any]) -> Estimator:
    types = tuple(str(kind) for kind in note["types"])
    modules = {kind.partition(".")[0] for kind in types}
    own = sorted(module for module in modules if _is_own(config.root, module))
    if own:
        raise VersionLoadError(
            f"versions.{name}: the estimator holds types of the project's own code ({', '.join(own)}), which would not "
            "be with it in MLflow",
            hint="let `model:` name its file, or make it of packages' types",
            types=[kind for kind in types if kind.partition(".")[0] in own],
        )
    # Where it was trained in an environment of its own, the releases are those.
    around = note.get("environment")
    packages: Mapping[str, str] = installed() if around is None else around["packages"]
    reader = "joblib" if target.name.endswith(PICKLE_SUFFIXES) else "skops"
    names = dict.fromkeys((*_NEEDED, reader, *sorted(module.replace("_", "-") for module in modules)))
    return Estimator(
        serialization="pickle" if target.name.endswith(PICKLE_SUFFIXES) else "skops",
        scikit_learn=str(note["scikit_learn"]),
        python=str(note["python"]),
        requirements=tuple(f"{package}=={packages[package]}" for package in names if package in packages),
        types=types,
        columns=_columns(config, name),
    )


def _columns(config: ExperimentConfig, name: str) -> dict[str, str] | None:
    """What the version is asked with, where the configuration says all of its types."""
    features, types = config.features_of(name), _types(config)
    if features is None or types is None or any(types.get(feature) not in _PLAIN_TYPES for feature in features):
        return None
    return {feature: types[feature] for feature in features}


def _types(config: ExperimentConfig) -> dict[str, str] | None:
    columns = config.input.decode.columns
    if columns is None:
        return None
    return {name: kind.type if isinstance(kind, ColumnConfig) else kind for name, kind in columns.items()}


def _is_own(root: Path, module: str) -> bool:
    """Whether a package is the project's."""
    return any((base / module).is_dir() or (base / f"{module}.py").is_file() for base in (root, root / "src"))

"""Register what trainings made in MLflow. Imports MLflow only when it is asked to; trains nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.home import Home
from mlstream.registry.dataset import DatasetFacts
from mlstream.registry.place import artifacts_of, at_peace, tracking_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """What is known of a trained estimator in a file.

    Attributes:
        serialization: "skops" or "pickle".
        scikit_learn: the release that fitted it.
        python: the version of Python that it was made with.
        requirements: the packages that loading it takes, each at its release; without MLflow itself.
        types: of a skops file, those that skops must be told to trust.
        columns: what it is asked with: name → type as `decode.columns` has it; None when the types are not known.
    """

    serialization: str
    scikit_learn: str
    python: str
    requirements: tuple[str, ...]
    types: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a training made, and what made it.

    Attributes:
        name: the registered model's.
        version: the version's name in the experiment.
        description: the version's, for people.
        experiment, question, task: the experiment's.
        snapshot_id: what it was trained on.
        dataset: the same in MLflow's fields.
        file: what the training wrote.
        note_file: the note of what made it.
        digest: of the file.
        estimator: what is known of it, when it is one; None for tables and the like, which are recorded with the run
            and not registered.
        params, metrics, tags: of the run and the model.
    """

    name: str
    version: str
    description: str
    experiment: str
    question: str
    task: str
    snapshot_id: str
    dataset: DatasetFacts
    file: Path
    note_file: Path
    digest: str
    estimator: Estimator | None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Digest of what tells registered versions apart: the file, the snapshot, the code, and what it needs."""
        needs = () if self.estimator is None else self.estimator.requirements
        parts = [self.digest, self.snapshot_id, self.tags.get("mlstream.code"), list(needs)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Registered:
    """Where MLflow has what a training made.

    Attributes:
        version: the version's name in the experiment.
        uri: `models:/NAME/3`, which `model:` may name; None for what is no model.
        run_id: the training's run.
        place: the store or server, without a password.
        found: it was registered before.
    """

    version: str
    uri: str | None
    run_id: str
    place: str
    found: bool = False


def register(asked: Sequence[Registration], *, home: Home) -> list[Registered]:
    """Register what trainings made; what was registered before is found again.

    Args:
        home: the project's home, which holds the MLflow store where the environment names none.

    Raises:
        TrackingError: MLflow cannot be reached within seconds, or refuses.
    """
    place = tracking_uri(home)
    artifacts = artifacts_of(home, place)
    with at_peace():
        from mlstream.registry.client import opened
        from mlstream.registry.registering import write

        with opened(place, artifacts) as client:
            return [write(client, one, uri=place, artifacts=artifacts) for one in asked]


def check_reachable(home: Home) -> None:
    """Nothing, if MLflow answers: better known before hours of training than after.

    Raises:
        TrackingError: it does not.
    """
    place = tracking_uri(home)
    with at_peace():
        from mlstream.registry.client import opened

        with opened(place, artifacts_of(home, place)):
            return

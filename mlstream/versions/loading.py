"""Load a version from a plain description of it, which can be given to another process. Finds and digests nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.errors import VersionLoadError
from mlstream.versions.digests import digest_file
from mlstream.versions.importing import Account, call_factory, load_attribute, place_of
from mlstream.versions.predictor import Predictor
from mlstream.versions.reference import CodeReference, FileReference, ModelReference, Reference
from mlstream.versions.sources import Project, Sources, find_project
from mlstream.versions.stateful import KeptState, is_stateful, repeatable

if TYPE_CHECKING:
    from mlstream.config.models import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """All that loading a version takes.

    Attributes:
        version: its name in the experiment.
        model: what `model:` says.
        task, features, threshold: of the experiment, for that version.
        parameters: of its factory: JSON values.
        trust: its file may be a pickle.
        root: the project's root.
        reference: what `model` names.
        sources: the code's files; None for an estimator in a file.
        files: declared data files → their digests.
        weights_digest: of the estimator's file, or of all files of a model of MLflow's; None for code.
        worktree: the project in the working tree, when `root` is a revision of it.
    """

    version: str
    model: str
    task: Task
    features: tuple[str, ...] | None
    threshold: float
    parameters: Mapping[str, Any]
    trust: bool
    root: Path
    reference: Reference
    sources: Sources | None = field(repr=False)
    files: Mapping[str, str] = field(repr=False)
    weights_digest: str | None
    worktree: Path | None = None

    @property
    def where(self) -> str:
        """The version in messages."""
        return f"version {self.version}"

    def load(self) -> tuple[Predictor, Account]:
        """The version, and the account of the project's files that get loaded, for `check` when all is done.

        Importing is global to a process: it is best done in one of its own.

        Raises:
            VersionLoadError: the module, the name in it, the factory or the file is not as it should be, or
                something changed since the version was resolved.
        """
        self._check_files()
        if not isinstance(self.reference, CodeReference):
            account = Account(find_project(self.root, worktree=self.worktree))
            account.install()
        if isinstance(self.reference, ModelReference):
            predictor = self._kept_by_mlflow(self.reference)
        elif isinstance(self.reference, FileReference):
            # Imported here: scikit-learn takes seconds, and a version made of plain code does without.
            from mlstream.versions.trusted import load_estimator

            path, digest = self.reference.path, str(self.weights_digest)
            predictor = self._estimator(load_estimator(path, digest=digest, trust=self.trust, where=self.where))
        else:
            if self.sources is None:
                raise VersionLoadError(f"{self.where} has no sources", where=self.where)
            account = Account(self.sources.project)
            factory = load_attribute(self.sources, self.reference, account, where=self.where)
            name = self.model.rpartition(":")[2]
            project = self.sources.project
            make = repeatable(lambda: call_factory(factory, self.parameters, project, name=name, where=self.where))
            predictor = self._model(make(), name, make, partial(place_of, project=project))
        self.check(account)
        return predictor, account

    def check(self, account: Account) -> None:
        """Compare the project's files that were loaded so far with those that the digest covers.

        Raises:
            VersionLoadError: one is not covered, or it changed.
        """
        covered = {**self.files, **(self.sources.files if self.sources is not None else {})}
        account.check(covered, where=self.where)

    def _check_files(self) -> None:
        for name, digest in self.files.items():
            path = self.root / name
            if not path.is_file() or digest_file(path) != digest:
                raise VersionLoadError(
                    f"{self.where}: {name} changed after the run was planned", hint="run again", where=self.where
                )

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        return {
            "version": self.version,
            "model": self.model,
            "task": self.task,
            "features": None if self.features is None else list(self.features),
            "threshold": self.threshold,
            "parameters": dict(self.parameters),
            "trust": self.trust,
            "root": str(self.root),
            "reference": _reference_to_json(self.reference),
            "sources": None if self.sources is None else _sources_to_json(self.sources),
            "files": dict(self.files),
            "weights_digest": self.weights_digest,
            "worktree": None if self.worktree is None else str(self.worktree),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> LoadSpec:
        """The description that `to_json` was called on."""
        features, sources = found["features"], found["sources"]
        changed = {
            "features": None if features is None else tuple(features),
            "root": Path(found["root"]),
            "worktree": None if found["worktree"] is None else Path(found["worktree"]),
            "reference": _reference_from_json(found["reference"]),
            "sources": None if sources is None else _sources_from_json(sources),
        }
        return cls(**{**found, **changed})

    def _model(
        self, model: Any, name: str, make: Callable[[], Any], place: Callable[[BaseException], str | None]
    ) -> Predictor:
        if _is_estimator(model):
            return self._estimator(model)
        if not callable(getattr(model, "predict", None)):
            raise VersionLoadError(
                f"{self.where}: {name} returned a {type(model).__name__}, which has no predict(frame)",
                hint="return an object with a method predict(frame) that gives one row for each row",
                where=self.where,
            )
        kept = None
        if is_stateful(model, name=name, where=self.where):
            kept = KeptState(self.version, model, lambda: self._model(make(), name, make, place))
        classes = getattr(model, "classes", None)
        return Predictor(
            self.version,
            self.task,
            self.features,
            model.predict,
            self.threshold,
            None if classes is None else tuple(classes),
            kept,
            place,
        )

    def _kept_by_mlflow(self, reference: ModelReference) -> Predictor:
        # Imported here: the process of a version made of plain code does without.
        from mlstream.versions.mlflow_model import load_estimator_of, pyfunc_predictor

        if reference.kind == "sklearn":
            return self._estimator(load_estimator_of(reference, trust=self.trust, where=self.where))
        return pyfunc_predictor(
            reference,
            version=self.version,
            task=self.task,
            features=self.features,
            threshold=self.threshold,
            parameters=self.parameters,
            trust=self.trust,
            where=self.where,
        )

    def _estimator(self, model: Any) -> Predictor:
        from mlstream.versions.estimator import estimator_predictor

        return estimator_predictor(
            model,
            version=self.version,
            task=self.task,
            features=self.features,
            threshold=self.threshold,
            where=self.where,
        )


def _is_estimator(model: Any) -> bool:
    """Whether an object is scikit-learn's, by the names of its classes: asking scikit-learn would import it."""
    return any(kind.__module__ == "sklearn.base" and kind.__name__ == "BaseEstimator" for kind in type(model).__mro__)


def _reference_to_json(reference: Reference) -> dict[str, Any]:
    if isinstance(reference, ModelReference):
        return {**asdict(reference), "folder": str(reference.folder), "files": dict(reference.files)}
    if isinstance(reference, FileReference):
        return {"path": str(reference.path)}
    return {
        "module": reference.module,
        "file": None if reference.file is None else str(reference.file),
        "name": reference.name,
        "alone": reference.alone,
    }


def _reference_from_json(found: Mapping[str, Any]) -> Reference:
    if "folder" in found:
        columns = None if found["columns"] is None else tuple(found["columns"])
        return ModelReference(**{**found, "folder": Path(found["folder"]), "columns": columns})
    if "path" in found:
        return FileReference(Path(found["path"]))
    file = found["file"]
    return CodeReference(found["module"], None if file is None else Path(file), found["name"], found["alone"])


def _sources_to_json(sources: Sources) -> dict[str, Any]:
    project = sources.project
    return {
        "project": {
            "root": str(project.root),
            "path": [str(folder) for folder in project.path],
            "late": [str(folder) for folder in project.late],
            "extra": None if project.extra is None else str(project.extra),
            "worktree": None if project.worktree is None else str(project.worktree),
        },
        "module": sources.module,
        "files": sources.files,
        "modules": {name: str(file) for name, file in sources.modules.items()},
    }


def _sources_from_json(found: Mapping[str, Any]) -> Sources:
    project = found["project"]
    return Sources(
        Project(
            Path(project["root"]),
            tuple(Path(folder) for folder in project["path"]),
            tuple(Path(folder) for folder in project["late"]),
            None if project["extra"] is None else Path(project["extra"]),
            None if project["worktree"] is None else Path(project["worktree"]),
        ),
        found["module"],
        dict(found["files"]),
        {name: Path(file) for name, file in found["modules"].items()},
    )

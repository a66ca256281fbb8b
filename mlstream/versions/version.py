"""Resolve a version of the experiment file to its digests, and load it. Runs no version's code until `load`.

The digest covers the source files that the version loads from the project, the name in them, its parameters, the bytes
of its weights, its declared files, Python, and the packages: those that the lock of its own environment says, else all
that are installed. What it does not cover is named by other digests: the features and the seed belong to the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.errors import UnknownVersion, VersionLoadError
from mlstream.home import Home, find_home
from mlstream.registry.model import FoundModel, find_model
from mlstream.registry.uri import ModelUri
from mlstream.versions.changes import CodeState, state_of_tree
from mlstream.versions.checkouts import Checkout, check_out, explained
from mlstream.versions.digests import digest_file, digest_value
from mlstream.versions.environments import Listener
from mlstream.versions.loading import LoadSpec
from mlstream.versions.mlflow_model import check_trust
from mlstream.versions.predictor import Predictor
from mlstream.versions.reference import (
    CodeReference,
    FileReference,
    ModelReference,
    Reference,
    check_pickle,
    missing,
    parse_model,
)
from mlstream.versions.sources import Sources, find_sources
from mlstream.versions.surroundings import surroundings_of

if TYPE_CHECKING:
    from mlstream.config import ExperimentConfig

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Version:
    """One named way to score, with everything that decides what it answers.

    Attributes:
        name: its name in the experiment.
        digest: SHA-256 over all of the below but the name.
        code_digest: of the source files; None for an estimator in a file and a model of MLflow's.
        weights_digest: of the estimator's file, or of all files of a model of MLflow's; None for code.
        environment_digest: of Python and the packages that it runs with.
        files: declared data files → their digests.
        config: the experiment that it belongs to.
        reference: what `model:` names.
        sources: the code's files; None where `code_digest` is.
        environment: what `environment_digest` was made from.
        python: the interpreter of its own environment; None for the one that this process runs in.
        checkout: where its files are, when they are those of a revision; None for the working tree.
        git: where its files stand in git; None outside a repository, and when it has none in the project.
        found: what MLflow knows of its model; None for models that are not MLflow's.
    """

    name: str
    digest: str
    code_digest: str | None
    weights_digest: str | None
    environment_digest: str
    files: Mapping[str, str]
    config: ExperimentConfig = field(repr=False)
    reference: Reference
    sources: Sources | None = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    python: Path | None = None
    checkout: Checkout | None = field(default=None, repr=False)
    git: CodeState | None = None
    found: FoundModel | None = None

    @property
    def root(self) -> Path:
        """The project's root, where its files are."""
        return self.config.root if self.checkout is None else self.checkout.root

    @property
    def features(self) -> tuple[str, ...] | None:
        """The columns that the experiment gives it; None leaves it to the model."""
        return self.config.features_of(self.name)

    def describe(self) -> dict[str, Any]:
        """What a run's record says of it: JSON values only."""
        own = self.config.versions[self.name]
        return {
            "digest": self.digest,
            "code_digest": self.code_digest,
            "weights_digest": self.weights_digest,
            "environment_digest": self.environment_digest,
            "model": own.model,
            "description": own.description,
            "parameters": own.parameters,
            "features": None if self.features is None else list(self.features),
            "sources": None if self.sources is None else self.sources.files,
            "files": dict(self.files),
            "trust": own.trust,
            # Where it runs in ours, the run's own record says what that is.
            "environment": None if self.python is None else dict(self.environment),
            "git": None if self.git is None else self.git.describe(),
            "mlflow": None if self.found is None else self.found.describe(),
        }

    @property
    def load_spec(self) -> LoadSpec:
        """All that loading it takes, as plain values for another process."""
        own = self.config.versions[self.name]
        return LoadSpec(
            version=self.name,
            model=own.model,
            task=self.config.task,
            features=self.features,
            threshold=self.config.threshold,
            parameters=own.parameters,
            trust=own.trust,
            root=self.root,
            reference=self.reference,
            sources=self.sources,
            files=self.files,
            weights_digest=self.weights_digest,
            worktree=None if self.checkout is None else self.config.root,
        )

    def load(self) -> Predictor:
        """Load its code or its weights. Best called in a process of its own: importing is global to a process.

        Raises:
            VersionLoadError: the module, the name in it, the factory or the file is not as it should be, or
                something changed since the version was resolved; or it has an environment of its own.
        """
        if self.python is not None:
            raise VersionLoadError(
                f"version {self.name} has an environment of its own, which is not that of this process",
                hint="have a model's process load it: `Host(HostSpec(load=version.load_spec), python=version.python)`",
            )
        return self.load_spec.load()[0]


def resolve_version(
    config: ExperimentConfig,
    name: str,
    *,
    home: Home | None = None,
    on_building: Listener | None = None,
) -> Version:
    """The version `name` of an experiment: its files found and digested, its environment there, nothing loaded.

    Args:
        home: the project's home, which holds the MLflow store where the environment names none; found as `find_home`
            says when None.
        on_building: called with the name of an environment's file before it is built, which may take minutes.

    Raises:
        UnknownVersion: the experiment has no such version.
        VersionLoadError: its code, weights, files or environment are not there, or are not what they should be.
        TrackingError: its model is MLflow's, which cannot be reached or refuses.
    """
    own = config.versions.get(name)
    if own is None:
        near = get_close_matches(name, config.versions, n=1)
        raise UnknownVersion(
            f"experiment {config.experiment} has no version {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(config.versions)}",
        )
    where = f"versions.{name}"
    checkout = None if own.git is None else check_out(config.root, own.git, where=f"{where}.git")
    root, worktree = (config.root, None) if checkout is None else (checkout.root, config.root)
    weights_digest = sources = found = None
    with explained(checkout):
        parsed = parse_model(own.model, root=root, where=f"{where}.model")
        if isinstance(parsed, ModelUri):
            found = find_model(parsed, home=find_home() if home is None else home, where=f"{where}.model")
            kept = _as_reference(found)
            check_trust(kept, trust=own.trust, where=where)
            reference: Reference = kept
            weights_digest = found.digest
        else:
            reference = parsed
        if isinstance(reference, FileReference):
            if not reference.path.is_file():
                raise missing(reference.path, root, f"{where}.model", _train_hint(config, name))
            check_pickle(reference.path, trust=own.trust, where=where)
            weights_digest = digest_file(reference.path)
        if isinstance(reference, CodeReference) and reference.file is not None and own.environment is not None:
            # what is wrong with the code is said before minutes go by with its environment
            find_sources(reference, root=root, where=f"{where}.model", worktree=worktree)
        around = surroundings_of(own.environment, reference, root=root, where=where, on_building=on_building)
        if isinstance(reference, CodeReference):
            sources = find_sources(reference, root=root, where=f"{where}.model", site=around.site, worktree=worktree)
        files = _declared(config, name, root)
    if checkout is not None:
        fitted = [reference.path] if isinstance(reference, FileReference) else []
        for path in (*fitted, *(root / text for text in files)):
            checkout.check_file(path, where=where)
    parts = {
        "format": _FORMAT,
        "code": None if sources is None else sources.digest,
        "name": None
        if sources is None or not isinstance(reference, CodeReference)
        else f"{sources.module}:{reference.name}",
        "weights": weights_digest,
        "parameters": own.parameters,
        "files": files,
        "environment": around.digest,
    }
    try:
        digest = digest_value(parts)
    except (TypeError, ValueError) as exc:
        raise VersionLoadError(
            f"{where}.parameters: {exc}", hint="parameters are JSON values: text, numbers, lists, mappings"
        ) from exc
    version = Version(
        name=name,
        digest=digest,
        code_digest=None if sources is None else sources.digest,
        weights_digest=weights_digest,
        environment_digest=around.digest,
        files=files,
        config=config,
        reference=reference,
        sources=sources,
        environment=around.described,
        python=around.python,
        checkout=checkout,
        found=found,
    )
    return replace(version, git=_state(version))


def _as_reference(found: FoundModel) -> ModelReference:
    flavor = found.flavor
    return ModelReference(
        found.pinned,
        found.folder,
        found.files,
        flavor.kind,
        flavor.loader,
        flavor.file,
        flavor.code,
        flavor.columns,
        flavor.python,
    )


def _declared(config: ExperimentConfig, name: str, root: Path) -> dict[str, str]:
    where = f"versions.{name}.files"
    own = config.versions[name]
    found = {}
    for text in own.files:
        path, base = (root / text).resolve(), root.resolve()
        inside = path.is_relative_to(base)
        if own.git is not None and not inside:
            raise VersionLoadError(
                f"{where}: {text} is outside the project, and so not of the revision",
                hint="move it into the project",
                where=where,
            )
        if path.is_dir():
            raise VersionLoadError(f"{where}: {text} is a folder", hint="name the files in it", where=where)
        if not path.is_file():
            raise missing(root / text if inside else path, root, where, _train_hint(config, name))
        found[path.relative_to(base).as_posix() if inside else text] = digest_file(path)
    return dict(sorted(found.items()))


def _state(version: Version) -> CodeState | None:
    """Where a version's files stand in git; refused when they differ from the commit and that is asked for."""
    config, where = version.config, f"versions.{version.name}"
    if version.checkout is not None:
        return CodeState(version.checkout.commit, version.checkout.revision)
    code = {} if version.sources is None or version.sources.project.extra is not None else version.sources.files
    root = config.root.resolve()
    data = {name: digest for name, digest in version.files.items() if (root / name).resolve().is_relative_to(root)}
    if isinstance(version.reference, FileReference) and version.weights_digest is not None:
        data[version.reference.path.relative_to(config.root).as_posix()] = version.weights_digest
    if not code and not data:
        return None
    try:
        state = state_of_tree(config.root, code, data, where=where)
    except VersionLoadError:
        if config.dirty == "refuse":
            raise
        return None  # what cannot be known is not recorded
    if state.changed and config.dirty == "refuse":
        raise VersionLoadError(
            f"{where}: {', '.join(state.changed)} differ from the commit {state.commit[:12]}, and the experiment says "
            "`dirty: refuse`",
            hint="commit them, or name a revision with `git:`",
            where=where,
            files=list(state.changed),
        )
    return state


def _train_hint(config: ExperimentConfig, name: str) -> str | None:
    if config.versions[name].train is None:
        return None
    try:
        file: Path | str = config.path.relative_to(Path.cwd())
    except ValueError:
        file = "CONFIG"
    return f"make it with `mlstream train {file} --snapshot NAME --version {name}`"

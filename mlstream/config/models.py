"""Pydantic models of an experiment file. No files, no clocks; `load.py` reads the file and words the errors."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from mlstream.config.decode import DecodeConfig
from mlstream.config.measures import (
    BootstrapConfig,
    CustomMetricConfig,
    GateConfig,
    LabelConfig,
    RankingConfig,
    SliceSearchConfig,
)
from mlstream.config.registry import Registry
from mlstream.config.section import Section
from mlstream.config.snapshot import SnapshotConfig
from mlstream.errors import MlstreamError
from mlstream.naming import check_name
from mlstream.ranges import parse_size

Task = Literal["binary", "multiclass", "regression", "quantile", "ranking"]
Scalar = str | int | float | bool | None

CLASSIFICATION_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "brier_score",
    "roc_auc",
    "average_precision",
)
REGRESSION_METRICS = ("mae", "rmse", "r2")
METRICS: dict[Task, tuple[str, ...]] = {
    "binary": CLASSIFICATION_METRICS,
    "multiclass": ("accuracy", "balanced_accuracy", "log_loss"),
    "regression": REGRESSION_METRICS,
    "quantile": ("pinball_loss", "coverage_gap"),
    "ranking": ("ndcg_at_k", "mrr", "precision_at_k", "map"),
}
# Computed when they are named.
OPTIONAL_METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("expected_calibration_error",),
    "multiclass": ("expected_calibration_error",),
    "regression": (),
    "quantile": ("mae",),
    "ranking": (),
}
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _size(value: object) -> str:
    try:
        parse_size(str(value))
    except MlstreamError as exc:
        raise ValueError(str(exc)) from exc
    return str(value)


Size = Annotated[str, BeforeValidator(_size)]


class InputConfig(Section):
    """The stream that the versions score."""

    topic: str = Field(description="the topic of the snapshot whose records are scored")
    decode: DecodeConfig = DecodeConfig()


class VersionConfig(Section):
    """One named way to score."""

    model: str = Field(
        description="path.py:factory, package.module:factory, the file of a fitted scikit-learn estimator "
        "(.skops; .joblib and .pkl only with trust: true), or a model of MLflow's: models:/NAME/3, models:/NAME@alias, "
        "models:/m-…, runs:/RUN/path"
    )
    description: str = ""
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the factory; of what MLflow's pyfunc loads, the params of its predict",
    )
    features: list[str] | None = Field(None, description="the columns given to the model, in this order")
    files: list[str] = Field(default_factory=list, description="data files that the code reads; part of its digest")
    train: str | None = Field(None, description="path.py:function that `mlstream train` calls to make the model's file")
    trust: bool = Field(
        False,
        description="allow loading what may run code: pickles, and models of MLflow's that it loads itself; only for "
        "files that you made yourself",
    )
    git: str | None = Field(
        None,
        description="the revision that its code and all its files are taken from: a branch, a tag, a commit, main~3; "
        "without it, the working tree",
    )
    environment: str | None = Field(
        None,
        description="the version's own packages: a uv.lock, pyproject.toml or requirements.txt of the project, which "
        "is built with uv; without it, and with `current`, it runs with the packages that mlstream runs with (a model "
        "of MLflow's without it runs with those that it brings)",
    )
    memory: Size | None = Field(
        None,
        description="the most memory that its process, with those that it starts, may use, for example 2GB; "
        "above it, it is ended and the version fails",
    )
    on_error: Literal["fail", "errors"] = Field(
        "fail",
        description="a record for which predict raises, or answers null, NaN, infinity, no probability or an unknown "
        "class: fail makes it the version's failure, errors writes the record with the reason to its errors topic",
    )
    refused_at_most: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1,
        description="the largest share of its records that a version with `on_error: errors` may refuse; above it, "
        "it fails",
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        600.0, description="the longest that it may take for a batch; after it, it is ended and the version fails"
    )

    @field_validator("git")
    @classmethod
    def _revision(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("-") or not value.isprintable()):
            raise ValueError("not a revision; write a branch, a tag, a commit, or main~3")
        return value

    @model_validator(mode="after")
    def _committed(self) -> VersionConfig:
        if self.git is not None and self.train is not None:
            raise ValueError(
                "`train:` has no meaning with `git:`: the files of a revision are those that were committed"
            )
        return self


class SnapshotFile(Section):
    """A configuration file that says what to freeze, and nothing of an experiment."""

    snapshot: SnapshotConfig
    connection: dict[str, Scalar] = Field(default_factory=dict, description="as in an experiment's file")
    schema_registry: Registry | None = Field(None, description="as in an experiment's file")


class ExperimentConfig(Section):
    """An experiment: `configs/NAME.yaml`. Paths in it are relative to the project's root."""

    experiment: str = Field(description="its name; the first part of its output topics")
    question: str = Field("", description="the question that the models answer, in a sentence")
    task: Task = "binary"
    snapshot: SnapshotConfig | None = Field(
        None, description="what `mlstream snapshot create NAME --config FILE` freezes"
    )
    input: InputConfig
    labels: LabelConfig | None = None
    features: list[str] | None = Field(
        None, description="the columns given to every model, unless a version says otherwise"
    )
    versions: dict[str, VersionConfig] = Field(min_length=1)
    baseline: str | None = Field(
        None, description="the version that the others are compared with; the first when left out"
    )
    metrics: list[str] | None = Field(
        None,
        description="all metrics of the task when left out, but for expected_calibration_error, which must be named",
    )
    custom_metrics: dict[str, CustomMetricConfig] = Field(
        default_factory=dict, description="name → a figure of your own, computed beside the metrics"
    )
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="of a quantile task: the level that predictions are for, for example 0.9"
    )
    ranking: RankingConfig | None = Field(None, description="of a ranking task: the group and how far down is looked")
    margins: dict[str, float] = Field(
        default_factory=dict, description="metric → the difference that does not matter in practice"
    )
    gates: list[GateConfig] = Field(
        default_factory=list,
        description="limits that versions must keep; `mlstream compare` ends with 3 when one is broken",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="score from which a binary prediction counts as positive, where a model gives scores only",
    )
    slices: list[str] = Field(
        default_factory=list,
        description="parts of the records that are compared, too: a SQL condition over the input's columns "
        "(hour > 18), or a column or expression (origin) that makes a slice of each of its values",
    )
    slice_search: SliceSearchConfig = SliceSearchConfig()
    bootstrap: BootstrapConfig = BootstrapConfig()
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    seed: int = 0
    dirty: Literal["record", "refuse"] = Field(
        "record",
        description="when files that a version loads from the working tree differ from the commit: record notes them "
        "in the run's record, refuse does not run it",
    )
    connection: dict[str, Scalar] = Field(
        default_factory=dict,
        description="kafka-python's client settings; ${NAME} is read from the environment",
    )
    schema_registry: Registry | None = Field(
        None,
        description="where `snapshot create --config` finds the schemas that records name: a URL, or a mapping with "
        "user and password; ${NAME} is read from the environment",
    )

    _path: Path | None = PrivateAttr(None)
    _root: Path | None = PrivateAttr(None)

    @field_validator("experiment")
    @classmethod
    def _experiment(cls, value: str) -> str:
        return _checked(value, what="experiment")

    @field_validator("versions")
    @classmethod
    def _versions(cls, value: dict[str, VersionConfig]) -> dict[str, VersionConfig]:
        for name in value:
            _checked(name, what="version")
        return value

    @model_validator(mode="after")
    def _agree(self) -> ExperimentConfig:
        if self.baseline is not None and self.baseline not in self.versions:
            raise ValueError(f"baseline {self.baseline!r} is not a version; there are: {', '.join(self.versions)}")
        if (self.task == "quantile") != (self.quantile is not None):
            raise ValueError("`quantile:` is the level of a quantile task, for example 0.9; give both or neither")
        if (self.task == "ranking") != (self.ranking is not None):
            raise ValueError("`ranking:` says what a ranking task ranks, `group: COLUMN`; give both or neither")
        known = METRICS[self.task] + OPTIONAL_METRICS[self.task]
        for name in self.custom_metrics:
            if not _METRIC_NAME.fullmatch(name) or name in {each for names in METRICS.values() for each in names}:
                raise ValueError(f"custom_metrics: {name!r} cannot be used as a name; use small letters, digits and _")
        for name in self.metrics or ():
            if name not in known:
                raise ValueError(f"{name!r} is not a metric of a {self.task} task; use {_nearest(name, known)}")
        twice = next((name for name in self.metrics or () if (self.metrics or []).count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"metrics: {twice!r} is there more than once")
        for name in self.margins:
            if name not in (*known, *self.custom_metrics):
                raise ValueError(f"{name!r} is not a metric of a {self.task} task; use {_nearest(name, known)}")
        for gate in self.gates:
            self._check_gate(gate)
        return self

    def _check_gate(self, gate: GateConfig) -> None:
        if gate.metric not in self.metric_names:
            raise ValueError(f"gates: {gate.metric!r} is not computed; use {_nearest(gate.metric, self.metric_names)}")
        for name in filter(None, (gate.version, gate.against)):
            if name not in self.versions:
                raise ValueError(f"gates: {name!r} is not a version; there are: {', '.join(self.versions)}")
        if gate.version == self.baseline_version and gate.at_least is None and gate.at_most is None:
            raise ValueError(f"gates: {gate.version} is the baseline: it is compared with nothing")

    @property
    def baseline_version(self) -> str:
        """The baseline that was named, else the first version."""
        return self.baseline if self.baseline is not None else next(iter(self.versions))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that were named, else all of the task; then those of your own."""
        named = tuple(self.metrics) if self.metrics is not None else METRICS[self.task]
        return (*named, *self.custom_metrics)

    @property
    def path(self) -> Path:
        """The file it was read from.

        Raises:
            ValueError: when it was made in memory.
        """
        if self._path is None:
            raise ValueError("this configuration was not read from a file")
        return self._path

    @property
    def root(self) -> Path:
        """The folder that its relative paths start from; the working directory when it was made in memory."""
        return Path.cwd() if self._root is None else self._root

    def located(self, path: Path, root: Path) -> ExperimentConfig:
        """The same configuration, knowing the file that it came from and the root of its project."""
        copy = self.model_copy()
        copy._path, copy._root = path, root
        return copy

    def features_of(self, version: str) -> tuple[str, ...] | None:
        """The columns for that version, in order; None means all columns of the decoded record."""
        own = self.versions[version].features
        chosen = own if own is not None else self.features
        return None if chosen is None else tuple(chosen)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an experiment file, for editors and CI."""
    schema = ExperimentConfig.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mlstream experiment",
        **schema,
    }


def _checked(value: str, *, what: str) -> str:
    try:
        return check_name(value, what=what)
    except MlstreamError as exc:
        raise ValueError(str(exc)) from exc


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{close[0]!r}?" if close else f"one of {', '.join(known)}"

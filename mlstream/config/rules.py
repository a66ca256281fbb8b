"""The part of an experiment that a comparison goes by, and that decides no prediction. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mlstream.config.models import ExperimentConfig
from mlstream.errors import ConfigError

# Everything else is in a run's key, or says how its versions are made.
RULES = (
    "question",
    "labels",
    "baseline",
    "metrics",
    "custom_metrics",
    "quantile",
    "ranking",
    "margins",
    "gates",
    "slices",
    "slice_search",
    "bootstrap",
)


def rules_of(config: ExperimentConfig) -> dict[str, Any]:
    """The rules as JSON values."""
    return config.model_dump(mode="json", include=set(RULES))


def changed_rules(old: ExperimentConfig, new: ExperimentConfig) -> tuple[str, ...]:
    """The names of the rules that are not the same."""
    return tuple(name for name in RULES if getattr(old, name) != getattr(new, name))


def with_rules(config: ExperimentConfig, rules: ExperimentConfig | Mapping[str, Any]) -> ExperimentConfig:
    """The experiment with other rules: those of another one, or what `rules_of` gave.

    Raises:
        ConfigError: they do not fit the experiment.
    """
    given = rules_of(rules) if isinstance(rules, ExperimentConfig) else rules
    found = {name: given[name] for name in RULES if name in given}
    try:
        made = ExperimentConfig.model_validate({**config.model_dump(mode="json"), **found})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise ConfigError(f"{config.experiment}: {first['msg'].removeprefix('Value error, ')}") from exc
    try:
        return made.located(config.path, config.root)
    except ValueError:  # it was made in memory
        return made

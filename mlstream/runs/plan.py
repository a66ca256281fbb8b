"""Plan a run: what decides its predictions, under one key, and what its attempts are called. Pure: asks nothing.

The key covers the snapshot, the decoder and the schema that it gave, the versions with their digests, features and
error policies, the task, the threshold, the seed and the grid of batches. How many processes and threads do the work is
in no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlstream.config import ExperimentConfig
from mlstream.config.models import VersionConfig
from mlstream.errors import UsageError, VersionLoadError
from mlstream.naming import check_snapshot_name, output_topic
from mlstream.versions import Version, missing_columns
from mlstream.versions.digests import digest_value

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        config: the experiment.
        snapshot_id: the input.
        view_digest: of the decoded input.
        schema: its columns and their types, pinned.
        versions: in the configuration's order.
        key: digest of all that decides the predictions.
        version_keys: version → digest of all that decides its predictions, whatever runs beside it.
    """

    config: ExperimentConfig
    snapshot_id: str
    view_digest: str
    schema: Mapping[str, str]
    versions: tuple[Version, ...]
    key: str
    version_keys: Mapping[str, str]

    def run_id(self, attempt: int) -> str:
        """The id of the run's attempt, counted from 1."""
        return digest_value({"key": self.key, "attempt": attempt})

    def topics(self, attempt: int) -> dict[str, str]:
        """version → the topic that its predictions go to.

        Raises:
            UsageError: a name is longer than Kafka or a snapshot's name allows.
        """
        run_id = self.run_id(attempt)
        found = {}
        for version in self.versions:
            topic = output_topic(self.config.experiment, version.name, run_id)
            found[version.name] = check_snapshot_name(topic)
        return found


def chosen_versions(config: ExperimentConfig, names: Sequence[str] | None) -> tuple[str, ...]:
    """The versions to run, in the configuration's order; all when `names` is None. Unknown ones are kept, at the end.

    Raises:
        UsageError: none was named.
    """
    if names is None:
        return tuple(config.versions)
    if not names:
        raise UsageError("no version to run", hint=f"there are: {', '.join(config.versions)}")
    known = [name for name in config.versions if name in names]
    return (*known, *(name for name in dict.fromkeys(names) if name not in config.versions))


def make_plan(
    config: ExperimentConfig,
    versions: Sequence[Version],
    *,
    snapshot_id: str,
    view_digest: str,
    schema: Mapping[str, str],
) -> Plan:
    """The plan of a run, checked.

    Raises:
        VersionLoadError: a version wants a column that the input has not.
        UsageError: a topic's name would be too long.
    """
    for version in versions:
        absent = None if version.features is None else missing_columns(version.features, list(schema))
        if absent is not None:
            own = config.versions[version.name].features is not None
            where = f"versions.{version.name}.features" if own else "features"
            raise VersionLoadError(f"{where}: {absent}", hint="correct the name", version=version.name)
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "experiment": config.experiment,
        "task": config.task,
        "threshold": config.threshold,
        "seed": config.seed,
        "batch_rows": config.batch_rows,
        "snapshot": snapshot_id,
        "topic": config.input.topic,
        "decode": config.input.decode.model_dump(mode="json"),
        "schema": [[name, kind] for name, kind in schema.items()],  # its order is what a model without features sees
    }
    each: dict[str, dict[str, Any]] = {
        version.name: {
            "digest": version.digest,
            "features": None if version.features is None else list(version.features),
            **_error_policy(config.versions[version.name]),
        }
        for version in versions
    }
    key = digest_value({**parts, "versions": each})
    version_keys = {name: digest_value({**parts, "versions": {name: one}}) for name, one in each.items()}
    plan = Plan(config, snapshot_id, view_digest, dict(schema), tuple(versions), key, version_keys)
    plan.topics(1)
    return plan


def _error_policy(version: VersionConfig) -> dict[str, Any]:
    """What a version does about records that it has no answer for; nothing when it is the default."""
    if version.on_error == "fail":
        return {}
    return {"on_error": version.on_error, "refused_at_most": version.refused_at_most}

"""The experiment file: what is compared, on what, by which measures. Reads one file; opens nothing else."""

from mlstream.config.decode import ColumnConfig, DecodeConfig
from mlstream.config.load import load_config, load_snapshot_config, load_unconnected
from mlstream.config.measures import BootstrapConfig, LabelConfig
from mlstream.config.models import (
    METRICS,
    ExperimentConfig,
    InputConfig,
    SnapshotFile,
    VersionConfig,
    json_schema,
)
from mlstream.config.registry import RegistryConfig
from mlstream.config.rules import RULES, changed_rules, rules_of, with_rules
from mlstream.config.snapshot import SnapshotConfig

__all__ = [
    "METRICS",
    "RULES",
    "BootstrapConfig",
    "ColumnConfig",
    "DecodeConfig",
    "ExperimentConfig",
    "InputConfig",
    "LabelConfig",
    "RegistryConfig",
    "SnapshotConfig",
    "SnapshotFile",
    "VersionConfig",
    "changed_rules",
    "json_schema",
    "load_config",
    "load_snapshot_config",
    "load_unconnected",
    "rules_of",
    "with_rules",
]

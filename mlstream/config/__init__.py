"""The experiment file: what is compared, on what, by which measures. Reads one file; opens nothing else."""

from mlstream.config.load import load_config
from mlstream.config.models import (
    METRICS,
    BootstrapConfig,
    DecodeConfig,
    ExperimentConfig,
    InputConfig,
    LabelConfig,
    VersionConfig,
    json_schema,
)

__all__ = [
    "METRICS",
    "BootstrapConfig",
    "DecodeConfig",
    "ExperimentConfig",
    "InputConfig",
    "LabelConfig",
    "VersionConfig",
    "json_schema",
    "load_config",
]

"""Versions of a model: find their code and weights, digest them, load them, check what they predict."""

from mlstream.versions.predictor import Predictor, Record, missing_columns
from mlstream.versions.version import Version, resolve_version

__all__ = ["Predictor", "Record", "Version", "missing_columns", "resolve_version"]

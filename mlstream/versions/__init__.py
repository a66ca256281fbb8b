"""Versions of a model: find their code and weights, digest them, load them, check what they predict.

A model's process imports from here too, in environments that hold little: what finds versions and builds environments
is loaded on first use.
"""

from typing import TYPE_CHECKING, Any

from mlstream.versions.predictor import Predictor, Record, missing_columns

if TYPE_CHECKING:
    from mlstream.versions.version import Version, resolve_version

__all__ = ["Predictor", "Record", "Version", "missing_columns", "resolve_version"]


def __getattr__(name: str) -> Any:
    if name in ("Version", "resolve_version"):
        from mlstream.versions import version

        return getattr(version, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

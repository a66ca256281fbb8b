"""Load the functions of an experiment's own metrics from the project's files, into this process. Calls none."""

from __future__ import annotations

import hashlib
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from mlstream.comparison.own_metrics import OwnFunction
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError


def load_functions(config: ExperimentConfig) -> dict[str, OwnFunction]:
    """Metric of the experiment's own → its function, of those that have one.

    Raises:
        ComparisonError: the file cannot be read or run, or has no such function.
    """
    return {
        name: _load(name, config.root, own.function)
        for name, own in config.custom_metrics.items()
        if own.function is not None
    }


def _load(metric: str, root: Path, written: str) -> OwnFunction:
    file, _, function = written.rpartition(":")
    path = root / file
    try:
        source = path.read_bytes()
    except OSError as exc:
        raise ComparisonError(
            f"custom_metrics.{metric}: {file} cannot be read: {exc.strerror}",
            hint=f"its path is relative to {root}",
            path=str(path),
        ) from exc
    spec = spec_from_loader(f"_mlstream_metric_{path.stem}", loader=None, origin=str(path))
    if spec is None:
        raise ComparisonError(f"custom_metrics.{metric}: {file} cannot be loaded", path=str(path))
    module = module_from_spec(spec)
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as exc:  # whatever the experiment's own code raises
        raise ComparisonError(
            f"custom_metrics.{metric}: {file} raised {type(exc).__name__} when it was loaded: {exc}", path=str(path)
        ) from exc
    call = getattr(module, function, None)
    if not callable(call):
        names = sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise ComparisonError(
            f"custom_metrics.{metric}: {file} has no function {function!r}",
            hint=f"it has: {', '.join(names)}" if names else None,
            path=str(path),
        )
    return OwnFunction(call, hashlib.sha256(source).hexdigest())

"""Git for machine-learning experiments on streams.

Freeze a range of Kafka topics (`snapshot`), run versions of a model over it in parallel (`run`), compare them with
honest statistics (`compare`). Names are loaded on first use, so that importing mlstream costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlstream import errors
from mlstream.errors import MlstreamError

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection, find_connection
    from mlstream.comparison.result import Comparison
    from mlstream.config import ExperimentConfig, load_config
    from mlstream.reporting.compare import compare
    from mlstream.reporting.kept import open_comparison
    from mlstream.reporting.verify import verify_comparison
    from mlstream.runs.replay import run
    from mlstream.runs.run import Run, open_run
    from mlstream.snapshots.capture import snapshot
    from mlstream.snapshots.pull import pull_snapshot
    from mlstream.snapshots.snapshot import Snapshot, open_snapshot
    from mlstream.streams.publish import publish

__version__ = "0.1.0"

__all__ = [
    "snapshot",
    "open_snapshot",
    "pull_snapshot",
    "Snapshot",
    "run",
    "open_run",
    "Run",
    "compare",
    "open_comparison",
    "verify_comparison",
    "Comparison",
    "publish",
    "Connection",
    "find_connection",
    "ExperimentConfig",
    "load_config",
    "MlstreamError",
    "errors",
]

_HOMES = {
    "snapshot": "mlstream.snapshots.capture",
    "open_snapshot": "mlstream.snapshots.snapshot",
    "pull_snapshot": "mlstream.snapshots.pull",
    "Snapshot": "mlstream.snapshots.snapshot",
    "run": "mlstream.runs.replay",
    "open_run": "mlstream.runs.run",
    "Run": "mlstream.runs.run",
    "compare": "mlstream.reporting.compare",
    "open_comparison": "mlstream.reporting.kept",
    "verify_comparison": "mlstream.reporting.verify",
    "Comparison": "mlstream.comparison.result",
    "publish": "mlstream.streams.publish",
    "Connection": "mlstream.broker.connection",
    "find_connection": "mlstream.broker.connection",
    "ExperimentConfig": "mlstream.config",
    "load_config": "mlstream.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlstream' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

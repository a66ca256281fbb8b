"""The one place that has MLflow load a model: in the model's own process. Asks no MLflow server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import pyfunc


def load_pyfunc(folder: Path) -> Any:
    """The model in a folder; its `predict(pandas_frame, params=…)` gives the predictions.

    Raises:
        Exception: whatever its code raises.
    """
    return pyfunc.load_model(str(folder), suppress_warnings=True)

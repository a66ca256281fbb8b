"""The two versions of compare.ipynb. A version is any object with `predict`: a frame in, a row out for each."""

import numpy as np
import polars as pl


class ByDistance:
    """v1: far parcels come late."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return 1 / (1 + np.exp(2.0 - frame["km"].to_numpy() / 400))


class ByDistanceAndRain:
    """v2: so do those that are on the road in the rain."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        km, rain = frame["km"].to_numpy(), frame["rain"].to_numpy()
        return 1 / (1 + np.exp(2.6 - km / 400 - 0.5 * rain))

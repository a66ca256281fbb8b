"""v1, a rule: how often flights of this carrier in this hour came late before. Reads one JSON table; fits nothing.

The table is counted by `train.py:late_rate` and holds integers only:

    {"flights": 243000, "late": 58000, "smoothing": 50,
     "hours": {"UA": {"6": {"flights": 3200, "late": 310}, …}, …}}

A rate is pulled towards the rate of all flights, as if `smoothing` average flights had been seen besides: a carrier
that flew twice in an hour gets nearly the average, one that flew 3,000 times its own. Never seen means the average.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import polars as pl

PROJECT = Path(__file__).resolve().parents[2]


class Counts(TypedDict):
    """How many flights there were and how many of them came late."""

    flights: int
    late: int


class Table(Counts):
    """What the rule reads: the counts of all flights, and of each carrier and hour of scheduled departure."""

    smoothing: int
    hours: dict[str, dict[str, Counts]]


class LateRate:
    """Scores a flight by its carrier and its hour of scheduled departure."""

    def __init__(self, table: Table) -> None:
        self.average = table["late"] / table["flights"]
        weight = table["smoothing"]
        rows = [
            (carrier, int(hour), (counts["late"] + weight * self.average) / (counts["flights"] + weight))
            for carrier, hours in table["hours"].items()
            for hour, counts in hours.items()
        ]
        schema = {"carrier": pl.String, "hour": pl.Int64, "score": pl.Float64}
        self._rates = pl.DataFrame(rows, schema=schema, orient="row")

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns `carrier` (string) and `hour` (0 to 23) → `score`, the chance of coming late, and `prediction`."""
        known = frame.select("carrier", pl.col("hour").cast(pl.Int64))
        found = known.join(self._rates, on=["carrier", "hour"], how="left", maintain_order="left")
        score = pl.col("score").fill_null(self.average)
        return found.select(prediction=score > 0.5, score=score)


def late_rate(table: str) -> LateRate:
    """The rule over the table in the file `table`, a path from the project's root."""
    return LateRate(json.loads((PROJECT / table).read_text(encoding="utf-8")))

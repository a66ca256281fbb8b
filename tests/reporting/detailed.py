"""The example with all that a comparison may hold beside its metrics."""

from __future__ import annotations

import math
from typing import Any, get_args

from mlstream.comparison.details import (
    Calibration,
    CalibrationBin,
    Change,
    ColumnDrift,
    Cost,
    Curve,
    Disagreement,
    Drift,
    Floor,
    ScoreShift,
    Series,
    SliceResult,
    SliceSearch,
    Verdict,
)
from mlstream.comparison.result import Comparison
from tests.reporting.examples import VERSIONS, digest, example_comparison, interval

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def a_slice(name: str, version: str, delta: float, half: float, verdict: Verdict, **changes: Any) -> SliceResult:
    values: dict[str, Any] = {
        "slice": name,
        "kind": "named",
        "version": version,
        "baseline": "v1",
        "metric": "log_loss",
        "records": 27_310,
        "share": 0.336,
        "value": 0.51 + delta,
        "baseline_value": 0.51,
        "delta": delta,
        "interval": interval(delta, half),
        "p_value": 0.001,
        "p_adjusted": 0.004,
        "verdict": verdict,
        "reason": None if verdict != "inconclusive" else "the 95 % interval holds 0",
    }
    return SliceResult(**{**values, **changes})


def details() -> dict[str, Any]:
    """Values for the fields of `Comparison` that the plain example leaves empty."""
    scores = [(number + 0.5) / 10 for number in range(10)]
    bends = {"v1": 0.7, "v2": 0.9, "v3": 1.0}
    levels = tuple(number / 20 for number in range(21))
    return {
        "slices": (
            a_slice("origin = 'JFK'", "v2", -0.031, 0.009, "better"),
            a_slice("origin = 'JFK'", "v3", -0.071, 0.008, "better"),
            a_slice("hour > 18", "v2", 0.004, 0.012, "inconclusive", records=9_214, share=0.113),
            a_slice(
                "carrier = 'HA' and hour < 10", "v2", 0.182, 0.061, "worse", kind="searched", records=214, share=0.0026
            ),
        ),
        "slice_search": SliceSearch("log_loss", ("carrier", "origin", "dest", "hour"), 418, 1, 100, 0.1),
        "disagreements": tuple(
            Disagreement(
                version="v3",
                baseline="v1",
                partition=number,
                offset=61_234 + number,
                timestamp_ms=1_382_000_000_000 + 3_600_000 * number,
                distance=0.81 - 0.02 * number,
                prediction=True,
                baseline_prediction=False,
                score=0.93 - 0.02 * number,
                baseline_score=0.12,
                label=number != 1,
                right="version" if number != 1 else "baseline",
                columns={"carrier": "EV", "origin": "EWR", "hour": 19 + number, "recent_late": 31, "label": "<b>x</b>"},
            )
            for number in range(3)
        ),
        "changes": tuple(
            Change("v3", "v1", label, before, after, 60_000 if before == after == label else 1_700 + number)
            for number, (label, before, after) in enumerate(
                (label, before, after)
                for label in ("false", "true")
                for before in ("false", "true")
                for after in ("false", "true")
            )
        ),
        "calibration": tuple(
            Calibration(
                version,
                0.01 + 0.02 * number,
                tuple(
                    CalibrationBin(score - 0.05, score + 0.05, 8000, score, score ** bends[version]) for score in scores
                ),
            )
            for number, version in enumerate(VERSIONS)
        ),
        "curves": tuple(
            Curve(version, kind, levels, tuple(shape(level, number) for level in levels))
            for number, version in enumerate(VERSIONS)
            for kind, shape in (
                ("roc", lambda level, number: level ** (0.5 - 0.12 * number)),
                ("precision_recall", lambda level, number: 1 - (0.75 - 0.12 * number) * level),
            )
        ),
        "shifts": tuple(
            ScoreShift(
                version,
                "v1",
                "score",
                0.19,
                0.27,
                0.241,
                0.218,
                tuple(level**1.4 for level in levels),
                tuple(level**1.8 for level in levels),
                levels,
            )
            for version in VERSIONS[1:]
        ),
        "drift": Drift(
            digest("other"),
            "flights-q3",
            82_732,
            86_326,
            (
                ColumnDrift("recent_late", "number", 0.213, 0.311, 0.0, 0.0, 4.1, 7.9),
                ColumnDrift("carrier", "category", 0.021, 0.004, 0.0, 0.0),
                ColumnDrift("gate", "missing", None, None, 0.02, None, note="only in this snapshot"),
            ),
        ),
        "costs": tuple(
            Cost(version, 82_732, 41_000.0 / (number + 1), 3.1, 7.4, 14.2 + 6 * number, 0.4, 0.9, 1.7, 17.0, 214.0)
            for number, version in enumerate(VERSIONS)
        ),
        "floor": Floor("v1", 3, 82_732, 0, 0.0, {"log_loss": 0.0, "accuracy": 0.0}),
        "series": tuple(
            Series(
                version,
                "log_loss",
                86_400.0,
                tuple(1_380_585_600_000 + 86_400_000 * day for day in range(60)),
                tuple(
                    None if day == 1 else 0.5 - 0.03 * number + 0.04 * math.sin(day * (1 + number / 20) / 2)
                    for day in range(60)
                ),
            )
            for number, version in enumerate(VERSIONS)
        ),
    }


def detailed_comparison(**changes: Any) -> Comparison:
    """The example with everything."""
    return example_comparison(**{**details(), **changes})

"""A comparison that needs room: eight versions, some with long names, large and tiny figures, many slices."""

from __future__ import annotations

from mlstream.comparison.details import SliceResult
from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.reporting.facts import RunFacts, VersionFacts
from tests.reporting.detailed import VERDICTS, a_slice
from tests.reporting.examples import digest, example_comparison, example_run, interval

NAMES = (
    "champion",
    "logistic-regression-with-lagged-weather-features",
    "boosting-2026-06-with-a-much-longer-name-than-anybody-wants",
    *(f"v{number}" for number in range(4, 9)),
)
# metric → (higher is better, the baseline's value, step from version to version, half width)
FIGURES = {
    "profit_in_dollars": (True, -1.5e9, 3.1e8, 9e8),
    "rmse": (False, 412_345.2, -7_110.3, 15_200.0),
    "log_loss": (False, 0.5188, -0.0082, 0.0068),
    "rate_of_refunds": (False, 1.2e-6, 1.1e-7, 3e-7),
}


def crowded_comparison() -> Comparison:
    metrics, deltas = [], []
    for metric, (higher, start, step, half) in FIGURES.items():
        for number, name in enumerate(NAMES):
            value, delta = start + step * number, step * number
            metrics.append(MetricResult(name, metric, value, interval(value, half), higher))
            if number == 0:
                continue
            verdict = "inconclusive" if abs(delta) <= half else "better" if (delta > 0) == higher else "worse"
            deltas.append(
                DeltaResult(
                    version=name,
                    baseline=NAMES[0],
                    metric=metric,
                    delta=delta,
                    interval=interval(delta, half),
                    p_value=0.01,
                    p_adjusted=0.04,
                    margin=None,
                    verdict=verdict,
                    reason="the interval holds 0" if verdict == "inconclusive" else None,
                )
            )
    return example_comparison(
        question="",
        snapshot_name="clicks-and-purchases-europe-may-2026-with-corrections",
        baseline=NAMES[0],
        versions=NAMES,
        outputs={name: digest(f"output {name}") for name in NAMES},
        metrics=tuple(metrics),
        deltas=tuple(deltas),
        slices=tuple(_slices()),
        agreement={name: 0.9 - 0.05 * number for number, name in enumerate(NAMES[1:])},
        coverage=(),
    )


def _slices() -> list[SliceResult]:
    return [
        a_slice(
            f"carrier = '{carrier}' and origin = 'JFK' and hour between 6 and 9 and month in (10, 11, 12)",
            name,
            0.1 - 0.07 * number,
            0.05,
            VERDICTS[number % len(VERDICTS)],
            baseline=NAMES[0],
        )
        for carrier in ("UA", "B6", "EV", "DL")
        for number, name in enumerate(NAMES[1:4])
    ]


def crowded_run() -> RunFacts:
    gates = [{"metric": "log_loss", "no_worse_than": 0.001}]
    return example_run(config={"gates": gates}, versions={name: VersionFacts(name, model="a.py:f") for name in NAMES})

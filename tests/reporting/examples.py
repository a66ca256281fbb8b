"""A comparison and its run as they come out of the flights experiment: three versions, six metrics."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

from mlstream.comparison.result import (
    Blocks,
    Comparison,
    Coverage,
    DeltaResult,
    Interval,
    LabelCoverage,
    MetricResult,
    Verdict,
)
from mlstream.ranges import PartitionRange
from mlstream.reporting.facts import RunFacts, VersionFacts
from mlstream.runs.machine import GitState

VERSIONS = ("v1", "v2", "v3")
# metric → (higher is better, margin, values of v1, v2, v3, half width of the delta's interval)
FIGURES: dict[str, tuple[bool, float | None, tuple[float, float, float], float]] = {
    "accuracy": (True, 0.005, (0.7794, 0.7812, 0.8023), 0.0031),
    "balanced_accuracy": (True, None, (0.5213, 0.5562, 0.6018), 0.0052),
    "log_loss": (False, None, (0.5188, 0.4901, 0.4528), 0.0068),
    "brier_score": (False, 0.002, (0.1688, 0.1679, 0.1451), 0.0017),
    "roc_auc": (True, None, (0.6389, 0.6877, 0.7468), 0.0074),
    "average_precision": (True, None, (0.3312, 0.3231, 0.4987), 0.0125),
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def interval(middle: float, half: float) -> Interval:
    return Interval(middle - half, middle + half, 0.95)


def verdict_of(delta: float, half: float, margin: float | None, higher_is_better: bool) -> Verdict:
    if margin is not None and abs(delta) + 0.84 * half < margin:
        return "equivalent"
    if abs(delta) <= half:
        return "inconclusive"
    found: tuple[Literal["better"], Literal["worse"]] = ("better", "worse")
    return found[0] if (delta > 0) == higher_is_better else found[1]


def example_comparison(**changes: Any) -> Comparison:
    metrics, deltas = [], []
    for metric, (higher, margin, values, half) in FIGURES.items():
        for version, value in zip(VERSIONS, values, strict=True):
            metrics.append(MetricResult(version, metric, value, interval(value, 1.4 * half), higher))
            if version == "v1":
                continue
            delta = value - values[0]
            verdict = verdict_of(delta, half, margin, higher)
            inconclusive = verdict == "inconclusive"
            deltas.append(
                DeltaResult(
                    version=version,
                    baseline="v1",
                    metric=metric,
                    delta=delta,
                    interval=interval(delta, half),
                    p_value=0.21 if inconclusive else 0.0005,
                    p_adjusted=0.42 if inconclusive else 0.006,
                    margin=margin,
                    verdict=verdict,
                    reason="the interval holds 0" if inconclusive else None,
                )
            )
    found = Comparison(
        id=digest("comparison"),
        experiment="flights",
        question="Will this flight arrive more than 15 minutes late?",
        task="binary",
        run_id=digest("run"),
        snapshot_id=digest("snapshot"),
        snapshot_name="flights-q4",
        baseline="v1",
        versions=VERSIONS,
        outputs={version: digest(f"output {version}") for version in VERSIONS},
        coverage=tuple(Coverage(version, 82732, 82732, 0, 0, 0) for version in VERSIONS),
        labels=LabelCoverage(
            records=82732,
            labelled=81196,
            not_yet_due=0,
            missing=1536,
            positives=17884,
            rule="arr_delay > 15, by carrier, flight and time_hour",
            reason="cancelled and diverted flights have no arrival",
        ),
        blocks=Blocks(count=184, length_s=43200.0, chosen="auto: the autocorrelation falls below 0.1 after 11.2 h"),
        metrics=tuple(metrics),
        deltas=tuple(deltas),
        agreement={"v2": 0.9213, "v3": 0.8791},
        paired=82732,
        value_blocks=Blocks(count=92, length_s=86400.0, chosen="auto"),
        settings={"confidence": 0.95, "resamples": 2000, "seed": 0, "block": "auto", "threshold": 0.5},
    )
    return replace(found, **changes)


def example_run(**changes: Any) -> RunFacts:
    versions = {
        "v1": VersionFacts(
            "v1",
            model="pipelines/flights/models.py:late_rate",
            description="historical late rate of carrier × hour",
            parameters={"smoothing": 20},
            features=("carrier", "hour"),
        ),
        "v2": VersionFacts(
            "v2",
            model="models/flights-v2.skops",
            description="logistic regression",
            parameters={"C": 0.5, "max_iter": 500},
            features=("carrier", "hour", "origin", "dest", "distance", "month", "weekday"),
        ),
        "v3": VersionFacts(
            "v3",
            model="models/flights-v3.skops",
            description="gradient boosting",
            parameters={"max_iter": 200, "learning_rate": 0.1},
            features=("carrier", "hour", "origin", "dest", "distance", "month", "weekday", "minute"),
        ),
    }
    for number, (name, facts) in enumerate(versions.items()):
        versions[name] = replace(
            facts,
            digest=digest(f"version {name}"),
            digests={part: digest(f"{part} {name}") for part in ("code", "weights", "environment")},
            topic=f"flights.{name}.{digest('run')[:12]}",
            output_id=digest(f"output {name}"),
            figures={
                "records": 82732.0,
                "seconds": 1.9 + 0.8 * number,
                "records_per_second": 82732 / (1.9 + 0.8 * number),
                "latency_p99_ms": 14.2 + 6 * number,
                "cpu_seconds": 1.4 + 0.9 * number,
                "memory_mb": 214.0 + 31 * number,
            },
        )
    found = RunFacts(
        id=digest("run"),
        experiment="flights",
        snapshot_id=digest("snapshot"),
        snapshot_name="flights-q4",
        config={"experiment": "flights", "task": "binary", "versions": {name: {} for name in VERSIONS}},
        config_path="configs/flights.yaml",
        streams=(
            *(PartitionRange("flights", partition, 62000 + partition, 83000) for partition in range(4)),
            *(PartitionRange("landings", partition, 0, 82000) for partition in range(4)),
        ),
        rows=163928,
        size_bytes=14_812_003,
        schema={"carrier": "string", "flight": "int", "origin": "string", "dest": "string", "distance": "int"},
        versions=versions,
        environment={"numpy": "2.4.6", "polars": "2.1.0", "scikit-learn": "1.9.1"},
        python="CPython 3.11.7",
        platform="Linux-6.1-x86_64",
        git=GitState(commit="3fa27000c0ffee00c0ffee00c0ffee00c0ffee00", branch="main", dirty=False),
    )
    return replace(found, **changes)

"""The snapshot that was scored, as the dataset of runs in MLflow. Pure; knows no MLflow."""

from __future__ import annotations

from itertools import groupby

from mlstream.comparison.result import Comparison
from mlstream.registry.dataset import DatasetFacts, dataset_facts
from mlstream.reporting.facts import RunFacts


def snapshot_dataset(comparison: Comparison, run: RunFacts) -> DatasetFacts:
    """The snapshot that was scored, with the decoded columns of the scored topic."""
    streams = {
        topic: {str(found.partition): [found.start, found.stop] for found in ranges}
        for topic, ranges in groupby(run.streams, key=lambda found: found.topic)
    }
    return dataset_facts(
        comparison.snapshot_id,
        comparison.snapshot_name,
        streams=streams,
        rows=run.rows,
        size_bytes=run.size_bytes,
        schema=run.schema,
    )

"""What a worker does about records that get no prediction, for all of its partitions. Asks no model, commits nothing.

How many may be refused is a share of all records of the version. A process that alone refuses more ends the version at
once; whether all of them together do is the parent's to see, at the end. So the number of workers makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mlstream.broker.client import Client
from mlstream.config import ExperimentConfig
from mlstream.host.host import Answer
from mlstream.host.log import say
from mlstream.runs.errors import NO_FAULTS, DeadLetters, ErrorRecords, Faults
from mlstream.runs.errors_topic import make_errors_topic
from mlstream.runs.originals import Originals
from mlstream.runs.spec import Spec
from mlstream.snapshots.restore_target import largest_message
from mlstream.snapshots.snapshot import Snapshot
from mlstream.versions import Record

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

LOOKED_AT = -1  # for `most_refused`: of a batch that is only looked at all may be refused
_SAID = 10  # refused records that the log names; all of them are in the errors topic


class Aside:
    """Makes the errors topic on the first error, and what the shards need to write to it.

    Args:
        client: whose connections are used.
        spec, config: what the worker does.
        view: the decoded input.
        snapshot: the input.
        on_topic: called with the topic's id once it is there, before anything is written to it.
    """

    def __init__(
        self,
        client: Client,
        spec: Spec,
        config: ExperimentConfig,
        view: View,
        snapshot: Snapshot,
        *,
        on_topic: Callable[[str], None],
    ) -> None:
        self._client = client
        self._spec = spec
        self._topic = config.input.topic
        self._view = view
        self._snapshot = snapshot
        self._on_topic = on_topic
        policy = config.versions[spec.version]
        self._records = sum(view.rows.values())
        self._most = int(policy.refused_at_most * self._records) if policy.on_error == "errors" else None
        self._topic_id: str | None = None
        self._said = 0

    def most_refused(self, refused: int) -> int | None:
        """How many records of a batch may be refused; None when one that cannot be answered fails the version.

        Args:
            refused: how many this process has refused before; `LOOKED_AT` when the answer is not written.
        """
        if self._most is None:
            return None
        return self._records if refused == LOOKED_AT else max(0, self._most - refused)

    def records(self, partition: int) -> ErrorRecords | None:
        """What makes records of those without a prediction; None when each gets one or fails the version."""
        dead = DeadLetters.of(self._view, partition)
        if self._most is None and not len(dead.offsets):
            return None
        return ErrorRecords(
            run_id=self._spec.run_id,
            version=self._spec.version,
            topic=self._topic,
            partition=partition,
            find=Originals(self._snapshot, self._topic, partition).find,
            dead=dead,
            make_topic=self._make_topic,
        )

    def faults(self, batch: pl.DataFrame, answer: Answer, partition: int) -> Faults:
        """The refused records of a batch; the first few of the process are told of in the log."""
        if not answer.refused:
            return NO_FAULTS
        offsets = batch["_offset"].to_numpy()[[each.row for each in answer.refused]]
        for offset, each in zip(offsets.tolist(), answer.refused, strict=True):
            if self._said == _SAID:
                break
            self._said += 1
            say(f"refused {Record(self._topic, partition, offset)}: {each.reason}")
        return Faults(offsets, [each.error for each in answer.refused], [each.reason for each in answer.refused])

    def _make_topic(self) -> None:
        if self._topic_id is None:
            stream = self._snapshot.stream(self._topic)
            self._topic_id = make_errors_topic(
                self._client,
                self._spec.topic,
                source=self._topic,
                largest=lambda: largest_message(self._snapshot, stream),
            )
            self._on_topic(self._topic_id)


def answered_of(records: pl.DataFrame, answer: Answer) -> pl.DataFrame:
    """The records of a batch that are not refused."""
    if not answer.refused:
        return records
    kept = np.ones(records.height, np.bool_)
    kept[[each.row for each in answer.refused]] = False
    return records.filter(pl.Series(kept))

"""What came of asking a version in batches of several sizes. Plain values; asks nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlstream.errors import PredictError


@dataclass(frozen=True, slots=True)
class Asked:
    """How the answers in batches of one size compare with those in batches of the experiment's size.

    Attributes:
        batch_rows: the size.
        batches, records: how many were asked.
        differing: records whose answer is not the same, bit by bit, or that only one of the two refused.
        largest: the largest difference of two numbers among them.
        first: where they differ first; None when nothing does.
        seconds: how long it took, with the way to the model's process and back.
    """

    batch_rows: int
    batches: int
    records: int
    differing: int
    largest: float
    first: Mismatch | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A record with two answers.

    Attributes:
        partition, offset: of the record.
        column: of the predictions; "refused" when only one of the answers is a refusal.
        usual, now: what they are.
    """

    partition: int
    offset: int
    column: str
    usual: Any
    now: Any


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """Whether a version answers the same whatever the batches.

    Attributes:
        version: its name.
        digest: its digest.
        snapshot_id, snapshot_name, topic: where the records are from.
        records: how many were asked.
        stateful: the model keeps state, and was begun anew each time.
        again: batches of the experiment's size, asked for a second time.
        sizes: the other sizes.
    """

    version: str
    digest: str
    snapshot_id: str
    snapshot_name: str | None
    topic: str
    records: int
    stateful: bool
    again: Asked
    sizes: tuple[Asked, ...]

    @property
    def equal(self) -> bool:
        """Whether all answers are equal, bit by bit."""
        return not any(asked.differing for asked in (self.again, *self.sizes))

    def check(self) -> None:
        """Nothing, if all answers are equal.

        Raises:
            PredictError: says what they depend on, and where they differ first.
        """
        if self.again.differing:
            raise PredictError(
                f"version {self.version} answers {self.again.differing:,} of {self.again.records:,} records otherwise "
                "when it is asked again",
                hint="it draws numbers, or keeps state without saying so: seed what it draws; "
                "give it `state()` and `load_state()`",
                version=self.version,
            )
        worst = [asked for asked in self.sizes if asked.differing]
        if worst:
            sizes = ", ".join(f"{asked.batch_rows:,}" for asked in worst)
            raise PredictError(
                f"version {self.version}: its answers depend on the size of batches (they differ for {sizes})",
                hint="compute each row from that row alone; sums over rows belong into training, or into state",
                version=self.version,
            )

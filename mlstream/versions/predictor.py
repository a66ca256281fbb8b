"""Call a loaded model on a batch and have checked what it returned. Loads nothing, writes nothing.

`answers.py` says what an answer must look like. A record for which the model has no usable answer fails the batch
(`predict`), or is refused with a reason and left out (`score`), as the version's `on_error` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from mlstream.errors import PredictError
from mlstream.versions.answers import Expected, WrongAnswer, read_answer

if TYPE_CHECKING:
    from mlstream.config.models import Task
    from mlstream.versions.stateful import KeptState

RAISED = "raised"  # why a record was refused: predict raised for it
INVALID = "invalid"  # or answered null, NaN, infinity, no probability or no such class
_MOST_REASON = 1000  # characters

Answer = pl.Series | pl.DataFrame | np.ndarray[Any, Any]


class Model(Protocol):
    """What a version's factory returns."""

    def predict(self, frame: pl.DataFrame, /) -> Answer:
        """One row out for each row in, in order."""


@dataclass(frozen=True, slots=True)
class Record:
    """The first record of a batch: what errors name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that gets no prediction.

    Attributes:
        row: of the batch.
        error: "raised" when predict raised for it, "invalid" when its answer is none.
        reason: in words: the exception's kind and text, or what the answer was.
    """

    row: int
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model answered for a batch of which it may refuse records.

    Attributes:
        predictions: one row for each record that is not refused, in order; without columns when all are.
        refused: the others, in order.
        raised: what predict raised first for a record alone, with its traceback; None when it did for none.
    """

    predictions: pl.DataFrame
    refused: tuple[Refusal, ...] = ()
    raised: Exception | None = None


@dataclass(frozen=True)
class Predictor:
    """A loaded version.

    Attributes:
        version: its name, for errors.
        task: what it answers.
        features: the columns that the model gets, in order; None gives it all.
        answer: calls the model.
        threshold: the score from which a binary prediction is positive, where the model gives scores only.
        classes: a multiclass model's classes in the order of its scores; None when it gives no scores.
        kept: of a model that keeps state: one predictor is then good for one partition; None for all others.
        place: the project's line that an exception came from, for errors; None when it came from no such line.
    """

    version: str
    task: Task
    features: tuple[str, ...] | None
    answer: Callable[[pl.DataFrame], Any]
    threshold: float = 0.5
    classes: tuple[str | int, ...] | None = None
    kept: KeptState | None = None
    place: Callable[[BaseException], str | None] | None = None

    def predict(self, frame: pl.DataFrame, *, first: Record | None = None) -> pl.DataFrame:
        """Score a batch.

        Args:
            frame: decoded columns; those that are not among the features are left out.
            first: the record in its first row, for errors.

        Returns:
            A frame of the same height with the columns that `answers.py` lists.

        Raises:
            PredictError: the model raised, or returned the wrong rows, types or values.
        """
        given = self._given(frame)
        try:
            answer = self.answer(given)
        except Exception as exc:
            raise self._raised(first, exc) from exc
        return self._read(answer, frame.height, first, refusing=False)[0]

    def score(self, frame: pl.DataFrame, *, most: int, first: Record | None = None) -> Scored:
        """Score a batch, and refuse the records that the model has no usable answer for.

        When predict raises, the batch is halved, and the halves that raise again, down to the records that do: the
        first half is the smaller one where the number is odd. A model that treats rows independently so gives the
        others the answers that it would give without them. What a model keeps as state is put back before each half.

        Args:
            frame, first: as `predict` takes them.
            most: how many records may be refused.

        Raises:
            PredictError: more were refused; or the model returned the wrong rows or types, or had no memory left.
            StateError: its state cannot be taken or put back.
        """
        given = self._given(frame)
        parts: list[pl.DataFrame] = []
        refused: list[Refusal] = []
        raised: Exception | None = None
        ahead = [(0, given.height)]
        while ahead:
            start, stop = ahead.pop()
            found = self._attempt(given.slice(start, stop - start), first, start)
            if isinstance(found, Scored):
                parts.append(found.predictions)
                refused += found.refused
            elif stop - start > 1:
                middle = start + (stop - start) // 2
                ahead += [(middle, stop), (start, middle)]
            else:
                raised = found if raised is None else raised
                refused.append(Refusal(start, RAISED, _short(f"{type(found).__name__}: {found}")))
            if len(refused) > most:
                raise self._too_many(first, most, refused[0])
        return Scored(self._joined(parts, first), tuple(refused), raised)

    def _attempt(self, given: pl.DataFrame, first: Record | None, start: int) -> Scored | Exception:
        """The answer for rows from `start` on; or what predict raised, after which the model is as it was before."""
        place = "" if first is None else f"partition {first.partition}"
        before = None if self.kept is None else self.kept.take(place)
        try:
            answer = self.answer(given)
        except MemoryError as exc:  # whatever the record: another one would have been the last straw elsewhere
            raise self._raised(first, exc) from exc
        except Exception as exc:
            if self.kept is not None and before is not None:
                self.kept.put_back(before, place)
            return exc
        frame, refused = self._read(answer, given.height, first, refusing=True)
        rows = sorted(refused.items())
        return Scored(frame, tuple(Refusal(start + row, INVALID, _short(why)) for row, why in rows))

    def _joined(self, parts: Sequence[pl.DataFrame], first: Record | None) -> pl.DataFrame:
        """The answers for the parts of a batch as one frame; those without a row say nothing of its columns."""
        parts = [part for part in parts if part.height]
        if any(part.schema != parts[0].schema for part in parts):
            words = " and ".join(sorted({str(dict(part.schema)) for part in parts}))
            raise self._error(first, f"predict returned different columns for parts of the batch: {words}")
        return pl.concat(parts) if parts else pl.DataFrame()

    def _read(
        self, answer: Any, rows: int, first: Record | None, *, refusing: bool
    ) -> tuple[pl.DataFrame, dict[int, str]]:
        try:
            return read_answer(answer, Expected(self.task, rows, self.threshold, self.classes, refusing))
        except WrongAnswer as wrong:
            raise self._error(first, wrong.message, wrong.hint) from None

    def _given(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the model gets of a frame."""
        return frame if self.features is None else frame.select(self._present(frame.columns))

    def _present(self, columns: Sequence[str]) -> tuple[str, ...]:
        features = self.features if self.features is not None else ()
        absent = missing_columns(features, columns)
        if absent is not None:
            raise PredictError(f"version {self.version}: {absent}", version=self.version)
        return features

    def _raised(self, first: Record | None, exc: Exception) -> PredictError:
        place = None if self.place is None else self.place(exc)
        return self._error(
            first, f"predict raised {type(exc).__name__}: {exc}" + ("" if place is None else f" (at {place})")
        )

    def _too_many(self, first: Record | None, most: int, refusal: Refusal) -> PredictError:
        left = "none" if most == 0 else f"{most:,} at most"
        return self._error(
            first,
            f"more records are refused than the version may still refuse ({left}); "
            f"the first of the batch is in row {refusal.row}: {refusal.reason}",
            "correct the model; or let it refuse more, with a larger `refused_at_most`",
        )

    def _error(self, first: Record | None, message: str, hint: str | None = None) -> PredictError:
        place = "" if first is None else f", batch that starts at {first}"
        return PredictError(f"version {self.version}{place}: {message}", hint=hint, version=self.version)


def missing_columns(features: Sequence[str], columns: Sequence[str]) -> str | None:
    """A sentence that names the features that the input lacks, with near names; None when all are there."""
    absent = [name for name in features if name not in columns]
    if not absent:
        return None
    words = []
    for name in absent:
        near = get_close_matches(name, columns, n=1)
        words.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"the input has no column {', '.join(words)}; it has: {', '.join(columns)}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_REASON else f"{text[: _MOST_REASON - 1]}…"

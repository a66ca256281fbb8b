"""The worker's side of a model's process: ask it, and notice how it fails. Loads no model.

    with Host(spec, limits=Limits(timeout_s=60), log=Path("v1.log")) as host:
        host.load()
        answer = host.predict(frame, first=Record("orders", 0, 1200))

The model's process gets no credentials (`environment.py`), predicts and does nothing else, and ends with the process
that started it. It is not started again: when it dies, that is the version's failure.
"""

from __future__ import annotations

import io
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from mlstream import errors
from mlstream.errors import HostFailed, MlstreamError, VersionError
from mlstream.host.log import LOG_MARK
from mlstream.host.messages import NoMessage, receive, send
from mlstream.host.process import ModelProcess
from mlstream.host.spec import HostSpec, Limits
from mlstream.host.watching import CHECK_EVERY_S, MemoryWatch, place_of, stack_in
from mlstream.versions.predictor import Record, Refusal

_END_S = 5.0  # how long a process that said its last word may take to end
_LOADING = "while it was loaded"
_DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered for a batch.

    Attributes:
        predictions: one row for each row that is not refused, as `answers.py` describes them.
        seconds: how long the model took, without the way there and back.
        refused: the rows that it has no usable answer for, in order; none unless they may be.
    """

    predictions: pl.DataFrame
    seconds: float
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class _Question:
    """What is being asked: where the model is, how long it may take, and what helps when it takes longer."""

    place: str
    within_s: float | None
    late: str | None
    deadline: float | None

    @classmethod
    def now(cls, place: str, within_s: float | None, late: str | None = None) -> _Question:
        return cls(place, within_s, late, None if within_s is None else time.monotonic() + within_s)


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch that the model was asked for: `Host.answer` takes it, before the model is asked for anything else."""

    question: _Question
    rows: int


class Host:
    """A version's model in a process of its own.

    Args:
        spec: the version.
        limits: what it may use.
        log: the file that its output is added to; None adds it to this process's output.
        python: the interpreter of its environment; None takes this process's.
        variables: the environment's variables to choose from; None takes this process's.

    Attributes:
        classes: a multiclass model's classes in the order of its scores, once it is loaded.
        stateful: whether the model keeps state, once it is loaded; it then has an instance for each partition.

    Raises:
        VersionLoadError: the process cannot be started.
    """

    def __init__(
        self,
        spec: HostSpec,
        *,
        limits: Limits = _DEFAULT,
        log: Path | None = None,
        python: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._version = spec.load.version
        self._process = ModelProcess(
            spec.load.root,
            log=log,
            python=python,
            variables=os.environ if variables is None else variables,
            where=spec.load.where,
        )
        self._memory = MemoryWatch(self._process.pid, limits.memory_bytes)
        self._to_write = self._process.poll_for(self._process.requests, select.POLLOUT)
        self._to_read = self._process.poll_for(self._process.replies, select.POLLIN)
        self._loading = False
        self.classes: tuple[str | int, ...] | None = None
        self.stateful = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of its process, which is its process group's too."""
        return self._process.pid

    @property
    def memory_bytes(self) -> int:
        """The most memory that its process has had resident, as seen last at its end."""
        return self._process.memory_bytes

    def start_loading(self) -> None:
        """Have the version loaded while this process does something else; `load` waits for it.

        Raises:
            HostFailed: its process crashed or hung.
        """
        if not self._loading:
            self._loading = True
            told = {"do": "load", "spec": self._spec.to_json()}
            self._send(told, b"", _Question.now(_LOADING, self._limits.load_timeout_s))

    def load(self) -> None:
        """Load the version and wait for it.

        Raises:
            VersionLoadError: the version cannot be loaded, or is not what was digested.
            HostFailed: its process crashed, hung or took too much memory.
        """
        self.start_loading()
        reply, _ = self._reply(_Question.now(_LOADING, self._limits.load_timeout_s))
        self.classes = None if reply["classes"] is None else tuple(reply["classes"])
        self.stateful = bool(reply["stateful"])

    def predict(self, frame: pl.DataFrame, *, first: Record | None = None, most_refused: int | None = None) -> Answer:
        """The answer for a batch of columns, which are copied to the model's process.

        Args:
            frame: decoded columns, without the records' coordinates.
            first: the record in its first row, for errors.
            most_refused: how many records may be refused, as `Predictor.score` does; None refuses none, and fails.

        Raises:
            PredictError: the model raised, or returned the wrong rows, types or values; or refuses too many.
            HostFailed: its process crashed, hung or took too much memory.
        """
        features = self._spec.load.features
        if features is not None and all(name in frame.columns for name in features):
            frame = frame.select(features)
        payload = io.BytesIO()
        frame.write_ipc_stream(payload)
        asked = {"do": "predict", "most_refused": most_refused}
        return self.answer(self._ask_batch(asked, payload.getbuffer(), frame.height, first))

    def predict_rows(
        self, file: Path, start: int, rows: int, *, first: Record | None = None, most_refused: int | None = None
    ) -> Answer:
        """The answer for rows of an Arrow IPC file, which the model's process maps.

        Args:
            file: the file; `HostSpec.leave_out` names the columns that the model does not get.
            start, rows: which rows; they are there.
            first: the record in the first of them, for errors.
            most_refused: as `predict` takes it.

        Raises:
            PredictError, HostFailed: as `predict` does.
        """
        return self.answer(self.ask_rows(file, start, rows, first=first, most_refused=most_refused))

    def ask_rows(
        self, file: Path, start: int, rows: int, *, first: Record | None = None, most_refused: int | None = None
    ) -> Asked:
        """Ask as `predict_rows` does, and let the model work while this process does something else.

        Its time runs from now on, but only `answer` notices how its process fails.

        Raises:
            HostFailed: its process hangs.
        """
        asked = {"do": "rows", "file": str(file), "start": start, "rows": rows, "most_refused": most_refused}
        return self._ask_batch(asked, b"", rows, first)

    def answer(self, asked: Asked) -> Answer:
        """Wait for the answer to what was asked last.

        Raises:
            PredictError, HostFailed: as `predict` does.
        """
        reply, columns = self._reply(asked.question)
        try:
            predictions = pl.read_ipc_stream(io.BytesIO(columns))
        except Exception as exc:  # polars words what it cannot read
            what = f"sent predictions that cannot be read: {exc}"
            raise self._failed(what, asked.question, reason="protocol") from exc
        refused = tuple(Refusal(*each) for each in reply["refused"])
        if predictions.height + len({each.row for each in refused}) != asked.rows:
            what = f"sent {predictions.height:,} predictions and {len(refused):,} refusals for {asked.rows:,} records"
            raise self._failed(what, asked.question, reason="protocol")
        return Answer(predictions, float(reply["seconds"]), refused)

    def begin(self, partition: int, state: bytes | None = None) -> None:
        """Give a partition an instance of its own of a model that keeps state: it goes on from there, or from nothing.

        Args:
            state: what `state` gave; None for an instance that has seen no record.

        Raises:
            StateError: the model does not take the state.
            VersionLoadError: its factory does not make another instance.
            HostFailed: its process crashed, hung or took too much memory.
        """
        asked = {"do": "load_state", "partition": partition, "kept": state is not None}
        question = _Question.now(f"when partition {partition} was begun", self._limits.load_timeout_s)
        self._ask(asked, b"" if state is None else state, question)

    def state(self, partition: int) -> bytes:
        """The state of a partition's instance, after the batches that it has answered so far.

        Raises:
            StateError: the model does not give it, or gives too much.
            HostFailed: its process crashed, hung or took too much memory.
        """
        place = f"when the state of partition {partition} was taken"
        question = _Question.now(place, self._limits.timeout_s, "give the version a longer `timeout_s`, or keep less")
        _, state = self._ask({"do": "state", "partition": partition}, b"", question)
        return bytes(state)

    def forget(self, partition: int) -> None:
        """Let go of a partition's instance, whose records are all dealt with.

        Raises:
            HostFailed: its process crashed or hung.
        """
        question = _Question.now(f"when partition {partition} was done", self._limits.timeout_s)
        self._ask({"do": "forget", "partition": partition}, b"", question)

    def finish(self) -> None:
        """End it in order: all of the project's files that it loaded must be among those that were digested.

        Raises:
            VersionLoadError: it loaded what its digest does not see.
            HostFailed: its process crashed or hung.
        """
        self._process.note_memory()
        self._ask({"do": "finish"}, b"", _Question.now("when it was told to end", self._limits.load_timeout_s))
        self._process.wait(_END_S)
        self._process.end()

    def close(self) -> None:
        """End it, and all that it started, now."""
        self._process.close()

    def _ask_batch(self, asked: dict[str, Any], payload: bytes | memoryview, rows: int, first: Record | None) -> Asked:
        question = _Question.now(
            "in a batch" if first is None else f"in the batch that starts at {first}",
            self._limits.timeout_s,
            "give the version a longer `timeout_s`, or the run smaller `batch_rows`",
        )
        place = None if first is None else [first.topic, first.partition, first.offset]
        self._send({**asked, "first": place}, payload, question)
        return Asked(question, rows)

    def _ask(
        self, asked: dict[str, Any], payload: bytes | memoryview, question: _Question
    ) -> tuple[dict[str, Any], bytearray]:
        self._send(asked, payload, question)
        return self._reply(question)

    def _send(self, asked: dict[str, Any], payload: bytes | memoryview, question: _Question) -> None:
        requests = self._process.requests
        with suppress(BrokenPipeError):  # it has ended, or is about to: there will be no reply
            send(requests, asked, payload, wait=self._waiting(self._to_write, requests, question))

    def _reply(self, question: _Question) -> tuple[dict[str, Any], bytearray]:
        replies = self._process.replies
        try:
            reply = receive(replies, wait=self._waiting(self._to_read, replies, question))
        except NoMessage:
            hint = "its code must leave file descriptors alone that it did not open"
            raise self._failed("sent what is no answer", question, hint=hint, reason="protocol") from None
        if reply is None:
            raise self._ended(question)
        header, columns = reply
        if header.get("kind") == "failed":
            raise _error(header)
        return header, columns

    def _waiting(self, poll: select.poll, descriptor: int, question: _Question) -> Callable[[], None]:
        """A function that returns when the descriptor is ready.

        It raises HostFailed when the process has ended, takes too long or too much memory.
        """

        def wait() -> None:
            while True:
                used = self._memory.over()
                if used is not None:
                    raise self._too_much(used, question)
                left = None if question.deadline is None else question.deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._too_long(question)
                # A reply that is ready costs one call; only a longer wait is cut into pieces.
                tick = CHECK_EVERY_S if left is None else min(left, CHECK_EVERY_S)
                ready = [found for found, _ in poll.poll(1000 * tick)]
                if descriptor in ready:
                    return
                if ready or self._process.has_ended():
                    raise self._ended(question)

        return wait

    def _too_much(self, used: int, question: _Question) -> HostFailed:
        limit = self._limits.memory_bytes if self._limits.memory_bytes is not None else 0
        return self._failed(
            f"used {_size(used)} of memory, and its limit is {_size(limit)}",
            question,
            hint="raise `memory` of the version, or let its model keep less; what its libraries take counts too",
            reason="memory",
        )

    def _too_long(self, question: _Question) -> HostFailed:
        self._process.ask_for_stack()
        stack = stack_in(self._process.stacks)
        if stack:
            text = "\n".join([f"{LOG_MARK}it was here when its time was up, the innermost call last:", *stack])
            self._process.say(f"{text}\n")
        at = place_of(stack, self._spec.load.root)
        where = "" if at is None else f" and was at {at}"
        return self._failed(
            f"took longer than {question.within_s:g} s{where}", question, hint=question.late, reason="timeout"
        )

    def _ended(self, question: _Question) -> HostFailed:
        """The error for a process that has ended, or has closed its pipes and does not end."""
        if not self._process.wait(_END_S):
            return self._failed("closed the pipe of its answers", question, reason="protocol")
        self._process.end()
        code = self._process.exit_code
        if code is not None and code < 0:
            hint = "perhaps the machine had no memory left" if -code == signal.SIGKILL else None
            what = f"was ended by {_signal_name(-code)}"
            return self._failed(what, question, hint=hint, reason="signal", number=-code)
        return self._failed(f"ended by itself with exit code {code}", question, reason="exit", exit_code=code)

    def _failed(self, what: str, question: _Question, *, hint: str | None = None, **facts: Any) -> HostFailed:
        self._process.end()
        message = f"version {self._version}: its process {what}, {question.place}"
        return HostFailed(message, hint=hint, version=self._version, **facts)


def _error(header: Mapping[str, Any]) -> MlstreamError:
    """The error that the model's process told of."""
    kind = getattr(errors, str(header.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, MlstreamError)):
        kind = VersionError
    return kind(str(header.get("message")), hint=header.get("hint"))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

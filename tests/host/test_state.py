"""A model that keeps state has an instance for each partition, whose state comes out as bytes and goes back in."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlstream.errors import HostFailed, StateError, VersionLoadError
from mlstream.host.host import Host
from mlstream.host.spec import Limits
from mlstream.versions import Record
from tests.host.conftest import MakeHost

MODELS = '''\
import json
import random
import time

import numpy as np
import polars as pl

MADE = []
SHARED = []


class Counts:
    """The number of records that it has seen so far, and a number that was drawn when it was made."""

    def __init__(self, start: int = 0) -> None:
        self.seen = start
        self.drawn = random.random() + np.random.random()
        MADE.append(self)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = np.arange(self.seen, self.seen + frame.height, dtype=float)
        self.seen += frame.height
        return found

    def state(self) -> bytes:
        return json.dumps(self.seen).encode()

    def load_state(self, data: bytes) -> None:
        self.seen = json.loads(data)


class Draws(Counts):
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.full(frame.height, self.drawn)


class Made(Counts):
    """How many were made in its process."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.full(frame.height, float(len(MADE)))


class Plain:
    state = "of affairs"  # a word, and no method

    def __init__(self) -> None:
        MADE.append(self)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.full(frame.height, float(len(MADE)))


class OnlyOut:
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.zeros(frame.height)

    def state(self) -> bytes:
        return b""


class OnlyIn:
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return np.zeros(frame.height)

    def load_state(self, data: bytes) -> None:
        pass


class Bad(Counts):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def state(self) -> bytes:
        if self.how == "raises":
            raise LookupError("no such window")
        if self.how == "hangs":
            time.sleep(600)
        return {"text": "words", "large": bytes(64 * 2**20 + 1)}.get(self.how, b"{}")

    def load_state(self, data: bytes) -> None:
        raise KeyError("seen")


class Picky(Counts):
    """Raises for negative x after it has counted, one record at a time; and has no answer for zero."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = []
        for x in frame["x"].to_list():
            self.seen += 1
            if x < 0:
                raise ValueError(f"{x} is negative")
            found.append(float("nan") if x == 0 else float(self.seen))
        return np.array(found)


def one() -> Counts:
    if not SHARED:
        SHARED.append(Counts())
    return SHARED[0]


def changing() -> object:
    return Plain() if MADE else Counts()
'''


@pytest.fixture
def project(project: Path) -> Path:
    """The project, with models that keep state."""
    (project / "shop" / "models.py").write_text(MODELS)
    return project


def ask(host: Host, partition: int, rows: int) -> list[float]:
    """The predictions of the next records of a partition."""
    columns = pl.DataFrame({"x": np.zeros(rows)})
    found = host.predict(columns, first=Record("orders", partition, 0)).predictions["prediction"]
    return [float(value) for value in found]


def test_each_partition_has_an_instance_that_sees_its_records_only(make_host: MakeHost) -> None:
    host = make_host("Counts", {"start": 5})
    assert host.stateful
    assert ask(host, 0, 3) == [5, 6, 7]
    assert ask(host, 1, 2) == [5, 6]
    assert ask(host, 0, 2) == [8, 9]
    assert ask(host, 2, 1) == [5]
    assert ask(host, 1, 2) == [7, 8]
    assert [host.state(partition) for partition in (0, 1, 2)] == [b"10", b"9", b"6"]


def test_an_instance_goes_on_from_a_state_in_another_process(make_host: MakeHost) -> None:
    first, second = make_host("Counts"), make_host("Counts")
    ask(first, 0, 7)
    second.begin(1)
    second.begin(0, first.state(0))
    assert ask(second, 0, 2) == ask(first, 0, 2) == [7, 8]
    assert ask(second, 1, 2) == [0, 1]


def test_an_instance_is_made_once_a_partition_and_anew_when_it_is_begun_again(make_host: MakeHost) -> None:
    host = make_host("Made")
    host.begin(0)
    assert [ask(host, partition, 1) for partition in (0, 0, 1, 0)] == [[1], [1], [2], [2]]
    host.begin(0, host.state(0))
    assert ask(host, 0, 1) == [3]
    host.forget(0)
    assert ask(host, 1, 1) == [3]
    assert ask(host, 0, 1) == [4]


def test_a_model_without_state_is_made_once_for_all(make_host: MakeHost) -> None:
    host = make_host("Plain")
    assert not host.stateful
    host.begin(0)
    host.begin(1)
    assert [ask(host, partition, 1) for partition in (0, 1, 2)] == [[1], [1], [1]]


def test_all_instances_draw_the_same_numbers_when_they_are_made(make_host: MakeHost) -> None:
    hosts = [make_host("Draws"), make_host("Draws")]
    drawn = {
        ask(host, partition, 1)[0] for host, order in zip(hosts, ((0, 1), (1, 2)), strict=True) for partition in order
    }
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("model", "has", "missing"), [("OnlyOut", "state", "load_state"), ("OnlyIn", "load_state", "state")]
)
def test_a_model_with_one_of_the_two_methods_is_refused(
    make_host: MakeHost, model: str, has: str, missing: str
) -> None:
    words = rf"version v1: {model} returned a {model}, which has {has}\(\) and no {missing}\(\); a model that keeps"
    with pytest.raises(VersionLoadError, match=words):
        make_host(model)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", r"version v1, partition 3: state() raised LookupError: no such window"),
        ("text", r"version v1, partition 3: state() returned a str; expected bytes; return bytes, for example"),
        ("large", r"version v1, partition 3: state() returned 67,108,865 bytes; at most 67,108,864 are kept"),
    ],
)
def test_a_state_that_cannot_be_kept_is_an_error(make_host: MakeHost, how: str, words: str) -> None:
    host = make_host("Bad", {"how": how})
    ask(host, 3, 1)
    with pytest.raises(StateError, match=re.escape(words)):
        host.state(3)


def test_a_state_that_the_model_does_not_take_is_an_error(make_host: MakeHost) -> None:
    host = make_host("Bad", {"how": "well"})
    with pytest.raises(
        StateError, match=r"version v1, partition 3: load_state\(\) raised KeyError: 'seen'; load_state"
    ):
        host.begin(3, b"{}")


def test_a_model_that_does_not_come_to_an_end_with_its_state_takes_too_long(make_host: MakeHost) -> None:
    host = make_host("Bad", {"how": "hangs"}, limits=Limits(timeout_s=1))
    ask(host, 3, 1)
    words = r"took longer than 1 s and was at shop/models.py:\d+ in state, when the state of partition 3 was taken"
    with pytest.raises(HostFailed, match=words):
        host.state(3)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("one", "version v1: its factory returned the same Counts twice; a model that keeps state is made once for"),
        ("changing", "version v1: its factory returned a model that keeps state, and then one that keeps none"),
    ],
)
def test_a_factory_that_gives_no_instance_of_its_own_to_a_partition_is_refused(
    make_host: MakeHost, factory: str, words: str
) -> None:
    host = make_host(factory)
    ask(host, 0, 1)
    with pytest.raises(VersionLoadError, match=words):
        ask(host, 1, 1)


def test_a_record_that_is_refused_because_predict_raised_leaves_no_trace_in_the_state(make_host: MakeHost) -> None:
    host = make_host("Picky")
    columns = pl.DataFrame({"x": [1.0, -1.0, 1.0, 1.0, -2.0, 0.0, -3.0, 1.0, 1.0]})
    answer = host.predict(columns, first=Record("orders", 3, 0), most_refused=9)
    assert [(each.row, each.error) for each in answer.refused] == [
        (1, "raised"),
        (4, "raised"),
        (5, "invalid"),
        (6, "raised"),
    ]
    assert answer.predictions["prediction"].to_list() == [
        1,
        2,
        3,
        5,
        6,
    ]  # it has seen the one that it had no answer for
    assert host.state(3) == b"6"

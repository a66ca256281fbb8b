"""What a version that keeps state adds to its predictor: its state as bytes, and further instances. Stores nothing.

A model is stateful when it has `state() -> bytes` and `load_state(bytes)`. What they say to each other is the model's
own affair: the bytes are kept as they are and never unpickled here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlstream.errors import StateError, VersionLoadError

if TYPE_CHECKING:
    from mlstream.versions.predictor import Predictor

MOST_STATE_BYTES = 64 << 20
_METHODS = ("state", "load_state")


@dataclass(frozen=True)
class KeptState:
    """The state of one instance of a stateful model.

    Attributes:
        version: its name, for errors.
        model: the instance.
        another: makes a further instance, which has seen nothing.
    """

    version: str
    model: Any
    another: Callable[[], Predictor]

    def take(self, place: str) -> bytes:
        """The state as it is now.

        Args:
            place: whose state, for errors: "partition 2".

        Raises:
            StateError: the model raised, or returned no bytes, or too many.
        """
        try:
            found = self.model.state()
        except Exception as exc:
            raise self._error(place, f"state() raised {type(exc).__name__}: {exc}") from exc
        if type(found) is not bytes:
            hint = "return bytes, for example json.dumps(…).encode() or an array's tobytes()"
            raise self._error(place, f"state() returned a {type(found).__name__}; expected bytes", hint)
        if len(found) > MOST_STATE_BYTES:
            hint = "keep less: it is written with each transaction"
            what = f"state() returned {len(found):,} bytes; at most {MOST_STATE_BYTES:,} are kept"
            raise self._error(place, what, hint)
        return found

    def put_back(self, data: bytes, place: str) -> None:
        """Have the model take a state that `take` gave, in place of all that it has.

        Raises:
            StateError: the model raised.
        """
        try:
            self.model.load_state(data)
        except Exception as exc:
            hint = "load_state(data) must take what state() of the same version has returned"
            raise self._error(place, f"load_state() raised {type(exc).__name__}: {exc}", hint) from exc

    def _error(self, place: str, what: str, hint: str | None = None) -> StateError:
        return StateError(f"version {self.version}, {place}: {what}", hint=hint, version=self.version)


def is_stateful(model: Any, *, name: str, where: str) -> bool:
    """Whether a model keeps state.

    Raises:
        VersionLoadError: it has one of the two methods only.
    """
    has = [method for method in _METHODS if callable(getattr(model, method, None))]
    if len(has) == 1:
        (missing,) = (method for method in _METHODS if method not in has)
        raise VersionLoadError(
            f"{where}: {name} returned a {type(model).__name__}, which has {has[0]}() and no {missing}()",
            hint="a model that keeps state has state() -> bytes and load_state(bytes); one that keeps none has neither",
            where=where,
        )
    return bool(has)


def repeatable(make: Callable[[], Any]) -> Callable[[], Any]:
    """`make`, called each time with the global generators of random numbers as they are now.

    The instances of a version are then the same, whichever partition's is made first and in whichever process.
    """
    of_random, of_numpy = random.getstate(), np.random.get_state()

    def again() -> Any:
        random.setstate(of_random)
        np.random.set_state(of_numpy)
        return make()

    return again

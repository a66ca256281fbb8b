"""What a model's process is told before it is asked, and the limits that it lives in: plain values. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlstream.versions.loading import LoadSpec

TIMEOUT_S = 600.0
LOAD_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """A version and how it is asked.

    Attributes:
        load: what to load.
        seed: for `random` and numpy, before anything is loaded.
        leave_out: columns of a frame that the model does not get (the record's coordinates).
    """

    load: LoadSpec
    seed: int = 0
    leave_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values."""
        return {"load": self.load.to_json(), "seed": self.seed, "leave_out": list(self.leave_out)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> HostSpec:
        """The spec that `to_json` was called on."""
        return cls(load=LoadSpec.from_json(found["load"]), seed=found["seed"], leave_out=tuple(found["leave_out"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may use.

    Attributes:
        memory_bytes: the most memory of its process and of those that it starts; None: no limit.
        timeout_s: the longest that it may take for a batch; None: no limit.
        load_timeout_s: the longest that it may take to be loaded; None: no limit.
    """

    memory_bytes: int | None = None
    timeout_s: float | None = TIMEOUT_S
    load_timeout_s: float | None = LOAD_TIMEOUT_S

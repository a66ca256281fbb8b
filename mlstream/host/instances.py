"""The instances of a loaded version: one for all, or one a partition when its model keeps state. Loads nothing."""

from __future__ import annotations

from mlstream.errors import VersionLoadError
from mlstream.versions.predictor import Predictor, Record
from mlstream.versions.stateful import KeptState


class Instances:
    """Which instance answers for which partition.

    Args:
        first: the version as it was loaded.
        where: the version, for messages.
    """

    def __init__(self, first: Predictor, *, where: str) -> None:
        self._first = first
        self._where = where
        self._unused = first.kept is not None  # it has seen nothing: it is as good as another
        self._of: dict[int | None, Predictor] = {}

    @property
    def stateful(self) -> bool:
        """Whether the model keeps state."""
        return self._first.kept is not None

    def of(self, first: Record | None) -> Predictor:
        """The instance that answers for a record; a new one for a partition that none was begun for."""
        if not self.stateful:
            return self._first
        partition = None if first is None else first.partition
        if partition not in self._of:
            self._of[partition] = self._new()
        return self._of[partition]

    def begin(self, partition: int, state: bytes | None) -> None:
        """Give a partition a new instance, which goes on from a state, or from nothing.

        Raises:
            VersionLoadError: the factory cannot make another one.
            StateError: the model does not take the state.
        """
        if not self.stateful:
            return
        new = self._new()
        if state is not None:
            self._kept(new).put_back(state, _place(partition))
        self._of[partition] = new

    def state(self, partition: int) -> bytes:
        """The state of a partition's instance as it is now.

        Raises:
            StateError: the model does not give it.
        """
        return self._kept(self.of(Record("", partition, 0))).take(_place(partition))

    def forget(self, partition: int) -> None:
        """Let go of a partition's instance: all of the partition is done."""
        self._of.pop(partition, None)

    def _new(self) -> Predictor:
        if self._unused:
            self._unused = False
            return self._first
        new = self._kept(self._first).another()
        model = self._kept(new).model
        if any(self._kept(other).model is model for other in (self._first, *self._of.values())):
            raise VersionLoadError(
                f"{self._where}: its factory returned the same {type(model).__name__} twice; "
                "a model that keeps state is made once for each partition",
                hint="make a new object in each call; what partitions may share can stand in the module",
                where=self._where,
            )
        return new

    def _kept(self, predictor: Predictor) -> KeptState:
        if predictor.kept is None:
            raise VersionLoadError(
                f"{self._where}: its factory returned a model that keeps state, and then one that keeps none",
                hint="return the same kind of model in each call",
                where=self._where,
            )
        return predictor.kept


def _place(partition: int) -> str:
    return f"partition {partition}"

"""Whether a topic is still the one that it was: it may be deleted, or made anew by the same name. Reads nothing."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence

from kafka import errors

from mlstream.broker.client import Client, TopicState
from mlstream.broker.failures import is_passing
from mlstream.errors import TopicChanged, UnknownTopic

_UNKNOWN_S = 0.5


class Identities:
    """The ids of some topics as they were at the start; on the network's loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._topics: dict[str, TopicState] = {}

    async def note(self, topics: Sequence[str], expected: Mapping[str, str]) -> None:
        """Note which topics these are.

        Args:
            expected: topic → the id that it must have, where that is known.

        Raises:
            UnknownTopic: there is none.
            TopicChanged: it is not the one that is expected.
        """
        for topic in topics:
            state = await self._client.refreshed(topic)
            if expected.get(topic, state.info.topic_id) != state.info.topic_id:
                raise _made_anew(topic)
            self._topics[topic] = state

    def uuid(self, topic: str) -> uuid.UUID | None:
        """The id that was noted, None when the broker is too old to have one."""
        return self._topics[topic].uuid

    async def check(self, topic: str) -> None:
        """Raise TopicChanged when a topic is not the one that was noted any more."""
        try:
            state = await self._twice(topic)
        except UnknownTopic as exc:
            message = f"topic {topic} was deleted while it was read"
            raise TopicChanged(message, hint="name another topic", topic=topic) from exc
        self._compare(state)

    async def check_if_known(self, topic: str) -> None:
        """`check` against what was last heard of the topic; not at all while no broker can be asked."""
        try:
            self._compare(await self._client.state(topic))
        except UnknownTopic:
            await self.check(topic)
        except errors.KafkaError as exc:
            if not is_passing(exc):
                raise

    async def _twice(self, topic: str) -> TopicState:
        """What is known of a topic; asked for again when a broker knows none, for that one may just have started."""
        with contextlib.suppress(UnknownTopic):
            return await self._client.refreshed(topic)
        await self._client.network.sleep(_UNKNOWN_S)
        return await self._client.refreshed(topic)

    def _compare(self, state: TopicState) -> None:
        if state.info.topic_id != self._topics[state.info.name].info.topic_id:
            raise _made_anew(state.info.name)


def _made_anew(topic: str) -> TopicChanged:
    return TopicChanged(
        f"topic {topic} was deleted and made anew: it is another topic with the same name",
        hint="start again, on the new topic",
        topic=topic,
    )

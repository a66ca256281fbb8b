"""Delete consumer groups. Joins none, commits nothing."""

from __future__ import annotations

from typing import Any

from kafka import errors
from kafka.protocol.admin import DeleteGroupsRequest

from mlstream.broker.client import Client
from mlstream.broker.failures import Patience, error_of, is_passing
from mlstream.errors import BrokerRefused


def delete_group(client: Client, name: str) -> bool:
    """Delete a consumer group with the offsets that it committed; False when there is none.

    Raises:
        BrokerRefused: it has members, or deleting it is not allowed.
    """
    return client.run(f"group {name}", _delete, client, name)


async def _delete(client: Client, name: str) -> bool:
    def make() -> Any:
        return DeleteGroupsRequest(groups_names=[name])

    patience = Patience(client.timeout_s)
    while True:
        response = await client.ask(make, node=await client.coordinator(name))
        failure = error_of(response.results[0].error_code)
        if failure is None:
            return True
        if isinstance(failure, errors.GroupIdNotFoundError):
            return False
        if isinstance(failure, errors.NonEmptyGroupError):
            raise BrokerRefused(
                f"group {name}: it has members", hint="stop the consumers that use its name", group=name
            ) from failure
        if not is_passing(failure):
            raise failure
        await patience.pause(client.network, failure)

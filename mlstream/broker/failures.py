"""Kafka's error codes and kafka-python's errors as mlstream's errors, and the patience to try again. Sends nothing."""

from __future__ import annotations

import random
import time

from kafka import errors

from mlstream.broker._kafka import ConnectionFailedError, FirstContactError, UntrustedServerError
from mlstream.broker.connection import Connection
from mlstream.broker.network import Network
from mlstream.errors import (
    BrokerError,
    BrokerRefused,
    BrokerUnavailable,
    MlstreamError,
    OffsetOutOfRange,
    TopicExists,
    UnknownTopic,
    UnsupportedFormat,
)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Patience:
    """How long to go on without progress, and ever longer pauses between tries (50 ms, doubling, 1 s at most).

    Args:
        seconds: the time without progress after which the last failure is raised.
        first_pause_s: the first pause, where what is waited for usually takes less than 50 ms.
    """

    def __init__(self, seconds: float, *, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._seconds = seconds
        self._first_pause_s = first_pause_s
        self._reason: Exception | None = None
        self.renew()

    def renew(self) -> None:
        """There was progress: start anew."""
        self._deadline = time.monotonic() + self._seconds
        self._pause_s = self._first_pause_s

    def pardon(self, seconds: float) -> None:
        """So long it was not the cluster's fault that nothing came."""
        self._deadline += seconds

    def left_s(self) -> float:
        """Seconds that are left, never less than a tenth: a request needs some time in any case."""
        return max(0.1, self._deadline - time.monotonic())

    async def pause(self, network: Network, failure: Exception) -> None:
        """Wait before the next try.

        Raises:
            Exception: `failure`, when the time is over; what it follows from, if it only says that it is too early.
        """
        if self._reason is None or not isinstance(failure, errors.NodeNotReadyError):
            self._reason = failure
        if time.monotonic() >= self._deadline:
            raise self._reason
        wait_s = min(self._pause_s, self.left_s()) * random.uniform(0.8, 1.2)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        await network.sleep(wait_s)


def error_of(code: int, detail: str | None = None) -> errors.KafkaError | None:
    """Kafka's error code as kafka-python's error, None when it is no error."""
    if code == 0:
        return None
    kind = errors.for_code(code)
    found: errors.KafkaError = kind() if detail is None else kind(detail)
    return found


def is_passing(exc: Exception) -> bool:
    """Whether the same request may succeed later: a leader moves, a coordinator loads, a connection broke."""
    return isinstance(exc, errors.UnknownBrokerIdError) or bool(getattr(exc, "retriable", False))


def converted(exc: errors.KafkaError, what: str, connection: Connection) -> MlstreamError:
    """kafka-python's error as mlstream's.

    Args:
        exc: the error, of the broker or of the client.
        what: what was tried and with what, the start of the message: `topic ticks`.
        connection: where, for the messages about reaching it.
    """
    if isinstance(exc, FirstContactError):
        return _no_contact(exc, connection)
    if isinstance(exc, errors.SaslAuthenticationFailedError):
        return BrokerRefused(
            f"{connection.servers}: the broker refused the credentials: {_words(exc)}",
            hint="check sasl_mechanism, sasl_plain_username and sasl_plain_password",
        )
    if isinstance(exc, errors.UnsupportedSaslMechanismError):
        return BrokerRefused(f"{connection.servers}: {_words(exc)}", hint="set another sasl_mechanism")
    if isinstance(exc, UntrustedServerError):
        return BrokerUnavailable(
            f"{connection.servers}: {_words(exc)}", hint="set ssl_cafile to the authority that signed it"
        )
    if isinstance(exc, errors.AuthorizationError):
        return BrokerRefused(f"{what}: not allowed ({exc.message})", hint="ask for the right in the cluster's ACLs")
    if isinstance(exc, errors.UnknownTopicOrPartitionError | errors.UnknownTopicIdError):
        return UnknownTopic(f"{what}: the broker knows no such topic or partition", hint="check the topic's name")
    if isinstance(exc, errors.TopicAlreadyExistsError):
        return TopicExists(f"{what}: the topic exists already", hint="choose another name, or delete it first")
    if isinstance(exc, errors.OffsetOutOfRangeError):
        return OffsetOutOfRange(f"{what}: the offset is outside of what the broker keeps")
    if isinstance(exc, errors.UnsupportedVersionError):
        return BrokerRefused(
            f"{what}: the broker's version cannot do this: {_words(exc)}", hint="use Kafka 2.4 or newer"
        )
    if isinstance(exc, errors.UnsupportedCompressionTypeError):
        return UnsupportedFormat(f"{what}: the broker does not know the codec", hint="use codec='lz4' or 'gzip'")
    if is_passing(exc):
        return BrokerUnavailable(f"{what}: no answer from {connection.servers}: {_words(exc)}", hint=connection.fix)
    if isinstance(exc, errors.BrokerResponseError) and exc.errno in _REFUSALS:
        return BrokerRefused(f"{what}: the broker refused: {_words(exc)}", code=exc.errno)
    return BrokerError(f"{what}: {_words(exc)}", code=getattr(exc, "errno", None))


# POLICY_VIOLATION, INVALID_CONFIG, INVALID_TOPIC, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_TIMESTAMP,
# INVALID_RECORD, INVALID_REQUEST, SECURITY_DISABLED, TOPIC_DELETION_DISABLED: the request itself is at fault.
_REFUSALS = frozenset({44, 40, 17, 37, 38, 32, 87, 42, 54, 73})


def _no_contact(exc: FirstContactError, connection: Connection) -> MlstreamError:
    for reason in exc.reasons.values():
        if isinstance(
            reason,
            errors.SaslAuthenticationFailedError
            | errors.UnsupportedSaslMechanismError
            | errors.AuthorizationError
            | UntrustedServerError,
        ):
            return converted(reason, connection.servers, connection)
    why = "; ".join(f"{server}: {_words(reason)}" for server, reason in exc.reasons.items())
    hint = connection.fix
    if any(isinstance(reason, errors.IllegalSaslStateError) for reason in exc.reasons.values()):
        hint = "check the port, and security_protocol: this port does not ask for SASL"
    elif any(isinstance(reason, errors.KafkaProtocolError) for reason in exc.reasons.values()):
        hint = "check the port, and security_protocol: a port with TLS needs SSL or SASL_SSL, one without does not"
    return BrokerUnavailable(f"no Kafka broker answers: {why or connection.servers}", hint=hint)


def _words(exc: Exception) -> str:
    """What an error says, without numbers that mean nothing to a reader."""
    if isinstance(exc, ConnectionFailedError):
        return str(exc)
    said = ", ".join(str(part) for part in exc.args if part is not None and str(part))
    kind = getattr(exc, "message", None) or type(exc).__name__
    description = getattr(exc, "description", None)
    return said or (f"{kind}: {description}" if description else kind)

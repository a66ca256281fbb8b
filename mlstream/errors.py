"""Every error that mlstream raises on purpose, as one tree. Knows nothing else.

MlstreamError                   exit code 1
├── UsageError                  exit code 2: the command or the call itself was wrong
├── GateFailed                  exit code 3: a comparison broke a limit that was asked for
├── Inconclusive                exit code 4: a verdict was demanded and there is none
├── ConfigError                 a configuration file: names the file, the line, the key and the fix
├── DownloadError               something fetched is missing or has a wrong checksum
├── BrokerError
│   ├── BrokerUnavailable       nobody answers, or not in time
│   ├── BrokerRefused           authentication, authorization, a policy
│   ├── UnknownTopic
│   ├── UnknownPartition
│   ├── TopicExists
│   ├── TopicChanged            deleted, re-created or re-partitioned while it was read
│   ├── TransactionFailed       nothing of it is visible, or it is not known; the producer can go on after `recover`
│   ├── ProducerFenced          another producer took over the transactional id; this one can do nothing any more
│   ├── OffsetOutOfRange        below the log start or past the end
│   └── EmptyRange              nothing between start and stop
├── WireError
│   ├── CorruptBatch            lengths, checksum or contents do not fit
│   └── UnsupportedFormat       a message format or codec that is refused by name
├── SnapshotError
│   ├── UnknownSnapshot
│   ├── UnknownFile
│   ├── UnknownTable
│   ├── FileChanged             changed or deleted while it was copied
│   ├── NameTaken
│   ├── Protected               kept until a date, or still referred to
│   ├── DatabaseError           a database cannot be read, or holds what cannot be kept exactly
│   ├── RegistryError           a schema registry cannot be reached, or lacks a schema
│   ├── StoreError              the store cannot be used: read-only, full, not a store
│   ├── IntegrityError          an object or a manifest is missing or not what its digest says
│   └── DecodeError             a value does not decode: names topic, partition and offset
├── VersionError
│   ├── UnknownVersion
│   ├── VersionLoadError        the code, the weights or the environment cannot be had
│   ├── PredictError            predict raised, or returned the wrong rows, types or values
│   ├── StateError              a stateful model's state cannot be taken, kept or put back
│   └── HostFailed              the model's process crashed, hung or took too much memory
├── RunError
│   ├── UnknownRun
│   └── RunIncomplete           cut off or partial where a whole run is needed
├── ComparisonError
│   ├── LabelError              labels are missing, ambiguous or of the wrong type
│   └── CoverageError           records are missing, doubled or not the same on both sides
└── TrackingError               MLflow cannot be reached or refuses

Messages name the thing and the fix. Errors hold their facts as attributes, so that a caller need not parse text.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

_LOGIN = re.compile(r"(?<=://)[^\s/?#@]*:[^\s'\"]*@")
_PARAMETER = re.compile(
    r"([?&;](?:sig|[\w.%-]*(?:secret|token|passw|key|credential|signature)[\w.%-]*)=)[^\s&;'\"]+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """A text without what URLs in it give away: users with passwords, and parameters that are called like secrets.

    The last resort, for words of drivers and of users; who knows that a text is a URL uses `shown_url`.
    """
    if "://" not in text:
        return text
    return _PARAMETER.sub(r"\1…", _LOGIN.sub("…@", text))


def shown_url(url: str) -> str:
    """A URL that is none that can be used, as far as it may be shown: no user, no password, no parameters."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "…" if "@" in url else url
    place = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        return f"{scheme}://…"  # nobody knows where the password ends
    _, login, host = place.rpartition("@")
    return f"{scheme}://{'…@' if login else ''}{host}{'?…' if place != rest else ''}"


class MlstreamError(Exception):
    """The root. `hint` says what to do next; further facts are attributes. No message shows a URL's password.

    Args:
        message: one sentence that names the thing and what is wrong with it.
        hint: what the user can do about it, or None.
        facts: data of the error (`topic="ticks", partition=0`), kept in `self.facts` and readable as attributes.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        message = redacted(message)
        super().__init__(message)
        self.message = message
        self.hint = None if hint is None else redacted(hint)
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.facts)


def _rebuild(kind: type[MlstreamError], message: str, hint: str | None, facts: dict[str, Any]) -> MlstreamError:
    return kind(message, hint=hint, **facts)


class UsageError(MlstreamError):
    """The command or the call itself was wrong."""

    exit_code = 2


class GateFailed(MlstreamError):
    """A comparison broke a limit that was asked for."""

    exit_code = 3


class Inconclusive(MlstreamError):
    """A verdict was demanded and the data does not give one."""

    exit_code = 4


class ConfigError(MlstreamError):
    """A configuration file is wrong: names the file, the line, the key and the fix."""


class DownloadError(MlstreamError):
    """Something that was fetched is missing or has a wrong checksum."""


class BrokerError(MlstreamError):
    """Talking to Kafka went wrong."""


class BrokerUnavailable(BrokerError):
    """Nobody answers, or not in time."""


class BrokerRefused(BrokerError):
    """The broker understood and said no: authentication, authorization, a policy."""


class UnknownTopic(BrokerError):
    """The topic does not exist."""


class UnknownPartition(BrokerError):
    """The topic has no such partition."""


class TopicExists(BrokerError):
    """The topic exists already."""


class TopicChanged(BrokerError):
    """The topic was deleted, re-created or re-partitioned while it was in use."""


class TransactionFailed(BrokerError):
    """A transaction was not committed, or its outcome is not known (`outcome`: "aborted" or "unknown")."""


class ProducerFenced(BrokerError):
    """Another producer took over the transactional id."""


class OffsetOutOfRange(BrokerError):
    """The range starts below the log start or ends past the end."""


class EmptyRange(BrokerError):
    """There is nothing between start and stop."""


class WireError(MlstreamError):
    """Bytes that are not record batches as they should be."""


class CorruptBatch(WireError):
    """Lengths, checksum or contents do not fit."""


class UnsupportedFormat(WireError):
    """A message format or codec that is refused by name."""


class SnapshotError(MlstreamError):
    """A snapshot cannot be made, found or read."""


class UnknownSnapshot(SnapshotError):
    """No snapshot has that name or id."""


class UnknownFile(SnapshotError):
    """The snapshot, or the disk, holds no such file, or one that cannot be read."""


class UnknownTable(SnapshotError):
    """The snapshot, or the database, holds no such table."""


class FileChanged(SnapshotError):
    """A file was changed or deleted while it was copied."""


class Protected(SnapshotError):
    """What would be removed is kept until a date, or something still refers to it."""


class DatabaseError(SnapshotError):
    """A database cannot be read, or holds what cannot be kept exactly."""


class RegistryError(SnapshotError):
    """A schema registry cannot be reached, or lacks a schema that records name."""


class NameTaken(SnapshotError):
    """The name belongs to another snapshot."""


class StoreError(SnapshotError):
    """The store cannot be used: read-only, full, or not a store."""


class IntegrityError(SnapshotError):
    """An object or a manifest is missing or is not what its digest says."""


class DecodeError(SnapshotError):
    """A value does not decode: names topic, partition and offset."""


class VersionError(MlstreamError):
    """A version of a model cannot be used."""


class UnknownVersion(VersionError):
    """The configuration names no such version."""


class VersionLoadError(VersionError):
    """The version's code, weights or environment cannot be had."""


class PredictError(VersionError):
    """predict raised, or returned the wrong rows, types or values."""


class StateError(VersionError):
    """A stateful model's state cannot be taken, kept or put back."""


class HostFailed(VersionError):
    """The model's process crashed, hung or took too much memory (`reason`: "exit", "signal", "timeout", …)."""


class RunError(MlstreamError):
    """A run failed."""


class UnknownRun(RunError):
    """No run has that id."""


class RunIncomplete(RunError):
    """The run was cut off or is partial where a whole one is needed."""


class ComparisonError(MlstreamError):
    """Versions cannot be compared."""


class LabelError(ComparisonError):
    """Labels are missing, ambiguous or of the wrong type."""


class CoverageError(ComparisonError):
    """Records are missing, doubled or not the same on both sides."""


class TrackingError(MlstreamError):
    """MLflow cannot be reached or refuses."""

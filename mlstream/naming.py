"""Names of snapshots, experiments and versions, and the topics made from them. Plain values only.

Kafka treats `.` and `_` in topic names as colliding (they become the same metric name), so neither is allowed inside
a part; dots separate the parts: `{experiment}.{version}.{run12}`, and `….errors` and `….state` beside it.
"""

from __future__ import annotations

import re

from mlstream.errors import UsageError

RESERVED = frozenset({"results", "errors", "state", "control"})
MAX_TOPIC_LENGTH = 249
RUN_DIGITS = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SNAPSHOT = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_TABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_name(name: str, *, what: str) -> str:
    """Return `name` if it may be part of a topic's name.

    Args:
        name: an experiment's or a version's name.
        what: "experiment" or "version", for the message.

    Raises:
        UsageError: when it holds other characters or is reserved.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{what} {name!r}: a name holds a-z, 0-9 and '-' and starts with a letter or digit",
            hint=f"rename it, for example to {_suggest(name)!r}",
        )
    if name in RESERVED:
        raise UsageError(f"{what} {name!r}: the name is reserved", hint=f"not allowed: {', '.join(sorted(RESERVED))}")
    return name


def is_snapshot_name(name: str) -> bool:
    """Whether a snapshot may have that name."""
    try:
        check_snapshot_name(name)
    except UsageError:
        return False
    return True


def check_snapshot_name(name: str) -> str:
    """Return `name` if a snapshot may have it: a-z, 0-9, '.', '_' and '-', 128 characters, not a bare digest.

    Raises:
        UsageError: when it is not such a name.
    """
    if _SNAPSHOT.fullmatch(name) is None or name.endswith(".json"):
        raise UsageError(
            f"snapshot {name!r}: a name holds a-z, 0-9, '.', '_' and '-', starts with a letter or digit "
            "and has at most 128 characters",
            hint=f"rename it, for example to {_suggest(name)!r}",
        )
    if re.fullmatch(r"[0-9a-f]{12,64}", name):
        raise UsageError(f"snapshot {name!r}: a name may not look like an id", hint="add a word to it")
    return name


def check_table_name(name: str) -> str:
    """Return `name` if a table of a snapshot may have it: letters, digits, '_', '.' and '-', 128 at most.

    It may become the name of a file, so nothing else is allowed, and neither '.' nor '-' at its beginning.

    Raises:
        UsageError: when it is not such a name.
    """
    if _TABLE.fullmatch(name) is None:
        raise UsageError(
            f"table {name[:60]!r}: a name holds A-Z, a-z, 0-9, '_', '.' and '-', starts with a letter, a digit or '_' "
            "and has at most 128 characters",
            hint=f"call it, for example, {_suggest(name[:60])!r}",
        )
    return name


def output_topic(experiment: str, version: str, run_id: str | None = None) -> str:
    """The topic that a version's predictions go to: of a replay when `run_id` is given, else live.

    Raises:
        UsageError: when a part is not a name or the whole is longer than Kafka allows.
    """
    parts = [check_name(experiment, what="experiment"), check_name(version, what="version")]
    if run_id is not None:
        parts.append(run_id[:RUN_DIGITS])
    topic = ".".join(parts)
    if len(topic) + len(".errors") > MAX_TOPIC_LENGTH:
        raise UsageError(
            f"topic {topic[:40]}…: {len(topic)} characters are more than Kafka allows",
            hint=f"shorten the experiment's or the version's name to {MAX_TOPIC_LENGTH} characters in all",
        )
    return topic


def errors_topic(output: str) -> str:
    """The topic beside `output` for the records that its version could not deal with."""
    return f"{output}.errors"


def state_topic(output: str) -> str:
    """The topic beside `output` for the state of its version, where the version keeps any."""
    return f"{output}.state"


def _suggest(name: str) -> str:
    if "://" in name:  # of a URL nothing is made that could repeat its password
        return "v1"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "v1"

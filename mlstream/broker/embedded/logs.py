"""A node's logs: the last lines, new lines as they come, and why a start failed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.embedded.settings import JVM_LOG, SERVER_LOG

BLOCK = 1 << 16
SHOWN_LINES = 6

# What a start can fail of, as Kafka or the JVM puts it → the kind, and what to do about it.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"Address already in use|BindException", "port", "another program has the port: give one with --port"),
    (r"No space left on device", "disk", "make room on the disk"),
    (
        r"Could not reserve enough space|Invalid maximum heap size|insufficient memory|unable to allocate",
        "heap",
        "the machine cannot give that much memory: choose less with --heap",
    ),
    (r"A fatal error has been detected by the Java Runtime", "crash", "the JVM crashed; see `mlstream broker logs`"),
    (r"OutOfMemoryError|Terminating due to java.lang.OutOfMemory", "heap", "give it more memory with --heap"),
    (r"UnsupportedClassVersionError|Unrecognized VM option", "java", "JAVA_HOME is too old or no HotSpot: unset it"),
    (
        r"ClassNotFoundException|NoClassDefFoundError|Could not find or load main class",
        "jars",
        "the jars are not whole",
    ),
    (r"Permission denied|AccessDenied", "rights", "check the rights on the broker's folder"),
    (r"Failed to acquire lock on file", "data", "another broker uses this data; end it first"),
    (r"InconsistentClusterIdException|InconsistentBrokerId|meta\.properties", "data", "the data is another broker's"),
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a start failed: the kind ("port", "heap", …, "unknown"), the log lines that say so, and the fix."""

    kind: str
    lines: tuple[str, ...]
    hint: str


def log_path(folder: Path) -> Path:
    """The server's log in a node's folder."""
    return folder / SERVER_LOG


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a file, without reading all of it; none when there is no file."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as file:
            at = file.seek(0, 2)
            data = b""
            while at > 0 and data.count(b"\n") <= count:
                step = min(BLOCK, at)
                at = file.seek(at - step)
                data = file.read(step) + data
    except FileNotFoundError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-count:]


def recent_lines(folder: Path, count: int) -> list[str]:
    """The last `count` lines of the node in `folder`; the JVM's own words are among them when it wrote last."""
    server, jvm = log_path(folder), folder / JVM_LOG
    lines = last_lines(server, count)
    if jvm.exists() and (not server.exists() or jvm.stat().st_mtime_ns > server.stat().st_mtime_ns):
        lines += [line for line in last_lines(jvm, count) if not _is_noise(line)]
    return lines[len(lines) - min(count, len(lines)) :]


def follow(path: Path, *, pause_s: float = 0.25) -> Iterator[str]:
    """Lines that are added to the file from now on, without end, over its rotation too."""
    position = size_of(path)
    identity = path.stat().st_ino if path.exists() else None
    rest = b""
    while True:
        added = b""
        # While it is rotated there is no file for a moment.
        with suppress(FileNotFoundError), path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != identity or found.st_size < position:
                identity, position, rest = found.st_ino, 0, b""
            file.seek(position)
            added = file.read()
            position += len(added)
        *lines, rest = (rest + added).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
        time.sleep(pause_s)


def size_of(path: Path) -> int:
    """The file's size, 0 when it does not exist."""
    return path.stat().st_size if path.exists() else 0


def find_reason(folder: Path, *, since: int = 0) -> Reason:
    """Why the node in `folder` did not start: its server log from byte `since` on, and what the JVM wrote."""
    text = ""
    path = log_path(folder)
    if path.exists():
        with path.open("rb") as file:
            # A log that was rotated is shorter than it was.
            file.seek(since if size_of(path) >= since else 0)
            text = file.read().decode("utf-8", "replace")
    jvm = folder / JVM_LOG
    if jvm.exists():
        text += "\n" + jvm.read_text(encoding="utf-8", errors="replace")
    return explain(text)


def explain(text: str) -> Reason:
    """The reason that a log gives for a failed start."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _is_noise(line)]
    told = [line for line in lines if " INFO " not in line and not line.startswith("at ")]
    for pattern, kind, hint in _CAUSES:
        named = [line for line in told if re.search(pattern, line)]
        if named:
            return Reason(kind, tuple(dict.fromkeys(named))[:SHOWN_LINES], hint)
    bad = [line for line in told if re.search(r"\b(ERROR|FATAL|Error|Exception)\b", line)]
    return Reason(
        "unknown", tuple(dict.fromkeys(bad or lines[-SHOWN_LINES:]))[:SHOWN_LINES], "see `mlstream broker logs`"
    )


def _is_noise(line: str) -> bool:
    # What newer JVMs say about calls that Kafka still makes, and about an archive that they do not use.
    return line.startswith("WARNING: ") or re.match(r"\[[\d.]+s\]\[\w+\]\[(aot|cds)", line) is not None

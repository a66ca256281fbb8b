"""What the processes of a run printed: the last lines, and new ones as they come. Starts and ends nothing.

Where the home is at a URL, logs are sent there when a run ends, and fetched by who wants to read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from mlstream.errors import StoreError
from mlstream.home import Home
from mlstream.runs.record import log_path
from mlstream.runs.run import Run
from mlstream.snapshots.beside import fetch_file, send_file

_BLOCK = 1 << 16
_POLL_S = 0.2


def log_of(run: Run, version: str) -> Path:
    """The log of a version: of the run that computed it, when that was an earlier one.

    Raises:
        UnknownVersion: the run has no such version.
    """
    outcome = run.outcome(version)
    return outcome.log if outcome.reused is None else log_path(run.home, outcome.reused, version)


def bring_log(run: Run, version: str) -> Path:
    """The log of a version, on this machine when there is any.

    Raises:
        UnknownVersion: the run has no such version.
        StoreError: the home's store cannot be used.
    """
    path = log_of(run, version)
    fetch_file(run.home, path)
    return path


def send_logs(home: Home, logs: Iterable[Path]) -> None:
    """Send logs to a home's URL; nothing where it is a folder. A store that cannot be used gets none.

    The record is what a run is about, and it is sent next: that says what is wrong with the store.
    """
    with suppress(StoreError):
        for path in logs:
            send_file(home, path)


def last_lines(path: Path, count: int | None) -> list[str]:
    """The last lines of a log, all when `count` is None; none where there is no file."""
    try:
        with path.open("rb") as file:
            if count is None:
                data = file.read()
            else:
                at, data = file.seek(0, 2), b""
                while at > 0 and data.count(b"\n") <= count:
                    step = min(_BLOCK, at)
                    at = file.seek(at - step)
                    data = file.read(step) + data
    except FileNotFoundError:
        return []
    lines = data.decode("utf-8", "replace").splitlines()
    return lines if count is None else lines[len(lines) - min(count, len(lines)) :]


def follow(
    logs: Mapping[str, Path], starts: Mapping[str, int], is_over: Callable[[], bool]
) -> Iterator[tuple[str, str]]:
    """New whole lines of several logs as they come, until it is over and all is read.

    Args:
        logs: version → file; it may not be there yet.
        starts: version → the byte to begin at.
        is_over: whether nothing will be written any more.

    Yields:
        (version, line).
    """
    at = dict(starts)
    partial = dict.fromkeys(logs, b"")
    while True:
        over = is_over()  # asked before the files are read: what was written until then is seen
        for version, path in logs.items():
            data = _read_from(path, at[version])
            at[version] += len(data)
            *lines, partial[version] = (partial[version] + data).split(b"\n")
            for line in lines:
                yield version, line.decode("utf-8", "replace")
        if over:
            break
        time.sleep(_POLL_S)
    for version, rest in partial.items():
        if rest:
            yield version, rest.decode("utf-8", "replace")


def size_of(path: Path) -> int:
    """Bytes of a log; 0 where there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_from(path: Path, start: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""

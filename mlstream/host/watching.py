"""What a process uses and where its Python stands, seen from outside. Ends nothing.

A memory limit is watched, not set as an RLIMIT: RLIMIT_AS counts addresses, of which a mapped view, thread pools and
allocators take many times what they use, and RLIMIT_DATA counts what allocators reserve and makes native code abort
without a word. What counts is memory that the model's process and its children wrote to: resident anonymous and shared
pages, and those swapped out, not the pages of mapped files, which the system takes back when it needs them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

CHECK_EVERY_S = 0.05
_CHILDREN_EVERY_S = 0.5
_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<name>.*)$')
_PACKAGE = str(Path(__file__).resolve().parent.parent)
_STACK_S = 0.5


class MemoryWatch:
    """The memory of a process and its children, looked at every now and then.

    Args:
        pid: the process.
        limit_bytes: None never looks.
    """

    def __init__(self, pid: int, limit_bytes: int | None) -> None:
        self._pid = pid
        self._limit = limit_bytes
        self._looked = self._looked_for_children = 0.0
        self._children: list[int] = []

    def over(self) -> int | None:
        """The bytes that it uses, when these are more than the limit; else None."""
        now = time.monotonic()
        if self._limit is None or now - self._looked < CHECK_EVERY_S:
            return None
        self._looked = now
        if now - self._looked_for_children > _CHILDREN_EVERY_S:
            self._looked_for_children = now
            with suppress(psutil.Error):
                self._children = [child.pid for child in psutil.Process(self._pid).children(recursive=True)]
        used = sum(used_bytes(pid) for pid in (self._pid, *self._children))
        return used if used > self._limit else None


def used_bytes(pid: int) -> int:
    """Memory that a process has written to; 0 when it is gone."""
    found = _status(pid, _COUNTED)
    if found is not None:
        return found
    try:
        return int(psutil.Process(pid).memory_info().rss)  # no Linux: mapped files count too
    except psutil.Error:
        return 0


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had resident; 0 when it is gone."""
    found = _status(pid, ("VmHWM:",))
    if found is not None:
        return found
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def stack_in(descriptor: int) -> list[str]:
    """The lines of a stack that faulthandler wrote, the innermost last, without those of our own package."""
    found: list[str] = []
    deadline = time.monotonic() + _STACK_S
    while not found and time.monotonic() < deadline:
        time.sleep(0.02)  # it is written at once, by a handler of a signal
        size = os.fstat(descriptor).st_size
        text = os.pread(descriptor, size, 0).decode(errors="replace")
        if not text.endswith("\n"):
            continue
        frames = [match for line in text.splitlines() if (match := _FRAME.match(line)) is not None]
        found = [match[0] for match in reversed(frames) if not match["file"].startswith((_PACKAGE, "<frozen"))]
    return found


def place_of(stack: Sequence[str], root: Path) -> str | None:
    """The innermost line of a stack that is in a folder: `shop/models.py:12 in predict`; else the innermost."""
    shown = None
    for line in reversed(stack):
        match = _FRAME.match(line)
        if match is None:
            continue
        file = Path(match["file"])
        if file.is_relative_to(root):
            return f"{file.relative_to(root)}:{match['line']} in {match['name']}"
        if shown is None:
            shown = f"{file}:{match['line']} in {match['name']}"
    return shown


def _status(pid: int, names: tuple[str, ...]) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(names)]
    return sum(found) if found else None

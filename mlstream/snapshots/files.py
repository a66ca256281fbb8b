"""Files of the disk: which ones a pattern names, what each is now, and how a snapshot calls it. Reads none of them.

A file is called by its path from the project's root; one from elsewhere by its own name, one of a folder from
elsewhere by the folder's name and the path below it. Of a pattern from elsewhere the folder is the last one before the
first wildcard: `/data/**` and `/data` name the same files alike. Symbolic links are followed: a snapshot holds what
they lead to. The list is a part of the cut: a file that is not as it was listed when it has been copied is an error.
"""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlstream.errors import UnknownFile, UsageError
from mlstream.home import project_root
from mlstream.snapshots.content import check_path


@dataclass(frozen=True, slots=True)
class FilePattern:
    """A path of a file or of a folder (with all that is below it, hidden files too), or a pattern of such paths.

    Attributes:
        text: with `*`, `?`, `[…]` and `**`; a path that exists is never taken for a pattern.
        folder: where a relative one starts. The project is the one that this is in.
    """

    text: str
    folder: Path


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as it was at the cut.

    Attributes:
        path: what the snapshot calls it.
        source: where it is.
        size_bytes: its size.
        modified_ms: when it was last written to, ms since 1970.
        state: what tells a change: device, inode, size, times of the last change of bytes and of anything.
    """

    path: str
    source: Path
    size_bytes: int
    modified_ms: int
    state: tuple[int, ...]


def list_files(patterns: Sequence[FilePattern], *, home: Path) -> tuple[ListedFile, ...]:
    """The files that patterns name now, in order of their paths in the snapshot, each once.

    Args:
        home: left out wherever it is below a folder: a snapshot does not hold the store.

    Raises:
        UnknownFile: nothing is there, it cannot be read, or it is no file.
        UsageError: two files would have the same path in the snapshot, or one that cannot be a path there.
    """
    left_out = _identity_or_none(home)
    found: dict[str, ListedFile] = {}
    for pattern in patterns:
        empty = True
        root = project_root(pattern.folder)
        top, matches = _matches(pattern)
        for match in matches:
            for source in _walk(match, left_out=left_out):
                empty = False
                listed = _listed(source, _path_of(source, match if top is None else top, root))
                known = found.setdefault(listed.path, listed)
                if known.state[:2] != listed.state[:2]:
                    raise UsageError(
                        f"{known.source} and {listed.source}: both would be {listed.path!r} in the snapshot",
                        hint="name the folders that they are in instead, or leave one out",
                    )
        if empty:
            raise UnknownFile(f"{pattern.text}: no file is in it", hint="a snapshot holds files, not empty folders")
    _check_folders(found)
    return tuple(found[path] for path in sorted(found))


def _walk(path: Path, above: tuple[tuple[int, int], ...] = (), *, left_out: tuple[int, int] | None) -> Iterator[Path]:
    """Every file at a path or below it, in order.

    Args:
        above: the folders that it is in, by device and inode.
    """
    found = _stat(path)
    identity = found.st_dev, found.st_ino
    if stat.S_ISREG(found.st_mode):
        yield path
    elif not stat.S_ISDIR(found.st_mode):
        raise UnknownFile(f"{path}: it is no file and no folder", hint="leave it out: only files can be frozen")
    elif identity in above:
        raise UnknownFile(
            f"{path}: a symbolic link to a folder that it is in: it has no end",
            hint="name the files or folders beside it",
        )
    elif identity != left_out:
        for name in _names(path):
            yield from _walk(path / name, (*above, identity), left_out=left_out)


def _matches(pattern: FilePattern) -> tuple[Path | None, list[Path]]:
    """What a pattern names: itself when it exists, else what it matches, in order; and the folder that it starts in."""
    text = os.path.expanduser(pattern.text)
    if not text:
        raise UsageError("a file's path is empty", hint="name a file, a folder or a pattern")
    whole = pattern.folder / text
    if os.path.lexists(whole):
        return None, [whole]
    magic = glob.has_magic(text)
    found = sorted(glob.glob(text, root_dir=pattern.folder, recursive=True)) if magic else []
    if not found:
        what = "no file fits" if magic else "there is no such file"
        raise UnknownFile(f"{pattern.text}: {what}", hint=_near(whole), path=pattern.text)
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), Path(text).parts)
    return pattern.folder.joinpath(*plain), [pattern.folder / match for match in found]


def _path_of(source: Path, top: Path, root: Path) -> str:
    """What the snapshot calls a file: by its path from the project's root, else from `top`, whose name comes first."""
    whole = Path(os.path.abspath(source))
    for seen in (whole, whole.parent.resolve() / whole.name):
        if seen.is_relative_to(root):
            return seen.relative_to(root).as_posix()
    start = Path(os.path.abspath(top))
    if not whole.is_relative_to(start):  # a pattern that goes up again after its wildcard
        return whole.name
    return whole.relative_to(start.parent).as_posix()


def _listed(source: Path, path: str) -> ListedFile:
    found = _stat(source)
    try:
        path.encode()
        check_path(path)
    except ValueError as exc:
        raise UsageError(
            f"{str(source)!a}: no snapshot can hold a file of that name", hint="rename it: no control characters, UTF-8"
        ) from exc
    return ListedFile(path, source, found.st_size, found.st_mtime_ns // 1_000_000, state_of(found))


def _check_folders(found: dict[str, ListedFile]) -> None:
    for path, listed in found.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            file = found.get("/".join(parts[:depth]))
            if file is not None:
                raise UsageError(
                    f"{file.source} and {listed.source}: {file.path!r} would be a file and a folder in the snapshot",
                    hint="leave one of them out",
                )


def state_of(found: os.stat_result) -> tuple[int, ...]:
    """What tells whether a file has changed: device, inode, size, times of the last write and of any change."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise UnknownFile(
                f"{path}: a symbolic link that leads nowhere", hint=f"it names {os.readlink(path)}; leave it out"
            ) from None
        raise UnknownFile(f"{path}: there is no such file", hint=_near(path)) from None
    except OSError as exc:
        raise unreadable(path, exc) from exc


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as exc:
        raise unreadable(folder, exc) from exc


def _identity_or_none(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _near(path: Path) -> str:
    folder = path.parent
    if glob.has_magic(str(folder)) or not folder.is_dir():
        return "check the path; a relative one starts in the working directory"
    names = sorted(os.listdir(folder))
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"the folder holds: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else "it is empty"


def unreadable(path: Path, exc: OSError) -> UnknownFile:
    """The error for a file or folder that is there and cannot be read."""
    return UnknownFile(f"{path}: it cannot be read: {exc.strerror}", hint="check its permissions", path=str(path))

"""Files that lie beside the records of a home at a URL: logs. Sent once, fetched only when somebody asks for them.

They are no documents: no refresh brings or removes them. Where the home is a folder, nothing here has anything to do.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from mlstream.home import Home
from mlstream.snapshots.failures import store_error
from mlstream.snapshots.remote_home import Mirror

MOST_BYTES = 64 << 20  # of a larger file the end is sent
_MARK_BYTES = 256  # the line that says so


def send_file(home: Home, path: Path) -> None:
    """Send a file of this machine's copy, in place of what the store has; nothing when there is no such file.

    Raises:
        StoreError: the store cannot be used.
    """
    if home.url is None or not path.is_file():
        return
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            data = file.read(MOST_BYTES)
    except OSError as exc:
        raise store_error(path, exc) from exc
    if size > MOST_BYTES:
        data = f"mlstream: {size - MOST_BYTES:,} bytes before this were not sent\n".encode() + data
    Mirror(home).remote.put(_name(home, path), data)


def fetch_file(home: Home, path: Path) -> bool:
    """Whether a file is on this machine, where it is fetched to when only the store has it.

    Raises:
        StoreError: the store or the disk cannot be used.
    """
    if home.url is None or path.is_file():
        return path.is_file()
    try:
        data = Mirror(home).remote.read(_name(home, path), most_bytes=MOST_BYTES + _MARK_BYTES)
    except FileNotFoundError:
        return False
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as exc:
        raise store_error(path, exc) from exc
    return True


def remove_files(home: Home, folder: Path) -> None:
    """Remove what the store has below a folder.

    Raises:
        StoreError: the store cannot be used.
    """
    if home.url is None:
        return
    remote = Mirror(home).remote
    for found in remote.list(_name(home, folder)):
        remote.delete(found.path)


def _name(home: Home, path: Path) -> str:
    return path.relative_to(home.path).as_posix()

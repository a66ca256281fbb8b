"""A URL or a path → the store that is there. Asks nothing yet."""

from __future__ import annotations

from pathlib import Path

from mlstream.home import folder_of, is_url, plain_url
from mlstream.snapshots.remote import Remote
from mlstream.snapshots.remote_folder import FolderRemote
from mlstream.snapshots.remote_fsspec import FsspecRemote
from mlstream.snapshots.remote_objects import SCHEMES, ObjectsRemote


def open_remote(url: str | Path) -> Remote:
    """The store at a folder's path or a URL: `s3://bucket/store`, `file:///mnt/store`, `sftp://host/store`, …

    Raises:
        UsageError: the URL holds a password, or is none.
        StoreError: there is no driver for it.
    """
    if isinstance(url, Path) or not is_url(url):
        return FolderRemote(Path(url).expanduser().resolve())
    plain = plain_url(url)
    scheme = plain.split("://", 1)[0]
    if scheme == "file":
        return FolderRemote(folder_of(plain))
    return ObjectsRemote(plain) if scheme in SCHEMES else FsspecRemote(plain)

"""What a freeze takes beside topics: files, fixed at the cut, then read and copied into the staging folder.

Publishes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.snapshots.content import FileContent
from mlstream.snapshots.file_bytes import copy_files
from mlstream.snapshots.files import ListedFile
from mlstream.snapshots.leases import Lease
from mlstream.snapshots.storage import StoredObject
from mlstream.snapshots.store import Store


@dataclass(frozen=True, slots=True)
class Gathered:
    """Files as the documents of a snapshot want them.

    Attributes:
        files: in order of their paths.
        objects: digest → size and rows of every object that they are in, new or in the store already.
        staged: digest → file of those that are new.
    """

    files: tuple[FileContent, ...] = ()
    objects: dict[str, StoredObject] = field(default_factory=dict)
    staged: dict[str, Path] = field(default_factory=dict)


NOTHING = Gathered()


def gather(
    store: Store,
    listed: Sequence[ListedFile],
    files: Sequence[FileContent],
    *,
    lease: Lease,
    staged: Path,
    tell: Callable[[str], None],
) -> Gathered:
    """Copy what the store lacks.

    Args:
        files: what was read of the listed files.
        lease: holds what the store has already.
        tell: called with what is under way.

    Raises:
        FileChanged: a file is not as it was listed.
        UnknownFile, StoreError: a file cannot be read, or not be written.
    """
    objects = {file.sha256: StoredObject(file.size_bytes, 0) for file in files}
    if objects:
        tell(f"copying {len(files):,} files")
        lease.hold(objects=objects)  # held before it is looked at: what is there after this stays
    return Gathered(tuple(files), objects, copy_files(listed, files, store=store, staged=staged))

"""Make a snapshot visible: its parts first, its name last. What the parts are is not its business.

A process that is killed at any point leaves the snapshot there or not there, and perhaps files that gc removes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.errors import StoreError
from mlstream.snapshots import documents
from mlstream.snapshots.failures import store_error
from mlstream.snapshots.store import Store


@dataclass(frozen=True, slots=True)
class Publication:
    """What makes a snapshot.

    Attributes:
        objects: those that are new: digest → staged file, already flushed.
        name: None when it gets none.
        sizes: digest → bytes of every object that the snapshot needs, new or there already.
        manifest, storage, cut: the bytes of its documents; no cut when it was made elsewhere.
        created_at_ms: when the cut was.
        cuts: those that were made elsewhere: file name → bytes.
    """

    snapshot_id: str
    name: str | None
    objects: Mapping[str, Path]
    sizes: Mapping[str, int]
    manifest: bytes
    storage: bytes
    cut: bytes | None = None
    created_at_ms: int = 0
    cuts: Mapping[str, bytes] = field(default_factory=dict)

    def all_cuts(self) -> dict[str, bytes]:
        """File name → bytes; the cut of this freeze gets its name now."""
        if self.cut is None:
            return dict(self.cuts)
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self.created_at_ms / 1000))
        return {**self.cuts, f"{self.snapshot_id}-{moment}-{secrets.token_hex(3)}.json": self.cut}


def publish(store: Store, publication: Publication, *, staged: Path) -> None:
    """Make a snapshot visible, its parts first and its name last; killed at any point it is there or it is not.

    The caller holds the name (`Store.claim`), if there is one.

    Raises:
        StoreError: when the store cannot be written, or an object that is relied on was deleted; nothing is published.
    """
    with store.lease(f"publishing {publication.name or publication.snapshot_id[:12]}") as lease:
        # 0. hold all that it needs, then look: what is not new must be there, and stays from here on
        lease.hold(snapshots=[publication.snapshot_id], objects=publication.sizes)
        old = {digest: size for digest, size in publication.sizes.items() if digest not in publication.objects}
        for digest in store.missing(old):
            raise StoreError(
                f"object {digest}: it was there when this was begun, and is gone",
                hint="run the command again",
                object=digest,
            )
        cuts = publication.all_cuts()
        if store.mirror is not None:
            parts = {
                f"storage/{publication.snapshot_id}.json": publication.storage,
                f"manifests/{publication.snapshot_id}.json": publication.manifest,
                **{f"cuts/{name}": data for name, data in cuts.items()},
            }
            store.mirror.publish(
                publication.snapshot_id, name=publication.name, objects=publication.objects, documents=parts
            )
        with store.writing():
            _publish(store, publication, cuts, staged=staged)


def _publish(store: Store, publication: Publication, cuts: Mapping[str, bytes], *, staged: Path) -> None:
    try:
        # 1. the objects; one that is there already has the same bytes
        for digest, file in publication.objects.items():
            documents.move_into_place(file, store.object(digest), mode=0o444)
        for folder in {store.object(digest).parent for digest in publication.objects}:
            documents.flush_folder(folder)
        # 2. where they are, and how they came about
        documents.write_document(store.storage(publication.snapshot_id), publication.storage, staged=staged)
        for name, data in cuts.items():
            documents.write_document(store.path / "cuts" / name, data, staged=staged)
        # 3. the manifest: from here on the snapshot exists
        documents.write_document(store.manifest(publication.snapshot_id), publication.manifest, staged=staged)
        # 4. its name
        if publication.name is not None:
            documents.write_document(
                store.ref(publication.name), f"{publication.snapshot_id}\n".encode(), staged=staged
            )
    except OSError as exc:
        raise store_error(store.path, exc) from exc

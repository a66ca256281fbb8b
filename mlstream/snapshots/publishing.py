"""Make a snapshot visible: its parts first, its name last. What the parts are is not its business.

A process that is killed at any point leaves the snapshot there or not there, and perhaps files that gc removes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.errors import StoreError, UnknownSnapshot
from mlstream.snapshots import documents
from mlstream.snapshots.damage import damaged
from mlstream.snapshots.failures import store_error
from mlstream.snapshots.store import Store
from mlstream.snapshots.taken import name_taken


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
        NameTaken: the name was given to another snapshot since the caller looked; it stays so.
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
        _check_name(store, publication)
        cuts = publication.all_cuts()
        if store.mirror is not None:
            parts = {
                f"storage/{publication.snapshot_id}.json": publication.storage,
                f"manifests/{publication.snapshot_id}.json": publication.manifest,
                **{f"cuts/{name}": data for name, data in cuts.items()},
            }
            store.mirror.publish(
                publication.snapshot_id,
                name=publication.name,
                objects=publication.objects,
                documents=parts,
                anew=damaged(store.index),
            )
        with store.writing():
            _publish(store, publication, cuts, staged=staged)


def _publish(store: Store, publication: Publication, cuts: Mapping[str, bytes], *, staged: Path) -> None:
    try:
        # 1. the objects; one that is there already has the same bytes, or is damaged and mended now
        for digest, file in publication.objects.items():
            documents.move_into_place(file, store.object(digest), mode=0o444)
        for folder in {store.object(digest).parent for digest in publication.objects}:
            documents.flush_folder(folder)
        for digest in damaged(store.index).intersection(publication.objects):
            store.mark(digest, damaged=False)
        # 2. where they are, and how they came about
        documents.write_document(store.storage(publication.snapshot_id), publication.storage, staged=staged)
        for name, data in cuts.items():
            documents.write_document(store.path / "cuts" / name, data, staged=staged)
        # 3. the manifest: from here on the snapshot exists
        documents.write_document(store.manifest(publication.snapshot_id), publication.manifest, staged=staged)
        # 4. its name: through the gate, so that it is not given to another snapshot between the look and the writing
        if publication.name is not None:
            with store.gate():
                _check_name(store, publication)
                documents.write_document(
                    store.ref(publication.name), f"{publication.snapshot_id}\n".encode(), staged=staged
                )
    except OSError as exc:
        raise store_error(store.path, exc) from exc


def _check_name(store: Store, publication: Publication) -> None:
    """Refuse a name that stands for another snapshot. Of a store at a URL the URL's ref decides, not the copy's."""
    if publication.name is None or store.mirror is not None:
        return
    with suppress(UnknownSnapshot):
        taken = store.id_of(publication.name)
        if taken != publication.snapshot_id:
            raise name_taken(publication.name, taken)

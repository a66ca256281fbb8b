"""What must hold of a snapshot that comes from elsewhere, beyond its digests. Decides; fetches and keeps nothing.

A digest proves that bytes are those that somebody made; not that mlstream made them. The manifest's parser and
`check_storage` refuse what does not add up (paths that escape, rows that no object has), `verify` recomputes every
row's digest; here is refused what they need not care about: names that would mislead a terminal, objects that nothing
uses, sizes that lie, Parquet files that are something else than they should be.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from mlstream.errors import IntegrityError, StoreError
from mlstream.snapshots.cuts import parse_cut
from mlstream.snapshots.forms import Form, forms_of, read_footer
from mlstream.snapshots.manifest import Content
from mlstream.snapshots.storage import Storage, StoredObject

_HINT = "it was not made by mlstream; do not use it"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_CLUSTER = re.compile(r"[ -~]{0,249}")
_MOST_ROWS = 1 << 31
_MOST_GROUP_BYTES = 2 << 30  # a row group is closed at 32 MiB of rows, and one record may be large
_SPARE_BYTES = 64 << 20


def check_documents(content: Content, storage: Storage, *, where: str) -> None:
    """Check what a manifest and its storage map say, before anything is fetched.

    Raises:
        IntegrityError: naming what no snapshot says.
    """
    for stream in content.streams:
        if not _is(_TOPIC, stream.topic) or stream.topic in (".", ".."):
            raise IntegrityError(f"{where}: {str(stream.topic)[:80]!r} is no name of a topic", hint=_HINT)
        for text in (stream.cluster_id, stream.topic_id):
            if not _is(_CLUSTER, text):
                raise IntegrityError(f"{where}: {str(text)[:80]!r} is no id of a cluster or topic", hint=_HINT)
    for table in content.tables:
        for text in (table.name, *(column.name for column in table.columns)):
            if not text or any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
                raise IntegrityError(f"{where}: {text[:80]!r} is no name of a table or column", hint=_HINT)
    used = {*forms_of(content, storage), *(file.sha256 for file in content.files)}
    for digest, found in storage.objects.items():
        if digest not in used:
            raise IntegrityError(f"{where}: it lists object {digest}, which nothing in it uses", hint=_HINT)
        if found.size_bytes < 0 or not 0 <= found.rows <= _MOST_ROWS:
            raise IntegrityError(
                f"{where}: object {digest} of {found.size_bytes} bytes and {found.rows} rows", hint=_HINT
            )


def _is(pattern: re.Pattern[str], found: object) -> bool:
    """Whether it is text of that form; JSON may have put anything there."""
    return isinstance(found, str) and pattern.fullmatch(found) is not None


def check_cut(data: bytes, *, where: str) -> None:
    """Check that the bytes are a cut, and one that can be shown on a terminal.

    Raises:
        IntegrityError: when they are not.
    """
    cut = parse_cut(data, where)
    try:
        numbers = cut.cut_ms, cut.seconds, *(part.partition for stream in cut.streams for part in stream.partitions)
        texts = (cut.name, cut.user, cut.host, *cut.source, *cut.tools.values())
        sound = all(isinstance(each, (int, float)) for each in numbers) and all(isinstance(t, str) for t in texts)
    except (TypeError, AttributeError):
        sound = False
    if not sound:
        raise IntegrityError(f"{where}: not a cut: a number or a text is none", hint=_HINT)
    if any(ord(sign) < 32 or ord(sign) == 127 for text in _texts(json.loads(data)) for sign in text):
        raise IntegrityError(f"{where}: it holds control characters", hint=_HINT)


def _texts(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from _texts(value)
    elif isinstance(document, list):
        for each in document:
            yield from _texts(each)


def check_room(sizes: Mapping[str, int], folder: Path, *, where: str) -> None:
    """Check that the disk has room for these objects.

    Raises:
        StoreError: when it has not.
    """
    needed = sum(sizes.values())
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if needed + _SPARE_BYTES > free:
        raise StoreError(
            f"{where}: it says that its objects take {needed:,} bytes, and {folder} has {free:,} free",
            hint="free some space, or choose another home with --home",
        )


def check_parquet(path: Path, known: StoredObject, *, forms: Sequence[Form], where: str) -> None:
    """Check the footer of an object that came: its rows, its columns' types, and what it would take in memory.

    Args:
        forms: what it holds rows of; a file, which may hold anything, has none.

    Raises:
        IntegrityError: when it is not what the storage map says.
    """
    if not forms:
        return
    try:
        metadata, schema = read_footer(path)
    except (OSError, pa.ArrowException) as exc:
        raise IntegrityError(f"{where}: object {path.name}: it is no Parquet file: {exc}", hint=_HINT) from exc
    if metadata.num_rows != known.rows:
        raise IntegrityError(
            f"{where}: object {path.name}: it has {metadata.num_rows} rows instead of {known.rows}", hint=_HINT
        )
    for problem in filter(None, (form.problem(schema) for form in forms)):
        raise IntegrityError(f"{where}: object {path.name}: {problem}", hint=_HINT)
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    if any(not 0 <= group.total_byte_size <= _MOST_GROUP_BYTES for group in groups):
        raise IntegrityError(f"{where}: object {path.name}: it would take too much memory", hint=_HINT)

"""A store on S3 (or what speaks it), Google Cloud Storage or Azure Blob Storage, through obstore. The only importer.

Credentials, endpoint and region come from where the driver looks: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …,
`GOOGLE_…`, `AZURE_…`, or the machine's own role. A request names what it writes by its digest or only if it is new,
so that two machines never overwrite each other unseen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlstream.errors import StoreError
from mlstream.snapshots.remote import Found, too_large, unusable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl"})
_PART_BYTES = 16 << 20
_MOST_PARTS = 9_000  # S3 takes 10,000
_PARTS_AT_ONCE = 4
_RETRIES = 5
_PLAIN_HTTP = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
_HINTS = {
    "AccessDenied": "check the credentials' rights on the bucket: read, write, list",
    "InvalidAccessKeyId": "check the credentials, for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "check the credentials, for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoSuchBucket": "make the bucket, or correct its name",
    "BadScheme": "the endpoint has no TLS; AWS_ALLOW_HTTP=true allows that",
    "error sending request": "check the endpoint, for example AWS_ENDPOINT_URL, and that it answers",
}


class ObjectsRemote:
    """The files of a store under a URL of a bucket.

    Raises:
        StoreError: the driver is not installed, or the URL is none of its.
    """

    conditional = True

    def __init__(self, url: str) -> None:
        try:
            from obstore import exceptions, store  # an extra: only needed with such a URL
        except ImportError as exc:
            raise StoreError(
                f"{url}: the driver of such stores is not installed", hint="pip install 'mlstream[s3]'", url=url
            ) from exc
        self.url = url
        self._driver_errors = (exceptions.BaseError, OSError, ValueError)
        self._exists_error = exceptions.AlreadyExistsError
        allow_http = any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in _PLAIN_HTTP)
        with self._asking(""):
            self._store: ObjectStore = store.from_url(
                url,
                client_options={
                    "timeout": timedelta(minutes=5),
                    "connect_timeout": timedelta(seconds=10),
                    "allow_http": allow_http,
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(minutes=2)},
            )

    def list(self, folder: str, *, beginning: str = "") -> list[Found]:
        start = f"{folder}/{beginning}"
        found = []
        with self._asking(folder):
            for page in self._store.list(folder, offset=start if beginning else None):
                for meta in page:
                    if meta["path"].startswith(start):
                        written = meta["last_modified"].timestamp()
                        found.append(Found(meta["path"], meta["size"], meta["e_tag"] or "", written))
                if page and page[-1]["path"][: len(start)] > start:  # they come in order
                    break
        return found

    def size(self, path: str) -> int | None:
        try:
            with self._asking(path):
                return self._store.head(path)["size"]
        except FileNotFoundError:
            return None

    def read(self, path: str, *, most_bytes: int) -> bytes:
        with self._asking(path):
            found = self._store.get(path)
            size = found.meta["size"]
            if size <= most_bytes:
                return bytes(found.bytes())
        raise too_large(self.url, path, size, most_bytes)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        with self._asking(path):
            return bytes(self._store.get_range(path, start=start, length=length))

    def put(self, path: str, data: bytes) -> None:
        with self._asking(path):
            self._store.put(path, data, use_multipart=False)

    def put_new(self, path: str, data: bytes) -> bool:
        with self._asking(path):
            try:
                self._store.put(path, data, mode="create")
            except self._exists_error:
                return False
        return True

    def upload(self, path: str, file: Path) -> None:
        with self._asking(path):
            part = max(_PART_BYTES, file.stat().st_size // _MOST_PARTS + 1)
            self._store.put(path, file, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)

    def delete(self, path: str) -> None:
        with self._asking(path):
            try:
                self._store.delete(path)
            except FileNotFoundError:
                return

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}/{path}") from None
        except self._driver_errors as exc:
            reason = _reason(str(exc))
            hint = next((hint for sign, hint in _HINTS.items() if sign in str(exc)), None)
            raise unusable(self.url, path, reason, hint=hint) from exc


def _reason(text: str) -> str:
    """What a driver's error says, in a line: the server's own code and message where it sent one."""
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    if code is not None:
        return code[1] if message is None else f"{code[1]}: {message[1]}"
    return text.split("\n\nDebug source", 1)[0].replace("\n", " ").strip()[:300]

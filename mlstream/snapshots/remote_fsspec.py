"""A store at any other URL that fsspec has a driver for (sftp, hdfs, webdav, http, …). The only importer of fsspec.

Such places can be pushed to and pulled from. None is a home: whether they write conditionally, a driver does not say.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlstream.errors import MlstreamError, StoreError, shown_url
from mlstream.snapshots.remote import Found, too_large, unusable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class FsspecRemote:
    """The files of a store under a URL.

    Raises:
        StoreError: there is no driver for it, or it does not answer.
    """

    conditional = False

    def __init__(self, url: str) -> None:
        import fsspec  # only needed with such a URL

        self.url = url
        try:
            found: tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=True
            )
        except ImportError as exc:
            raise StoreError(
                f"{shown_url(url)}: the driver of such stores is not installed: {exc}",
                hint="install the package that it names",
            ) from exc
        except Exception as exc:
            raise unusable(
                shown_url(url), "", _reason(exc), hint="a store is a folder, or a URL that fsspec knows"
            ) from exc
        self._files, self._root = found[0], found[1].rstrip("/")

    def list(self, folder: str, *, beginning: str = "") -> list[Found]:
        with self._asking(folder):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return []
            root = self._root.strip("/")
            files = [
                Found(path.strip("/").removeprefix(root).strip("/"), int(info.get("size") or 0), _tag(info))
                for path, info in found.items()
                if info.get("type") == "file"
            ]
        return [each for each in files if each.path.startswith(f"{folder}/{beginning}")]

    def size(self, path: str) -> int | None:
        with self._asking(path):
            try:
                info = self._files.info(self._at(path))
            except FileNotFoundError:
                return None
            return int(info["size"]) if info.get("type") == "file" and info.get("size") is not None else None

    def read(self, path: str, *, most_bytes: int) -> bytes:
        with self._asking(path), self._files.open(self._at(path), "rb") as file:
            data: bytes = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise too_large(self.url, path, len(data), most_bytes)
        return data

    def read_range(self, path: str, start: int, length: int) -> bytes:
        with self._asking(path):
            data: bytes = self._files.cat_file(self._at(path), start=start, end=start + length)
            return data

    def put(self, path: str, data: bytes) -> None:
        with self._arriving(path) as temporary:
            self._files.pipe_file(temporary, data)

    def put_new(self, path: str, data: bytes) -> bool:
        if self.size(path) is not None:
            return False
        self.put(path, data)
        return True

    def upload(self, path: str, file: Path) -> None:
        with self._arriving(path) as temporary:
            self._files.put_file(str(file), temporary)

    def delete(self, path: str) -> None:
        with self._asking(path), suppress(FileNotFoundError):
            self._files.rm_file(self._at(path))

    @contextmanager
    def _arriving(self, path: str) -> Iterator[str]:
        """A name to write to that gets the name `path` at the end."""
        target = self._at(path)
        temporary = self._at(f"tmp/{secrets.token_hex(8)}.arriving")
        with self._asking(path):
            try:
                for folder in (temporary, target):
                    self._files.makedirs(folder.rsplit("/", 1)[0], exist_ok=True)
                yield temporary
                with suppress(FileNotFoundError):  # not every driver replaces
                    self._files.rm_file(target)
                self._files.mv(temporary, target)
            except BaseException:
                with suppress(Exception):
                    self._files.rm_file(temporary)
                raise

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, MlstreamError):
            raise
        except Exception as exc:  # whatever a driver raises: each has errors of its own
            raise unusable(self.url, path, _reason(exc)) from exc


def _tag(info: dict[str, object]) -> str:
    return "-".join(str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "size") if info.get(key))


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".split("\n", 1)[0][:300]

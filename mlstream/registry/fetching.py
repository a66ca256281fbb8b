"""Bring a model's files to this machine's cache, whole, under the digest of all of them. Loads no model.

    mlflow-models/DIGEST/          the files of a model, complete since the folder has that name
    mlflow-models/known/KEY.json   what a URI was when it was first seen: digest, and path → digest and size

A registered version, a logged model and what a run logged do not change. So one that is not what it was is an error,
and no new model. Where the files are on this machine, that is seen by their bytes, elsewhere by names and sizes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlstream.errors import VersionLoadError
from mlstream.home import mark_used
from mlstream.registry.folder import differing, digest_files, digest_of
from mlstream.registry.locating import Located
from mlstream.registry.place import models_root, shown_uri

_LEFT_S = 86_400.0  # what is older, no process is still fetching


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's files on this machine.

    Attributes:
        folder: in the cache.
        digest: of all of them, 64 hex.
        files: path → digest.
    """

    folder: Path
    digest: str
    files: dict[str, str] = field(repr=False)


def fetch(located: Located, place: str, *, where: str) -> Fetched:
    """The files of a model, fetched unless they are there.

    Args:
        place: the MLflow store or server that knows it.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: its files are gone, are not what they were, or the cache was changed or cannot be written.
        MlflowException: MLflow refuses.
    """
    root = models_root()
    local = _local(located.location)
    if local is not None and not local.is_dir():
        raise _gone(located, f"there is no folder {local}", where)
    try:
        (root / "known").mkdir(parents=True, exist_ok=True)
        note = root / "known" / f"{_key(located, place)}.json"
        known = _read(note)
        if local is not None:
            return _fetch_local(located, local, root, note, known, where)
        return _fetch_remote(located, place, root, note, known, where)
    except OSError as exc:
        raise VersionLoadError(
            f"{where}: {located.pinned} cannot be fetched: {exc}",
            hint="look at the file that it names; MLSTREAM_CACHE names another folder for what is fetched",
            where=where,
        ) from exc


def _fetch_local(
    located: Located, source: Path, root: Path, note: Path, known: dict[str, Any] | None, where: str
) -> Fetched:
    files = _digests(source, located, where)
    digest = digest_of(files)
    if known is not None and known["digest"] != digest:
        raise _changed(located, note, differing(_column(known, 0), files), where)
    kept = _kept(root, digest, located, where)
    if kept is None:
        part = _part(root)
        try:
            shutil.copytree(source, part, dirs_exist_ok=True)
            if digest_of(_digests(part, located, where)) != digest:
                raise VersionLoadError(
                    f"{where}: {located.pinned} changed while it was copied", hint="run again", where=where
                )
            kept = _name(part, root, digest, located, where)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    _note(note, kept, known)
    return kept


def _fetch_remote(
    located: Located, place: str, root: Path, note: Path, known: dict[str, Any] | None, where: str
) -> Fetched:
    repository = get_artifact_repository(located.location, tracking_uri=place)
    sizes = _sizes(repository, located, where)
    if known is not None:
        before = _column(known, 1)
        if before != sizes:
            raise _changed(located, note, differing(before, sizes), where)
        kept = _kept(root, str(known["digest"]), located, where)
        if kept is not None:
            return kept
    part = _part(root)
    try:
        repository.download_artifacts("", str(part))
        files = _digests(part, located, where)
        digest = digest_of(files)
        if known is not None and digest != known["digest"]:
            raise _changed(located, note, differing(_column(known, 0), files), where)
        kept = _name(part, root, digest, located, where)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _note(note, kept, known)
    return kept


def _sizes(repository: ArtifactRepository, located: Located, where: str) -> dict[str, str]:
    """Every file that the store has of a model → its size, as text."""
    found: dict[str, str] = {}
    ahead: list[str | None] = [None]
    try:
        while ahead:
            for entry in repository.list_artifacts(ahead.pop()):
                if entry.is_dir:
                    ahead.append(str(entry.path))
                else:
                    found[str(entry.path)] = str(entry.file_size)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise _gone(located, str(exc.message), where) from exc
    if not found:
        raise _gone(located, "the store has no file of it", where)
    return dict(sorted(found.items()))


def _kept(root: Path, digest: str, located: Located, where: str) -> Fetched | None:
    """The files that are in the cache, proven; None when they are not."""
    folder = root / digest
    if not folder.is_dir():
        return None
    try:
        files = digest_files(folder)
    except ValueError as exc:
        raise _damaged(folder, located, str(exc), where) from exc
    if digest_of(files) != digest:
        raise _damaged(folder, located, "its files are not those that were fetched", where)
    mark_used(folder)
    return Fetched(folder, digest, files)


def _part(root: Path) -> Path:
    """A folder to fetch to; what fetches that were cut off left behind is removed."""
    for left in root.glob(".part-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_S:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root, prefix=".part-"))


def _name(part: Path, root: Path, digest: str, located: Located, where: str) -> Fetched:
    """Give a complete folder its name; another process may have been faster."""
    part.chmod(0o755)
    with suppress(OSError):
        part.rename(root / digest)
    kept = _kept(root, digest, located, where)
    if kept is None:
        raise OSError(f"{root / digest} cannot be made")
    return kept


def _note(note: Path, kept: Fetched, known: dict[str, Any] | None) -> None:
    """Remember what a URI was when it was first seen."""
    if known is not None:
        return
    sizes = {name: str((kept.folder / name).stat().st_size) for name in kept.files}
    text = json.dumps({"digest": kept.digest, "files": {name: [kept.files[name], sizes[name]] for name in kept.files}})
    with tempfile.NamedTemporaryFile("w", dir=note.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(note)


def _read(note: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        found = json.loads(note.read_bytes())
        if isinstance(found, dict) and {"digest", "files"} <= set(found):
            return found
    return None


def _column(known: dict[str, Any], place: int) -> dict[str, str]:
    return {name: str(pair[place]) for name, pair in known["files"].items()}


def _key(located: Located, place: str) -> str:
    parts = [shown_uri(place), located.pinned, shown_uri(located.location)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _local(location: str) -> Path | None:
    """The folder, when the files are on this machine."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if parts.scheme == "" or Path(location).is_absolute() else None


def _digests(folder: Path, located: Located, where: str) -> dict[str, str]:
    try:
        files = digest_files(folder)
    except ValueError as exc:
        raise VersionLoadError(
            f"{where}: {located.pinned}: {exc}", hint="log the model again, with files only", where=where
        ) from exc
    if "MLmodel" not in files:
        raise VersionLoadError(
            f"{where}: {located.pinned} is no model: it has no file MLmodel",
            hint="name the folder that was logged as a model",
            where=where,
        )
    return files


def _gone(located: Located, why: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the files of {located.pinned} are gone: {why}",
        hint="log and register the model again, or name another version",
        where=where,
    )


def _changed(located: Located, note: Path, names: list[str], where: str) -> VersionLoadError:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return VersionLoadError(
        f"{where}: {located.pinned} is not the model that it was: {shown} changed",
        hint=f"register it as a new version; or, to take it as it is now, remove {note}",
        where=where,
        files=names,
    )


def _damaged(folder: Path, located: Located, why: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the fetched copy of {located.pinned} was changed: {why}",
        hint=f"remove {folder}: the model is fetched again",
        where=where,
        path=str(folder),
    )

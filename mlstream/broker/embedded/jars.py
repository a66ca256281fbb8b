"""Kafka's jars in the user's cache: which they are, and that they are what the package pins. Starts nothing.

A jar is hashed once; a stamp (size, modification time, inode) beside the jars then keeps `up` quick, and a jar that was
changed since is hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock

from mlstream.broker.embedded.download import Jar, download
from mlstream.broker.embedded.report import Report, silent
from mlstream.errors import DownloadError
from mlstream.home import cache_root as cache_root

KAFKA_VERSION = "4.3.1"
SUMS = "jars.sha256"


@dataclass(frozen=True, slots=True)
class Classpath:
    """The jars that a node runs on, the version of Kafka among them, and whether they are the package's pinned ones."""

    jars: tuple[Path, ...]
    kafka_version: str
    pinned: bool

    def __str__(self) -> str:
        return os.pathsep.join(map(str, self.jars))


def pinned_jars() -> tuple[Jar, ...]:
    """The jars of the broker and their sums, as the package pins them."""
    text = resources.files(__package__).joinpath(SUMS).read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Jar(path=path, sha256=sha256) for sha256, path in rows)


def find_jars(own: str | Path | None = None, *, report: Report = silent) -> Classpath:
    """The jars to run: of the folder `own`, of `$MLSTREAM_KAFKA_JARS`, or of the cache, fetched when missing.

    Raises:
        DownloadError: a jar is not what the package pins, cannot be fetched, or the own folder holds no Kafka.
    """
    chosen = os.environ.get("MLSTREAM_KAFKA_JARS") if own is None else own
    if chosen:
        return own_jars(Path(chosen).expanduser().resolve())
    return Classpath(cached_jars(cache_root(), report=report), KAFKA_VERSION, pinned=True)


def own_jars(folder: Path) -> Classpath:
    """The jars of a folder that somebody else vouches for, for example `libs/` of a Kafka distribution.

    Raises:
        DownloadError: when it holds no broker.
    """
    jars = tuple(sorted(folder.glob("*.jar")))
    for part in ("kafka_2.", "kafka-clients-", "slf4j-api-"):
        if not any(jar.name.startswith(part) for jar in jars):
            raise DownloadError(
                f"{folder}: no {part}*.jar among {len(jars)} jars",
                hint="give the `libs` folder of a Kafka distribution, or nothing to have the jars fetched",
                folder=str(folder),
            )
    clients = next(jar.stem for jar in jars if jar.name.startswith("kafka-clients-"))
    return Classpath(jars, clients.removeprefix("kafka-clients-"), pinned=False)


def cached_jars(root: Path, *, report: Report = silent) -> tuple[Path, ...]:
    """The pinned jars below `root`, each checked against its sum; what is missing is fetched first.

    Several processes may do this at once: one fetches, the others wait for it.

    Raises:
        DownloadError: names the jar that is wrong, unknown or cannot be had.
    """
    folder = root / f"kafka-{KAFKA_VERSION}"
    pinned = pinned_jars()
    paths = tuple(folder / jar.name for jar in pinned)
    stamps = _stamps(folder)
    if _strangers(folder, pinned) or not all(_is_verified(path, stamps) for path in paths):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f"kafka-{KAFKA_VERSION}.lock"):
                download([jar for jar, path in zip(pinned, paths, strict=True) if not path.exists()], folder, report)
                _verify(folder, pinned)
        except OSError as exc:
            raise DownloadError(
                f"{folder}: Kafka's jars cannot be kept there: {exc}",
                hint="make room, or set MLSTREAM_CACHE to a folder that can be written to",
            ) from exc
    return paths


def _verify(folder: Path, pinned: tuple[Jar, ...]) -> None:
    strangers = _strangers(folder, pinned)
    if strangers:
        raise DownloadError(
            f"{strangers[0]}: not a jar of Kafka {KAFKA_VERSION}: no sum is pinned for it",
            hint="delete it and run the command again",
            jar=strangers[0].name,
        )
    stamps = _stamps(folder)
    for jar in pinned:
        path = folder / jar.name
        if _is_verified(path, stamps):
            continue
        stamp = _stamp(path)
        found = sha256_of(path)
        if found != jar.sha256:
            raise DownloadError(
                f"{path}: wrong checksum: SHA-256 is {found}, the package pins {jar.sha256}; nothing was started",
                hint="delete it and run the command again",
                jar=jar.name,
            )
        stamps[jar.name] = stamp
    # Without stamps (a cache that cannot be written to) the jars are hashed each time: slower, not wrong.
    with suppress(OSError):
        temporary = folder / f"verified.json.{os.getpid()}"
        temporary.write_text(json.dumps(stamps, indent=1), encoding="utf-8")
        temporary.replace(folder / "verified.json")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _strangers(folder: Path, pinned: tuple[Jar, ...]) -> list[Path]:
    names = {jar.name for jar in pinned}
    return sorted(path for path in folder.glob("*.jar") if path.name not in names)


def _is_verified(path: Path, stamps: Mapping[str, list[int]]) -> bool:
    return path.name in stamps and path.exists() and _stamp(path) == stamps[path.name]


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _stamps(folder: Path) -> dict[str, list[int]]:
    try:
        raw: Any = json.loads((folder / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(raw) if isinstance(raw, Mapping) else {}

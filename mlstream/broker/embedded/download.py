"""Fetch single jars from a Maven repository, by exact coordinates and checksum. Resolves no dependencies.

Resolving would let a transitive rule pick other versions than the tested ones; the list of jars is pinned instead. The
repositories are Maven Central and those of the user's jgo configuration (a mirror, for example).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlstream.broker.embedded.report import Progress, Report
from mlstream.errors import DownloadError

CONNECTIONS = 6
TRIES = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar by its path in a Maven repository: `group/as/folders/artifact/version/artifact-version.jar`."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.path).name

    @property
    def coordinates(self) -> tuple[str, str, str]:
        """Group, artifact and version."""
        *group, artifact, version, _ = PurePosixPath(self.path).parts
        return ".".join(group), artifact, version


def download(jars: Sequence[Jar], folder: Path, report: Report) -> None:
    """Fetch `jars` to `folder`. A jar appears there only when it is whole and its sum is right.

    A fetch that is cut off leaves the jars that it finished, and the next one goes on from there. The caller holds the
    cache's lock.

    Raises:
        DownloadError: names the jar that cannot be had or is not what it should be.
    """
    for leftover in folder.glob("part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not jars:
        return
    size_bytes = 0
    report(Progress("fetching Kafka", total=len(jars)))
    with tempfile.TemporaryDirectory(prefix="part-", dir=folder, ignore_cleanup_errors=True) as parts:
        pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="jars")
        try:
            futures = [pool.submit(_fetch, jar, Path(parts), folder) for jar in jars]
            for done, future in enumerate(as_completed(futures), start=1):
                size_bytes += future.result()
                report(Progress("fetching Kafka", done=done, total=len(jars), size_bytes=size_bytes))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _fetch(jar: Jar, parts: Path, folder: Path) -> int:
    group, artifact, version = jar.coordinates
    failure: Exception | None = None
    found = ""
    for number in range(TRIES):
        context = _repositories(parts / f"{jar.name}-{number}")
        try:
            path = Path(context.project(group, artifact).at_version(version).artifact().resolve())
        # What jgo raises when a repository cannot be reached or answers with an error.
        except (OSError, RuntimeError) as exc:
            failure = exc
            continue
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found == jar.sha256:
            size = path.stat().st_size
            path.replace(folder / jar.name)
            return size
    if found:
        raise DownloadError(
            f"{jar.name}: the repository's file has SHA-256 {found}, the package pins {jar.sha256}; "
            "it was not kept and nothing was started",
            hint="run the command again; if it stays so, the repository or a proxy on the way changes files",
            jar=jar.name,
        )
    raise DownloadError(
        f"{jar.name}: cannot be fetched: {failure}",
        hint="check the network and run the command again (it goes on where it was cut off), "
        "or give a folder with Kafka's jars: --jars DIR",
        jar=jar.name,
    ) from failure


def _repositories(local: Path) -> Any:
    # jgo takes 0.3 s to import and is needed once a machine.
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    remote = GlobalSettings.load().repositories
    remote.setdefault("central", MAVEN_CENTRAL_URL)
    return MavenContext(repo_cache=local, remote_repos=remote, timeout=30)

"""The JVM's ahead-of-time cache of Kafka's classes (JEP 483, JEP 514): a broker starts in half the time.

Made once for each Java and set of jars, by a short training run of a broker that is thrown away. It is a help, never a
need: the JVM ignores an archive that does not fit its build or its jars, and where none can be made, none is used.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from mlstream.broker.embedded import process
from mlstream.broker.embedded.java import jvm_flags
from mlstream.broker.embedded.nodes import Launch, known_state, stop_nodes
from mlstream.broker.embedded.plan import choose_cluster_id, plan_nodes
from mlstream.broker.embedded.report import Progress, silent
from mlstream.broker.embedded.state import State
from mlstream.errors import MlstreamError
from mlstream.home import Home

OLDEST_JAVA = 25
TRAINING_HEAP_MB = 256
# The JVM writes the archive when it ends: some seconds, more on a busy machine.
WRITE_TIMEOUT_S = 120.0
START_TIMEOUT_S = 120.0
RETRY_S = 24 * 3600
KEPT = 3
_PREFIX = "start-"
_TRAINING = "training-"


def with_archive(launch: Launch, root: Path) -> Launch:
    """`launch` with the archive for its Java and jars, which is made below `root` when there is none.

    Without an archive when this Java has no such thing, or making it failed within the last day.
    """
    if launch.java.version is None or launch.java.version < OLDEST_JAVA:
        return launch
    archive = root / f"{_PREFIX}{_key(launch)}.aot"
    failed = archive.with_suffix(".failed")
    if not archive.exists() and not _is_recent(failed):
        with suppress(OSError), FileLock(root / f"{_PREFIX}lock"):
            if not archive.exists() and not _is_recent(failed):
                _make(launch, archive, failed)
    return replace(launch, archive=archive) if archive.exists() else launch


def drop_archive(launch: Launch) -> Launch:
    """`launch` without its archive, which is deleted and not made again: it did not serve."""
    if launch.archive is not None:
        with suppress(OSError):
            launch.archive.with_suffix(".failed").write_text("a start with it failed\n", encoding="utf-8")
            launch.archive.unlink(missing_ok=True)
    return replace(launch, archive=None)


def _is_recent(failed: Path) -> bool:
    return failed.exists() and time.time() - failed.stat().st_mtime < RETRY_S


def _key(launch: Launch) -> str:
    """What the JVM compares before it uses an archive: its own files and the jars, by name, size and time."""
    home = launch.java.program.parent.parent
    parts = []
    for path in (launch.java.program, home / "lib" / "modules", *launch.classpath.jars):
        found = path.stat() if path.exists() else None
        parts.append(f"{path} {found and (found.st_size, found.st_mtime_ns)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _make(launch: Launch, archive: Path, failed: Path) -> None:
    launch.report(Progress("preparing quick starts, once for this machine"))
    _tidy(archive.parent)
    with tempfile.TemporaryDirectory(prefix=_TRAINING, dir=archive.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "made.aot"
        home = Home(Path(folder))
        flags = [*jvm_flags(heap_mb=TRAINING_HEAP_MB, profile="quick"), f"-XX:AOTCacheOutput={made}"]
        training = replace(launch, home=home, flags=flags, report=silent, timeout_s=START_TIMEOUT_S)
        nodes = plan_nodes((), port=None)
        state = State(
            cluster_id=choose_cluster_id(home, 1),
            kafka_version=launch.classpath.kafka_version,
            heap_mb=TRAINING_HEAP_MB,
            profile="quick",
            java=str(launch.java.program),
            nodes=nodes,
        )
        try:
            broker = training.start(state)
            process.stop(broker.pid, str(nodes[0].token), timeout_s=WRITE_TIMEOUT_S)
            made.replace(archive)
        except (MlstreamError, OSError) as exc:
            failed.write_text(f"{exc}\n", encoding="utf-8")


def _tidy(root: Path) -> None:
    """Keep the newest archives only (each environment has its own Java), and nothing of trainings that were cut off."""
    for suffix in ("aot", "failed"):
        old = sorted(root.glob(f"{_PREFIX}*.{suffix}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in old[KEPT - 1 :]:
            path.unlink(missing_ok=True)
    for leftover in root.glob(f"{_TRAINING}*"):
        with suppress(MlstreamError):
            state = known_state(Home(leftover))
            if state is not None:
                stop_nodes(Home(leftover), state, timeout_s=WRITE_TIMEOUT_S)
        shutil.rmtree(leftover, ignore_errors=True)

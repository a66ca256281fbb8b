"""Bring the embedded broker of a home up and down.

One command at a time works on a home's broker (a lock beside its state). What runs is decided by processes and
answers, never by the state file alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.broker.embedded.archive import drop_archive, with_archive
from mlstream.broker.embedded.jars import cache_root, find_jars
from mlstream.broker.embedded.java import find_java, jvm_flags
from mlstream.broker.embedded.nodes import EmbeddedBroker, Launch, answering, known_state, runs, stop_nodes
from mlstream.broker.embedded.plan import choose_cluster_id, plan_nodes
from mlstream.broker.embedded.probe import ask_cluster_id
from mlstream.broker.embedded.process import PAUSE_S
from mlstream.broker.embedded.report import Progress, Report, silent
from mlstream.broker.embedded.state import State
from mlstream.errors import BrokerError, BrokerUnavailable
from mlstream.home import Home

STOP_TIMEOUT_S = 30.0
PORT_TRIES = 3


def up(
    home: Home,
    *,
    port: int | None = None,
    heap_mb: int = 512,
    profile: str = "quick",
    jars: str | Path | None = None,
    timeout_s: float = 60.0,
    progress: Report | None = None,
) -> EmbeddedBroker:
    """Start the broker of `home`, or find it running; return when it answers.

    Args:
        home: whose broker; its data is in `home.broker` and is recovered when the last broker was killed.
        port: the loopback port for clients; None takes the last one when it is free, else another free one.
        heap_mb: the JVM's largest heap.
        profile: "quick" (small, and quick to start) or "bench" (the JVM's own choices for a server).
        jars: a folder with Kafka's jars, in the place of the cached ones.
        timeout_s: how long the broker may take until it answers.
        progress: is told each step.

    Raises:
        DownloadError: Kafka's jars are wrong or cannot be fetched; nothing was started.
        BrokerUnavailable: the broker did not start; names the log lines and the fix. Nothing is left running.
        BrokerError: it runs on another port, Java is missing, or the home cannot be written to.
        UsageError: a port, heap or profile that cannot be.
    """
    report = silent if progress is None else progress
    flags = jvm_flags(heap_mb=heap_mb, profile=profile)
    with _alone(home, timeout_s):
        last = known_state(home)
        if last is not None and any(runs(node) for node in last.nodes):
            return _join(last, port=port, timeout_s=timeout_s)
        launch = Launch(home, find_java(), flags, find_jars(jars, report=report), report, timeout_s)
        if launch.classpath.pinned:
            launch = with_archive(launch, cache_root())
        tries = 0
        while True:
            tries += 1
            state = _plan(launch, last, port=port, heap_mb=heap_mb, profile=profile)
            try:
                return launch.start(state)
            except BrokerUnavailable as exc:
                if exc.facts.get("kind") == "port" and port is None and tries < PORT_TRIES:
                    continue  # somebody else took a port between the choice and the start
                if exc.facts.get("kind") in ("unknown", "crash") and launch.archive is not None:
                    launch = drop_archive(launch)
                    continue
                raise


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `down` did: `pids` were ended, `killed` of them by force because they did not stop in time."""

    pids: tuple[int, ...]
    killed: tuple[int, ...]


def down(home: Home, *, timeout_s: float = STOP_TIMEOUT_S) -> Stopped:
    """Stop the broker of `home` and wait until it is gone; its data and its ports are kept.

    Args:
        home: whose broker; nothing happens when it does not run.
        timeout_s: how long it may take to close its files before it is killed.

    Raises:
        BrokerError: when it does not end.
    """
    if known_state(home) is None:
        return Stopped((), ())
    with _alone(home, timeout_s):
        state = known_state(home)
        return Stopped((), ()) if state is None else Stopped(*stop_nodes(home, state, timeout_s=timeout_s))


def _plan(launch: Launch, last: State | None, *, port: int | None, heap_mb: int, profile: str) -> State:
    """The cluster to start: the last one's nodes and identity, as far as there was one."""
    nodes = () if last is None else last.nodes
    planned = plan_nodes(nodes, port=port)
    if nodes and port is None and planned[0].port != nodes[0].port:
        launch.report(Progress(f"another program has port {nodes[0].port}; from now on it is {planned[0].port}"))
    return State(
        cluster_id=choose_cluster_id(launch.home, planned[0].node_id) if last is None else last.cluster_id,
        kafka_version=launch.classpath.kafka_version,
        heap_mb=heap_mb,
        profile=profile,
        java=str(launch.java.program),
        nodes=planned,
    )


def _join(state: State, *, port: int | None, timeout_s: float) -> EmbeddedBroker:
    """The running broker, once it answers."""
    first = state.nodes[0]
    if port is not None and port != first.port:
        raise BrokerError(
            f"the broker runs already, on port {first.port}, not {port}",
            hint=f"use {first.address}, or `mlstream broker down` first",
            port=first.port,
        )
    deadline = time.monotonic() + timeout_s
    for node in state.nodes:
        while ask_cluster_id(node.port) != state.cluster_id:
            if time.monotonic() > deadline or not runs(node):
                raise BrokerUnavailable(
                    f"the broker's process {node.pid} was started but does not answer on {node.address}",
                    hint="see `mlstream broker logs`; `mlstream broker down` ends it",
                    pid=node.pid,
                )
            time.sleep(PAUSE_S)
    return answering(state, started=False)


@contextmanager
def _alone(home: Home, timeout_s: float) -> Iterator[None]:
    """Be the only one who works on this home's broker. The lock goes with its process, however that ends."""
    try:
        home.broker.mkdir(parents=True, exist_ok=True)
        with FileLock(home.broker / "lock", timeout=timeout_s + STOP_TIMEOUT_S):
            yield
    except Timeout as exc:
        raise BrokerUnavailable(
            f"{home.broker}: another command is starting or stopping the broker", hint="wait for it and try again"
        ) from exc
    except OSError as exc:
        raise BrokerError(
            f"{home.broker}: cannot be written to: {exc.strerror or exc}",
            hint="make room or check the rights, or choose another home with --home",
        ) from exc

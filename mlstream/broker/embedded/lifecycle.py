"""The embedded broker's life: up, down, status.

One command at a time works on a home's broker (a lock beside the state); what runs is decided by processes and
answers, never by the state file alone.
"""

from __future__ import annotations

import base64
import re
import secrets
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.broker.embedded import logs, process
from mlstream.broker.embedded.jars import Classpath, find_jars
from mlstream.broker.embedded.java import Java, find_java, jvm_flags
from mlstream.broker.embedded.ports import is_free, pick_free
from mlstream.broker.embedded.probe import ask_cluster_id
from mlstream.broker.embedded.report import Progress, Report, silent
from mlstream.broker.embedded.settings import DATA, JVM_LOG, log4j_properties, server_properties
from mlstream.broker.embedded.state import HOST, Node, State, node_folder, read_state, write_state
from mlstream.errors import BrokerError, BrokerUnavailable, UsageError
from mlstream.home import Home

STOP_TIMEOUT_S = 30.0
FORMAT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """A broker that answers. `started` is False when it ran already."""

    bootstrap_servers: tuple[str, ...]
    pids: tuple[int, ...]
    cluster_id: str
    kafka_version: str
    started: bool

    @property
    def pid(self) -> int:
        """The first node's process."""
        return self.pids[0]


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
        port: the loopback port for clients; None takes the last one when it is free, else a free one.
        heap_mb: the JVM's largest heap.
        profile: "quick" (small and quick to start) or "bench" (the JVM's own choices for a server).
        jars: a folder with Kafka's jars, in the place of the cached ones.
        timeout_s: how long the broker may take until it answers.
        progress: is told each step.

    Raises:
        DownloadError: Kafka's jars are wrong or cannot be fetched; nothing was started.
        BrokerUnavailable: the broker did not start; names the log lines and the fix. Nothing is left running.
        BrokerError: it runs on another port, or Java is missing.
    """
    report = silent if progress is None else progress
    flags = jvm_flags(heap_mb=heap_mb, profile=profile)
    if port is not None and not 1 <= port <= 65_535:
        raise UsageError(f"port {port}: not a port", hint="use one from 1024 to 65535")
    with _writable(home), _alone(home, timeout_s):
        state = _found(home, read_state(home))
        if state is not None and any(_runs(node) for node in state.nodes):
            return _join(state, port=port, timeout_s=timeout_s)
        java = find_java()
        classpath = find_jars(jars, report=report)
        launch = _Launch(home, java, flags, classpath, report, timeout_s)
        for attempt in range(3):
            planned = _plan(home, state, port=port, heap_mb=heap_mb, profile=profile, launch=launch)
            try:
                return launch.start(planned)
            except BrokerUnavailable as exc:
                # Somebody else took a port between the choice and the start.
                if exc.facts.get("kind") != "port" or port is not None or attempt == 2:
                    raise
                state = read_state(home)
        raise AssertionError  # the loop returns or raises


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `down` did: `pids` were ended, `killed` of them by force because they did not stop in time."""

    pids: tuple[int, ...]
    killed: tuple[int, ...]


def down(home: Home, *, timeout_s: float = STOP_TIMEOUT_S) -> Stopped:
    """Stop the broker of `home` and wait until it is gone; its data and its ports are kept.

    Args:
        home: whose broker.
        timeout_s: how long it may take to close its files before it is killed.

    Raises:
        BrokerError: when it does not end.
    """
    if read_state(home) is None:
        return Stopped((), ())
    with _writable(home), _alone(home, timeout_s):
        state = _found(home, read_state(home))
        if state is None:
            return Stopped((), ())
        ended: list[int] = []
        killed: list[int] = []
        for node in state.nodes:
            if node.pid is not None and node.token is not None and _runs(node):
                ended.append(node.pid)
                if process.stop(node.pid, node.token, timeout_s=timeout_s):
                    killed.append(node.pid)
            state = state.with_node(replace(node, pid=None, token=None, started=None))
        write_state(home, state)
        return Stopped(tuple(ended), tuple(killed))


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: state is "running", "unresponsive", "died" or "stopped"."""

    node_id: int
    state: str
    pid: int | None
    address: str
    uptime_s: float | None
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The broker of a home: state is "running", "unresponsive", "died", "stopped" or "absent" (never started)."""

    state: str
    bootstrap_servers: tuple[str, ...] = ()
    cluster_id: str | None = None
    kafka_version: str | None = None
    heap_mb: int | None = None
    profile: str | None = None
    java: str | None = None
    nodes: tuple[NodeStatus, ...] = ()

    @property
    def data_bytes(self) -> int:
        """Disk space of all nodes' data."""
        return sum(node.data_bytes for node in self.nodes)


def status(home: Home) -> Status:
    """How the broker of `home` is: asks its processes and its ports, changes nothing.

    Raises:
        BrokerError: when the state cannot be read.
    """
    state = _found(home, read_state(home))
    if state is None:
        return Status("absent")
    nodes = tuple(_node_status(home, state, node) for node in state.nodes)
    kinds = [node.state for node in nodes]
    worst = next((kind for kind in ("died", "unresponsive") if kind in kinds), kinds[0])
    return Status(
        state=worst,
        bootstrap_servers=state.bootstrap_servers,
        cluster_id=state.cluster_id,
        kafka_version=state.kafka_version,
        heap_mb=state.heap_mb,
        profile=state.profile,
        java=state.java,
        nodes=nodes,
    )


def _node_status(home: Home, state: State, node: Node) -> NodeStatus:
    if node.pid is None:
        kind = "stopped" if node.token is None else "died"
    elif not _runs(node):
        kind = "died"
    else:
        kind = "running" if ask_cluster_id(node.port) == state.cluster_id else "unresponsive"
    alive = kind in ("running", "unresponsive")
    return NodeStatus(
        node_id=node.node_id,
        state=kind,
        pid=node.pid if alive else None,
        address=node.address,
        uptime_s=max(0.0, time.time() - node.started) if alive and node.started is not None else None,
        data_bytes=_disk_bytes(node_folder(home, node.node_id) / DATA),
    )


@dataclass(frozen=True, slots=True)
class _Launch:
    """All that it takes to start nodes, chosen once for one `up`."""

    home: Home
    java: Java
    flags: list[str]
    classpath: Classpath
    report: Report
    timeout_s: float

    def start(self, state: State) -> EmbeddedBroker:
        for node in state.nodes:
            self.prepare(state, node)
        # 1. the tokens are written down before anything starts: a starter that dies leaves no unknown process
        write_state(self.home, state)
        self.report(Progress(f"starting Kafka {state.kafka_version}"))
        marks = {node.node_id: logs.size_of(logs.log_path(self.folder(node))) for node in state.nodes}
        try:
            # 2. the processes, then their pids
            for node in state.nodes:
                pid = process.spawn(self.command(node), folder=self.folder(node), log=self.folder(node) / JVM_LOG)
                state = state.with_node(replace(node, pid=pid, started=process.started_at(pid)))
                write_state(self.home, state)
            # 3. they answer as this cluster
            deadline = time.monotonic() + self.timeout_s
            for node in state.nodes:
                _await_answer(self.home, state, node, deadline=deadline, since=marks[node.node_id])
        except BaseException:
            for node in state.nodes:
                if node.pid is not None and node.token is not None and _runs(node):
                    process.stop(node.pid, node.token, timeout_s=5.0)
                state = state.with_node(replace(node, pid=None, token=None, started=None))
            write_state(self.home, state)
            raise
        return _answering(state, started=True)

    def prepare(self, state: State, node: Node) -> None:
        """Write the node's files and format its data folder, if that was not done before."""
        folder = self.folder(node)
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "server.properties").write_text(server_properties(state, node), encoding="utf-8")
        (folder / "log4j2.properties").write_text(log4j_properties(), encoding="utf-8")
        if (folder / DATA / "meta.properties").exists():
            return
        self.report(Progress("formatting the data folder"))
        # Formatted beside and renamed, so that a format that was cut off is not taken for a whole one.
        fresh = f"{DATA}-{secrets.token_hex(4)}.new"
        (folder / "format.properties").write_text(server_properties(state, node, data=fresh), encoding="utf-8")
        arguments = ["kafka.tools.StorageTool", "format", "-t", state.cluster_id, "-c", "format.properties"]
        try:
            done = subprocess.run(
                [str(self.java.program), *self.flags, "-cp", str(self.classpath), *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FORMAT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise _failed("formatting the data folder took too long", logs.explain("")) from exc
        if done.returncode != 0:
            raise _failed("the data folder cannot be formatted", logs.explain(done.stdout + done.stderr))
        (folder / fresh).rename(folder / DATA)
        (folder / "format.properties").unlink()

    def command(self, node: Node) -> list[str]:
        return [
            str(self.java.program),
            *self.flags,
            f"-Dmlstream.token={node.token}",
            "-Dlog4j2.configurationFile=log4j2.properties",
            "-Dlog4j.shutdownHookEnabled=false",
            "-cp",
            str(self.classpath),
            "kafka.Kafka",
            "server.properties",
        ]

    def folder(self, node: Node) -> Path:
        return node_folder(self.home, node.node_id)


def _plan(home: Home, last: State | None, *, port: int | None, heap_mb: int, profile: str, launch: _Launch) -> State:
    """The nodes to start: those of last time on their ports as far as they are free, or one new node."""
    nodes = (Node(node_id=1, port=0, controller_port=0),) if last is None else last.nodes
    if port is not None and not is_free(port):
        raise BrokerUnavailable(
            f"port {port} on {HOST} is taken by another program",
            hint="give another one with --port, or none to have one chosen",
            port=port,
            kind="port",
        )
    taken: set[int] = set() if port is None else {port}
    planned: list[Node] = []
    for index, node in enumerate(nodes):
        client = port if index == 0 and port is not None else _keep_or_pick(node.port, taken)
        taken.add(client)
        controller = _keep_or_pick(node.controller_port, taken)
        taken.add(controller)
        if last is not None and port is None and client != node.port:
            launch.report(Progress(f"port {node.port} is taken by another program; using {client} from now on"))
        planned.append(Node(node_id=node.node_id, port=client, controller_port=controller, token=secrets.token_hex(16)))
    return State(
        cluster_id=_cluster_id(home, nodes[0]) if last is None else last.cluster_id,
        kafka_version=launch.classpath.kafka_version,
        heap_mb=heap_mb,
        profile=profile,
        java=str(launch.java.program),
        nodes=tuple(planned),
    )


def _keep_or_pick(port: int, taken: set[int]) -> int:
    return port if port > 0 and port not in taken and is_free(port) else pick_free(besides=frozenset(taken))


def _cluster_id(home: Home, node: Node) -> str:
    """The id that the data was formatted with (when only the state was lost), or a new one."""
    meta = node_folder(home, node.node_id) / DATA / "meta.properties"
    if meta.exists():
        found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return found.group(1)
    while True:
        chosen = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
        # As Kafka does: an id that starts with a dash looks like an option.
        if not chosen.startswith("-"):
            return chosen


def _found(home: Home, state: State | None) -> State | None:
    """`state` with the pids that a starter that died could not write down."""
    if state is None:
        return None
    for node in state.nodes:
        if node.pid is None and node.token is not None:
            pid = process.find_pid(node.token)
            if pid is not None:
                state = state.with_node(replace(node, pid=pid, started=process.started_at(pid)))
    return state


def _runs(node: Node) -> bool:
    return process.is_alive(node.pid, node.token)


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
            if time.monotonic() > deadline or not _runs(node):
                raise BrokerUnavailable(
                    f"the broker's process {node.pid} runs but does not answer on {node.address}",
                    hint="see `mlstream broker logs`; `mlstream broker down` ends it",
                    pid=node.pid,
                )
            time.sleep(process.PAUSE_S)
    return _answering(state, started=False)


def _answering(state: State, *, started: bool) -> EmbeddedBroker:
    return EmbeddedBroker(
        bootstrap_servers=state.bootstrap_servers,
        pids=tuple(node.pid for node in state.nodes if node.pid is not None),
        cluster_id=state.cluster_id,
        kafka_version=state.kafka_version,
        started=started,
    )


def _await_answer(home: Home, state: State, node: Node, *, deadline: float, since: int) -> None:
    folder = node_folder(home, node.node_id)
    while ask_cluster_id(node.port) != state.cluster_id:
        if not _runs(node):
            raise _failed(f"Kafka did not start on {node.address}", logs.find_reason(folder, since=since))
        if time.monotonic() > deadline:
            raise _failed(f"Kafka did not answer in time on {node.address}", logs.find_reason(folder, since=since))
        time.sleep(process.PAUSE_S)


def _failed(message: str, reason: logs.Reason) -> BrokerUnavailable:
    lines = "".join(f"\n    {line}" for line in reason.lines)
    return BrokerUnavailable(message + (f":{lines}" if lines else ""), hint=reason.hint, kind=reason.kind)


@contextmanager
def _alone(home: Home, timeout_s: float) -> Iterator[None]:
    """Be the only one who works on this home's broker. The lock goes with its process, however that ends."""
    try:
        with FileLock(home.broker / "lock", timeout=timeout_s + STOP_TIMEOUT_S):
            yield
    except Timeout as exc:
        raise BrokerUnavailable(
            f"{home.broker}: another command is starting or stopping the broker", hint="wait for it and try again"
        ) from exc


@contextmanager
def _writable(home: Home) -> Iterator[None]:
    try:
        home.broker.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as exc:
        raise BrokerError(
            f"{home.broker}: cannot be written to: {exc.strerror or exc}",
            hint="make room or check the rights, or choose another home with --home",
        ) from exc


def _disk_bytes(folder: Path) -> int:
    """Disk space that a folder takes; Kafka's index files are sparse, so lengths would say too much."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total

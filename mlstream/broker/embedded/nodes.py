"""Start and stop the nodes of one cluster, and recognise them. The caller holds the home's lock."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlstream.broker.embedded import logs, process
from mlstream.broker.embedded.jars import Classpath
from mlstream.broker.embedded.java import Java
from mlstream.broker.embedded.probe import ask_cluster_id
from mlstream.broker.embedded.report import Progress, Report
from mlstream.broker.embedded.settings import CLEAN_MARK, DATA, JVM_LOG, log4j_properties, server_properties
from mlstream.broker.embedded.state import Node, State, node_folder, read_state, write_state
from mlstream.errors import BrokerUnavailable
from mlstream.home import Home

FORMAT_TIMEOUT_S = 60.0
GIVE_UP_STOP_S = 5.0


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


@dataclass(frozen=True, slots=True)
class Launch:
    """All that it takes to start nodes, chosen once for one `up`."""

    home: Home
    java: Java
    flags: Sequence[str]
    classpath: Classpath
    report: Report
    timeout_s: float
    archive: Path | None = None

    def start(self, state: State) -> EmbeddedBroker:
        """Start all nodes of `state` and wait until they answer; on any failure none is left running.

        Raises:
            BrokerUnavailable: names the log lines and the fix.
        """
        for node in state.nodes:
            self.prepare(state, node)
        # 1. the tokens are written down before anything starts: a starter that dies leaves no unknown process
        write_state(self.home, state)
        self.report(Progress(f"starting Kafka {state.kafka_version}"))
        marks = {node.node_id: logs.size_of(logs.log_path(self.folder(node))) for node in state.nodes}
        try:
            # 2. the processes, then their pids
            for node in state.nodes:
                folder = self.folder(node)
                pid = process.spawn(self.command(node), folder=folder, log=folder / JVM_LOG)
                state = state.with_node(replace(node, pid=pid, started=process.started_at(pid)))
                write_state(self.home, state)
            # 3. they answer as this cluster
            deadline = time.monotonic() + self.timeout_s
            for node in state.nodes:
                self.await_answer(state, node, deadline=deadline, since=marks[node.node_id])
        except BaseException:
            stop_nodes(self.home, state, timeout_s=GIVE_UP_STOP_S)
            raise
        return answering(state, started=True)

    def prepare(self, state: State, node: Node) -> None:
        """Write the node's configuration, and format its data folder if that was not done before."""
        folder = self.folder(node)
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        formatted = (folder / DATA / "meta.properties").exists()
        killed = formatted and not (folder / DATA / CLEAN_MARK).exists()
        text = server_properties(state, node, killed=killed)
        (folder / "server.properties").write_text(text, encoding="utf-8")
        (folder / "log4j2.properties").write_text(log4j_properties(), encoding="utf-8")
        if formatted:
            return
        self.report(Progress("formatting the data folder"))
        # Formatted beside and renamed, so that a format that was cut off is not taken for a whole one.
        for leftover in folder.glob(f"{DATA}-*.new"):
            shutil.rmtree(leftover)
        fresh = folder / f"{DATA}-{secrets.token_hex(4)}.new"
        configuration = folder / "format.properties"
        configuration.write_text(server_properties(state, node, data=fresh.name), encoding="utf-8")
        self.format(folder, state.cluster_id, configuration)
        fresh.rename(folder / DATA)
        configuration.unlink()

    def format(self, folder: Path, cluster_id: str, configuration: Path, *, extra: Sequence[str] = ()) -> None:
        """Have Kafka's StorageTool format the data folder that `configuration` names, with `extra` options of it."""
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", configuration.name, *extra]
        try:
            done = subprocess.run(
                [*self.jvm(), *tool],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FORMAT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise _failed("formatting the data folder took too long", logs.Reason("timeout", (), "try again")) from exc
        if done.returncode != 0:
            raise _failed("the data folder cannot be formatted", logs.explain(done.stdout + done.stderr))

    def command(self, node: Node) -> list[str]:
        """The command line of a node, to be run in its folder."""
        return [*self.jvm(f"-D{process.MARK}={node.token}"), "kafka.Kafka", "server.properties"]

    def jvm(self, *flags: str) -> list[str]:
        """The JVM on the jars, up to the main class."""
        logging = ("-Dlog4j2.configurationFile=log4j2.properties", "-Dlog4j.shutdownHookEnabled=false")
        archive = () if self.archive is None else (f"-XX:AOTCache={self.archive}",)
        return [str(self.java.program), *self.flags, *archive, *flags, *logging, "-cp", str(self.classpath)]

    def await_answer(self, state: State, node: Node, *, deadline: float, since: int) -> None:
        """Wait until the node answers as a part of this cluster; give up when its process ends."""
        while ask_cluster_id(node.port) != state.cluster_id:
            if not runs(node):
                reason = logs.find_reason(self.folder(node), since=since)
                raise _failed(f"Kafka did not start on {node.address}", reason)
            if time.monotonic() > deadline:
                reason = replace(logs.find_reason(self.folder(node), since=since), kind="timeout")
                raise _failed(f"Kafka did not answer within {self.timeout_s:g} s on {node.address}", reason)
            time.sleep(process.PAUSE_S)

    def folder(self, node: Node) -> Path:
        """The node's folder."""
        return node_folder(self.home, node.node_id)


def stop_nodes(home: Home, state: State, *, timeout_s: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """End all nodes that run and write that down; the pids that were ended, and those that had to be killed."""
    ended: list[int] = []
    killed: list[int] = []
    for node in state.nodes:
        if node.pid is not None and node.token is not None and runs(node):
            ended.append(node.pid)
            if process.stop(node.pid, node.token, timeout_s=timeout_s):
                killed.append(node.pid)
        state = state.with_node(replace(node, pid=None, token=None, started=None))
    write_state(home, state)
    return tuple(ended), tuple(killed)


def known_state(home: Home) -> State | None:
    """The state of `home`'s broker, with the pids that a starter that died could not write down.

    Raises:
        BrokerError: when it cannot be read.
    """
    state = read_state(home)
    if state is None:
        return None
    for node in state.nodes:
        if node.pid is None and node.token is not None:
            pid = process.find_pid(node.token)
            if pid is not None:
                state = state.with_node(replace(node, pid=pid, started=process.started_at(pid)))
    return state


def runs(node: Node) -> bool:
    """Whether the node's process is alive, and is the node's."""
    return process.is_alive(node.pid, node.token)


def answering(state: State, *, started: bool) -> EmbeddedBroker:
    """The broker of a state whose nodes answer."""
    return EmbeddedBroker(
        bootstrap_servers=state.bootstrap_servers,
        pids=tuple(node.pid for node in state.nodes if node.pid is not None),
        cluster_id=state.cluster_id,
        kafka_version=state.kafka_version,
        started=started,
    )


def _failed(message: str, reason: logs.Reason) -> BrokerUnavailable:
    lines = "".join(f"\n    {line}" for line in reason.lines)
    return BrokerUnavailable(message + (f":{lines}" if lines else ""), hint=reason.hint, kind=reason.kind)

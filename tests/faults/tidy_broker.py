"""A Kafka whose housekeeping is quick: compaction and retention happen within a second, not within minutes.

The session's broker keeps Kafka's own pace (a look for what has expired every five minutes, the first after half a
minute), so a test would never see records go.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlstream.broker.embedded import logs, process
from mlstream.broker.embedded.archive import with_archive
from mlstream.broker.embedded.jars import KAFKA_VERSION, cache_root, find_jars
from mlstream.broker.embedded.java import find_java, jvm_flags
from mlstream.broker.embedded.nodes import Launch
from mlstream.broker.embedded.ports import pick_free
from mlstream.broker.embedded.report import silent
from mlstream.broker.embedded.settings import JVM_LOG, log4j_properties, server_properties
from mlstream.broker.embedded.state import Node, State
from mlstream.home import Home
from tests.guard import guarded

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

START_TIMEOUT_S = 120.0
HEAP_MB = 384
CLUSTER_ID = "tidy-cluster-for-tests"
HOUSEKEEPING = {
    "log.initial.task.delay.ms": 100,
    "log.retention.check.interval.ms": 100,
    "log.cleaner.backoff.ms": 100,
    # Not 0: a flush that is under way would meet a closed file, and the broker gives up its disk.
    "log.segment.delete.delay.ms": 3000,
}


@contextmanager
def running_tidy_broker(folder: Path) -> Iterator[Connection]:
    """Start such a broker in `folder`, and stop it at the end."""
    from mlstream.broker.connection import Connection

    (folder / "logs").mkdir(parents=True)
    port = pick_free()
    node = Node(1, port, pick_free(besides=frozenset({port})), token=secrets.token_hex(16))
    state = State(CLUSTER_ID, KAFKA_VERSION, HEAP_MB, "quick", "", (node,))
    housekeeping = "".join(f"{name}={value}\n" for name, value in HOUSEKEEPING.items())
    (folder / "server.properties").write_text(server_properties(state, node) + housekeeping)
    (folder / "log4j2.properties").write_text(log4j_properties())
    flags = jvm_flags(heap_mb=HEAP_MB, profile="quick")
    launch = Launch(Home(folder), find_java(), flags, find_jars(), silent, START_TIMEOUT_S)
    launch = with_archive(launch, cache_root())
    launch.format(folder, CLUSTER_ID, folder / "server.properties")
    token = str(node.token)
    pid = process.spawn(launch.command(node), folder=folder, log=folder / JVM_LOG)
    try:
        with guarded(pid, token):
            _await_start(folder, replace(node, pid=pid))
            yield Connection((node.address,))
            process.stop(pid, token, timeout_s=20)
    finally:
        if process.is_alive(pid, token):
            process.stop(pid, token, timeout_s=20)


def _await_start(folder: Path, node: Node) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    log = logs.log_path(folder)
    while not (log.exists() and "Kafka Server started" in log.read_text()):
        if not process.is_alive(node.pid, node.token) or time.monotonic() > deadline:
            raise RuntimeError("the tidy broker did not start:\n" + "\n".join(logs.recent_lines(folder, 40)))
        time.sleep(0.05)

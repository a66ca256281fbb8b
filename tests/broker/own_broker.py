"""A Kafka of a test's own, with settings and features that the session's broker has not."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
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


@contextmanager
def running_own_broker(
    folder: Path, cluster_id: str, *, settings: Mapping[str, int | str] | None = None, features: Sequence[str] = ()
) -> Iterator[Connection]:
    """Start a broker in `folder`, and stop it at the end.

    Args:
        settings: beside those of an embedded broker.
        features: `name=level`, at which its data folder is formatted instead of its newest.
    """
    from mlstream.broker.connection import Connection

    (folder / "logs").mkdir(parents=True)
    port = pick_free()
    node = Node(1, port, pick_free(besides=frozenset({port})), token=secrets.token_hex(16))
    state = State(cluster_id, KAFKA_VERSION, HEAP_MB, "quick", "", (node,))
    more = "".join(f"{name}={value}\n" for name, value in (settings or {}).items())
    (folder / "server.properties").write_text(server_properties(state, node) + more)
    (folder / "log4j2.properties").write_text(log4j_properties())
    flags = jvm_flags(heap_mb=HEAP_MB, profile="quick")
    launch = Launch(Home(folder), find_java(), flags, find_jars(), silent, START_TIMEOUT_S)
    launch = with_archive(launch, cache_root())
    options = [option for feature in features for option in ("--feature", feature)]
    launch.format(folder, cluster_id, folder / "server.properties", extra=options)
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
            raise RuntimeError("the test's own broker did not start:\n" + "\n".join(logs.recent_lines(folder, 40)))
        time.sleep(0.05)

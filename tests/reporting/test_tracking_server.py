"""Recording on an MLflow server, and what happens when there is none."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlstream.errors import TrackingError
from mlstream.home import Home
from mlstream.reporting.server import Server, serving
from mlstream.reporting.tracking import newest, track
from tests.conftest import Called
from tests.reporting.examples import digest, example_comparison, example_run

if TYPE_CHECKING:
    from tests.reporting.conftest import Reader


@pytest.fixture(scope="module")
def server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server on a store of its own."""
    home = Home(tmp_path_factory.mktemp("served"))
    (home.path / "mlflow.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(home) as started:
            started.wait_ready()
            yield started


@pytest.fixture
def named(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, named by the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    return server.url


def test_a_comparison_goes_to_the_server_that_the_environment_names(
    named: str, home: Home, reader: Reader, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tracked = track(example_comparison(), example_run(), home=home)
    assert tracked.url == f"{named}/{tracked.page}"
    assert track(example_comparison(), example_run(), home=home) == tracked == newest(home)
    assert capsys.readouterr() == ("", "")
    assert not home.path.exists()
    with reader(named) as client:
        parent = client.get_run(tracked.run_id)
        chart = Path(client.download_artifacts(tracked.run_id, "chart.png", str(tmp_path)))
    assert parent.inputs.dataset_inputs[0].dataset.digest == digest("snapshot")[:32]
    assert chart.read_bytes().startswith(b"\x89PNG\r\n")
    page = f"{named}/get-artifact?path=chart.svg&run_uuid={tracked.run_id}"
    with urllib.request.urlopen(page, timeout=30) as answer:  # the address that the run's page shows the chart from
        assert b"<svg" in answer.read()


def test_the_ui_of_a_server_is_the_servers_own(
    named: str, home: Home, bare_cli: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)  # bare_cli has cleared it
    tracked = track(example_comparison(), example_run(), home=home)
    shown = bare_cli("ui", "--no-open")
    assert shown.exit_code == 0
    assert shown.stdout == f"{tracked.url}\n"
    assert "has the UI" in shown.stderr


def test_a_server_that_ends_by_itself_is_an_error_with_its_log(stocked: Home) -> None:
    with serving(stocked) as started:
        os.kill(started.process.pid, signal.SIGKILL)
        with pytest.raises(TrackingError, match="ended with exit code -9") as caught:
            started.wait_ready()
    assert str(stocked.path / "mlflow-ui.log") in str(caught.value.hint)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_dead_server_is_given_up_on_within_seconds(scheme: str, home: Home, empty_store: Path) -> None:
    uri = f"{scheme}://me:secret@127.0.0.1:{unused_port()}"
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"does not answer") as caught:
        track(example_comparison(), example_run(), home=home, uri=uri)
    assert time.monotonic() - started < 10
    assert uri.partition("@")[2] in caught.value.message
    assert "secret" not in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value.hint)


def test_a_server_that_says_nothing_is_given_up_on_when_the_user_says(
    home: Home, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(TrackingError, match="does not answer"):
            newest(home, uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - started < 8


def test_a_server_that_is_no_mlflow_is_an_error_that_names_it(home: Home, empty_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"http://127.0.0.1:{other.getsockname()[1]}"
        threading.Thread(target=_answer_not_found, args=(other,), daemon=True).start()
        with pytest.raises(TrackingError) as caught:
            newest(home, uri=address)
        other.shutdown(socket.SHUT_RDWR)
    assert caught.value.message.startswith(f"MLflow at {address}: API request")


def _answer_not_found(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope")

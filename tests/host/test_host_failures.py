"""Whatever a model does to its process is an error that names it; nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mlstream.errors import HostFailed, MlstreamError, PredictError, VersionError, VersionLoadError
from mlstream.host.host import Host
from mlstream.host.log import tail_of
from mlstream.host.spec import HostSpec, Limits
from tests.host.conftest import COORDINATES, FIRST, MODELS, ROWS, MakeHost, frame
from tests.host.test_host import gone

AT = r", in the batch that starts at orders\[2\]@1200"
BATCH = frame().drop(COORDINATES)


def failure(host: Host, after: int = 0) -> MlstreamError:
    for _ in range(after):
        assert host.predict(BATCH, first=FIRST).predictions.height == ROWS
    with pytest.raises(MlstreamError) as caught:
        host.predict(BATCH, first=FIRST)
    return caught.value


@pytest.mark.parametrize(
    ("how", "message", "last_line"),
    [
        ("short", r"predict returned 999 rows for 1,000 records", "about to go wrong: short"),
        ("nan", r"prediction is nan in row 3 of the batch", "about to go wrong: nan"),
        ("words", r"prediction is String; expected numbers", "about to go wrong: words"),
        ("nothing", r"predict returned a builtins\.NoneType", "about to go wrong: nothing"),
        ("raises", r"predict raised LookupError: no such customer", "LookupError: no such customer"),
    ],
)
def test_a_wrong_answer_is_the_same_error_as_in_our_own_process(
    make_host: MakeHost, log: Path, how: str, message: str, last_line: str
) -> None:
    found = failure(make_host("Bad", {"how": how, "after": 1}), after=1)
    assert type(found) is PredictError
    assert re.match(rf"version v1, batch that starts at orders\[2\]@1200: {message}", found.message)
    assert tail_of(log)[-1] == last_line
    assert log.read_text().count("Traceback") == (how == "raises")


@pytest.mark.parametrize(
    ("how", "message", "reason"),
    [
        ("ends", r"ended by itself with exit code 7", "exit"),
        ("kills", r"was ended by SIGKILL", "signal"),
        ("aborts", r"was ended by SIGABRT", "signal"),
        ("crashes", r"was ended by SIGSEGV", "signal"),
        ("babbles", r"sent what is no answer", "protocol"),
    ],
)
def test_a_crash_is_named_with_the_batch(make_host: MakeHost, log: Path, how: str, message: str, reason: str) -> None:
    host = make_host("Bad", {"how": how, "after": 1})
    found = failure(host, after=1)
    assert isinstance(found, HostFailed)
    assert re.fullmatch(rf"version v1: its process {message}{AT}", found.message)
    assert found.reason == reason
    assert f"about to go wrong: {how}" in log.read_text()
    if how in ("aborts", "crashes"):
        assert re.search(r'File ".*/shop/models\.py", line \d+ in ' + how, log.read_text())
    assert gone([host.pid])


def test_a_model_that_leaves_is_named_by_what_it_raised(make_host: MakeHost) -> None:
    found = failure(make_host("Bad", {"how": "leaves"}))
    assert type(found) is VersionError
    assert found.message == "SystemExit: enough"


def test_a_model_that_closes_the_pipes_is_not_waited_for_forever(make_host: MakeHost) -> None:
    host = make_host("Bad", {"how": "closes"})
    found = failure(host)
    assert isinstance(found, HostFailed)
    assert re.fullmatch(rf"version v1: its process closed the pipe of its answers{AT}", found.message)
    assert gone([host.pid])


@pytest.mark.parametrize("how", ["sleeps", "spins"])
def test_a_model_that_hangs_is_ended_and_its_line_named(make_host: MakeHost, log: Path, how: str) -> None:
    host = make_host("Bad", {"how": how, "after": 1}, limits=Limits(timeout_s=1.5))
    began = time.monotonic()
    found = failure(host, after=1)
    assert time.monotonic() - began < 10
    assert isinstance(found, HostFailed)
    assert found.reason == "timeout"
    assert re.match(
        rf"version v1: its process took longer than 1\.5 s and was at shop/models\.py:{last_line_of(how)} in {how}{AT}",
        found.message,
    )
    assert "longer `timeout_s`" in str(found.hint)
    assert tail_of(log)[-1].endswith(f"in {how}")
    assert gone([host.pid])


def test_what_a_model_started_ends_with_it(make_host: MakeHost) -> None:
    host = make_host("Bad", {"how": "sleeps"}, limits=Limits(timeout_s=1.5))
    children: list[int] = []
    model = psutil.Process(host.pid)

    def look() -> None:
        while not children:
            children.extend(child.pid for child in model.children())
            time.sleep(0.02)

    threading.Thread(target=look, daemon=True).start()
    assert isinstance(failure(host), HostFailed)
    assert children
    assert gone([host.pid, *children])


@pytest.mark.parametrize("how", ["eats", "feeds"])
def test_a_model_that_takes_too_much_memory_is_ended_also_when_its_children_do(make_host: MakeHost, how: str) -> None:
    host = make_host("Bad", {"how": how, "after": 1}, limits=Limits(memory_bytes=500_000_000, timeout_s=60))
    found = failure(host, after=1)
    assert isinstance(found, HostFailed)
    match = re.match(r"version v1: its process used (\d+) MB of memory, and its limit is 500 MB", found.message)
    assert match is not None
    assert 500 < int(match[1]) < 1000
    assert found.message.endswith(AT.replace("\\", ""))
    assert gone([host.pid])


def test_limits_that_are_kept_change_nothing(make_host: MakeHost) -> None:
    host = make_host("Plain", limits=Limits(memory_bytes=500_000_000, timeout_s=5))
    assert host.predict(BATCH).predictions.height == ROWS
    host.finish()


def test_a_version_that_cannot_be_loaded_says_why(make_host: MakeHost, log: Path) -> None:
    with pytest.raises(VersionLoadError, match=r"version v1: broken raised RuntimeError at shop/models\.py:\d+: no we"):
        make_host("broken")
    assert tail_of(log)[-1] == "RuntimeError: no weights today"
    host = make_host("endless", limits=Limits(load_timeout_s=4), load=False)
    with pytest.raises(HostFailed, match=r"took longer than 4 s and was at shop/models.py:\d+ in endless, while"):
        host.load()
    assert gone([host.pid])


def test_code_that_changed_since_it_was_digested_is_not_run(make_host: MakeHost, project: Path) -> None:
    host = make_host("Plain", load=False)
    (project / "shop" / "models.py").write_text(MODELS + "# changed\n")
    with pytest.raises(VersionLoadError, match=r"version v1: shop/models\.py changed while the version was"):
        host.load()


@pytest.mark.parametrize("how", ["sleeps", "spins"])
def test_it_ends_with_the_process_that_started_it(
    make_spec: Callable[..., HostSpec], log: Path, how: str, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(make_spec("Bad", {"how": how}).to_json()))
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(spec), str(log)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 20
    while f"about to go wrong: {how}" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    left = [pid, *(child.pid for child in psutil.Process(pid).children())]
    assert len(left) == (2 if how == "sleeps" else 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert gone(left)


WORKER = """\
import json, sys
from pathlib import Path
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec
from tests.host.conftest import COORDINATES, frame
host = Host(HostSpec.from_json(json.loads(Path(sys.argv[1]).read_text())), log=Path(sys.argv[2]))
host.load()
print(host.pid, flush=True)
host.predict(frame().drop(COORDINATES))
"""


def last_line_of(method: str) -> int:
    """Where the last statement of a method stands in the models' file."""
    lines = MODELS.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(f"    def {method}("))
    while lines[number].strip():
        number += 1
    return number

"""Models run in processes of their own: what they do to these is theirs, and the run goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream import Run, run
from tests.runs.conftest import ROWS, Shop
from tests.runs.readers import read_topic

pytestmark = pytest.mark.broker
MODELS = """\
import itertools
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from shop.models import Linear


class Hangs(Linear):
    def predict(self, frame):
        print("thinking")
        return sum(itertools.repeat(1))


class Eats(Linear):
    def predict(self, frame):
        kept = []
        while True:
            kept.append(np.ones(1_000_000))
            time.sleep(0.001)


class Tells(Linear):
    def __init__(self, file):
        super().__init__()
        self.file = Path(file)

    def predict(self, frame):
        loaded = sorted({name.partition(".")[0] for name in sys.modules})
        told = {"environment": dict(os.environ), "modules": loaded, "columns": frame.columns}
        self.file.write_text(json.dumps(told))
        return super().predict(frame)


class Slow(Linear):
    def __init__(self, file):
        super().__init__()
        self.file = Path(file)

    def predict(self, frame):
        self.file.write_text(str(os.getpid()))
        time.sleep(0.3)
        return super().predict(frame)
"""


@pytest.fixture(scope="module")
def rough(
    make_shop: Callable[[str], Shop], orders: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shop, Run, Path]:
    """A shop after a run of models that hang and eat beside good ones, with secrets in the environment."""
    shop = make_shop(orders)
    (shop.root / "shop" / "rough.py").write_text(MODELS)
    told = tmp_path_factory.mktemp("told") / "told.json"
    config = shop.config(
        {
            "hangs": {"model": "shop/rough.py:Hangs", "timeout_s": 3},
            "eats": {"model": "shop/rough.py:Eats", "memory": "600MB"},
            "tells": {"model": "shop/rough.py:Tells", "parameters": {"file": str(told)}, "memory": "2GB"},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
        patch.setenv("MLSTREAM_BOOTSTRAP_SERVERS", shop.connection.servers)
        return shop, run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home), told


def test_a_model_that_hangs_or_eats_fails_alone_and_says_where(rough: tuple[Shop, Run, Path]) -> None:
    shop, done, _ = rough
    assert done.status == "partial"
    hangs, eats, tells = (done.versions[name] for name in ("hangs", "eats", "tells"))
    assert (hangs.status, eats.status, tells.status) == ("failed", "failed", "complete")
    assert re.match(
        r"version hangs: its process took longer than 3 s and was at shop/rough\.py:16 in predict, in the batch that "
        rf"starts at {shop.topic}\[\d\]@\d+",
        str(hangs.error),
    )
    assert "longer `timeout_s`" in str(hangs.hint)
    assert "thinking" in hangs.log.read_text()
    assert hangs.log_tail[-1].endswith("line 16 in predict")
    assert re.match(r"version eats: its process used \d+ MB of memory, and its limit is 600 MB", str(eats.error))
    assert (hangs.restarts, eats.restarts) == (0, 0)
    assert len(read_topic(shop.connection, str(tells.topic))) == ROWS
    assert tells.measured is not None
    assert tells.measured.memory_bytes > 100_000_000


def test_a_model_knows_neither_the_broker_nor_a_secret(rough: tuple[Shop, Run, Path]) -> None:
    shop, _, file = rough
    told = json.loads(file.read_text())
    port = shop.connection.servers.rpartition(":")[2]
    assert "s3cret" not in json.dumps(told["environment"])
    assert port not in json.dumps(told["environment"])
    assert told["environment"]["OMP_NUM_THREADS"] == "1"
    assert set(told["modules"]).isdisjoint({"kafka", "pydantic", "mlflow", "fsspec"})
    assert told["columns"] == ["x", "n"]


def test_a_model_that_somebody_killed_while_it_got_on_is_started_again(shop: Shop, tmp_path: Path) -> None:
    (shop.root / "shop" / "rough.py").write_text(MODELS)
    file = tmp_path / "pid"
    config = shop.config({"v1": {"model": "shop/rough.py:Slow", "parameters": {"file": str(file)}}}, batch_rows=128)
    killed: list[int] = []

    def kill() -> None:
        while not file.exists() or not file.read_text():
            time.sleep(0.01)
        time.sleep(0.7)  # it has answered a batch or two
        killed.append(int(file.read_text()))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    found = done.versions["v1"]
    assert (found.status, found.restarts, found.rows) == ("complete", 1, ROWS)
    assert int(file.read_text()) != killed[0]
    seen = [
        (record.partition, record.json["source_offset"]) for record in read_topic(shop.connection, str(found.topic))
    ]
    assert len(seen) == len(set(seen)) == ROWS
    assert "its process was ended by SIGKILL" in found.log.read_text()

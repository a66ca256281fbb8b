"""What ends a run that is no fault of a version: what is committed stays, and can be gone on with.

Another process takes the run over (in a shared home, from another machine, say), the cluster is gone, or the store
fails when all is done.
And a topic that somebody deletes under a run is noticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlstream import Run, open_run, run
from mlstream.broker.admin import create_topic, delete_topic
from mlstream.errors import RunIncomplete, StoreError, UnknownTopic
from mlstream.home import Home
from mlstream.runs import shard
from mlstream.runs.attempt import Listener, Progress
from mlstream.runs.shard import Shard
from mlstream.streams.transact import TransactionWriter
from tests.proxy import FaultProxy
from tests.runs.conftest import ROWS, Shop
from tests.runs.in_process import work_here
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker
HELD = '''

class Held(Linear):
    """The first process that is asked waits for a file in its first batch; others do not."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.is_new = True

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        if self.is_new and not (self.folder / "asked").exists():
            (self.folder / "asked").touch()
            while not (self.folder / "go").exists():
                time.sleep(0.02)
        self.is_new = False
        return super().predict(frame)
'''


def test_a_process_whose_run_is_taken_over_ends_and_leaves_topics_and_record_to_the_other(
    shop: Shop, tmp_path: Path
) -> None:
    with (shop.root / "shop" / "models.py").open("a") as models:
        models.write(HELD)
    config = shop.config({"v1": {"model": "shop/models.py:Held", "parameters": {"folder": str(tmp_path)}}})
    command = [sys.executable, "-m", "mlstream.cli.main", "run", str(config.path), "--snapshot", shop.snapshot]
    servers = shop.connection.servers
    variables = {**os.environ, "MLSTREAM_HOME": str(shop.home.path), "MLSTREAM_BOOTSTRAP_SERVERS": servers}
    first = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "asked").exists():
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # The locks of a home are those of its machine: here is what another one sees.
        elsewhere = Home(tmp_path / "elsewhere")
        shutil.copytree(shop.home.path, elsewhere.path)
        second = run(config, snapshot=shop.snapshot, connection=shop.connection, home=elsewhere)
        assert second.status == "complete"
        (tmp_path / "go").touch()
        _, said = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 1
    assert f"error: run {second.id[:12]}: another process took it over, and goes on with it" in said
    assert "`mlstream run ls` shows how it fares" in said
    record = open_run(home=shop.home)
    assert (record.id, record.status) == (second.id, "incomplete")
    places = [
        (found.partition, found.json["source_offset"])
        for found in read_topic(shop.connection, str(second.versions["v1"].topic))
    ]
    assert len(places) == len(set(places)) == ROWS


def test_a_run_whose_cluster_is_gone_keeps_its_topics_and_goes_on_once_it_is_back(shop: Shop, tmp_path: Path) -> None:
    """It takes the ten seconds for which a worker waits for the cluster."""
    with (shop.root / "shop" / "models.py").open("a") as models:
        models.write(HELD)
    config = shop.config({"v1": {"model": "shop/models.py:Held", "parameters": {"folder": str(tmp_path)}}})
    with FaultProxy() as proxy:
        given = proxy.through(shop.connection)

        def cut() -> None:
            while not (tmp_path / "asked").exists():
                time.sleep(0.02)
            proxy.refuse()
            (tmp_path / "go").touch()

        threading.Thread(target=cut, daemon=True).start()
        with pytest.raises(
            RunIncomplete, match=r"was cut off: version v1: .*no answer.*; then the same command goes on where it"
        ):
            run(config, snapshot=shop.snapshot, connection=given, home=shop.home)
        first = open_run(home=shop.home)
        assert first.status == "incomplete"
        proxy.accept()
        second = run(config, snapshot=shop.snapshot, connection=given, home=shop.home)
    assert (second.status, second.id) == ("complete", first.id)
    assert len(read_topic(shop.connection, str(first.versions["v1"].topic))) == ROWS


def test_a_version_whose_output_cannot_be_frozen_keeps_its_topic_and_the_same_run_goes_on(shop: Shop) -> None:
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}})
    objects, away = shop.home.path / "objects", shop.home.path / "away"

    def fail(progress: Progress) -> None:
        if progress.stage == "freezing" and not away.exists():
            objects.rename(away)
            objects.touch()

    def again(progress: Listener | None = None) -> Run:
        return run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, progress=progress)

    with pytest.raises(
        StoreError, match=r"the store cannot be used: .*; then the same command goes on where it stopped"
    ):
        again(fail)
    first = open_run(home=shop.home)
    assert first.status == "incomplete"
    assert str(first.versions["v1"].topic) in topics(shop.connection)
    objects.unlink()
    away.rename(objects)
    second = again()
    assert (second.status, second.id) == ("complete", first.id)
    assert second.versions["v1"].resumed == ROWS
    assert len(read_topic(shop.connection, str(first.versions["v1"].topic))) == ROWS


@pytest.mark.parametrize("made_again", [False, True])
def test_a_topic_that_is_deleted_under_a_run_is_noticed_and_one_in_its_place_is_not_touched(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, made_again: bool
) -> None:
    work_here(monkeypatch)
    monkeypatch.setattr(shard, "MOST_ROWS", 64)
    monkeypatch.setitem(TransactionWriter.__init__.__kwdefaults__ or {}, "stall_s", 1.0)
    write, batches = Shard.write, 0

    def and_delete(self: Shard, columns: pa.Table, **options: Any) -> None:
        nonlocal batches
        batches += 1
        if batches == 4:
            delete_topic(self._client, self.lane.topic)
            if made_again:
                create_topic(self._client, self.lane.topic, partitions=3)
        write(self, columns, **options)

    monkeypatch.setattr(Shard, "write", and_delete)
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}})
    if not made_again:
        with pytest.raises(UnknownTopic, match=r"there is no topic 'shop-.*\.v1\."):  # in a process of its own it fails
            run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
        return
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert done.status == "failed"
    assert "the first that is missing is for offset 0" in str(done.versions["v1"].error)
    assert open_run(home=shop.home).versions["v1"].topic is None
    assert [name for name in topics(shop.connection) if name.startswith(f"{config.experiment}.v1.")]

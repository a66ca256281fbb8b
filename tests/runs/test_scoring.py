"""The model works while what it answered is written; what comes of it is as if all were done one after the other.

The worker is in this process here, so that its broker and its encoder can be disturbed; the model is in its own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import mlstream
from mlstream import Connection, Run
from mlstream.errors import PredictError
from mlstream.runs import shard
from mlstream.runs.layout import Encoder
from tests.runs.conftest import ROWS, Shop, frame
from tests.runs.in_process import fail_commits, work_here
from tests.runs.readers import read_topic

pytestmark = pytest.mark.broker

BATCH_ROWS = 16
WAIT_S = 20.0
TOUCHES = '''

class Touches(Linear):
    """Leaves a file for each batch that it was asked for."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        (self.folder / str(frame["n"][0])).touch()
        return super().predict(frame)
'''


@pytest.fixture
def worker_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a run work in this process, one after the other, a transaction a batch."""
    work_here(monkeypatch)
    monkeypatch.setattr(shard, "MOST_ROWS", BATCH_ROWS)


@pytest.fixture(scope="module")
def lone(broker: Connection) -> str:
    """A topic with the orders in one partition: the model is asked for the batch after one that is not yet written."""
    topic = f"lone-{secrets.token_hex(4)}"
    mlstream.publish(topic, frame().with_columns(partition=pl.lit(0)), partitions=1, connection=broker)
    return topic


@pytest.fixture(params=["one partition", "several"])
def any_shop(request: pytest.FixtureRequest, make_shop: Callable[[str], Shop], lone: str, orders: str) -> Shop:
    return make_shop(lone if request.param == "one partition" else orders)


def run(shop: Shop, model: str, **parameters: object) -> Run:
    config = shop.config(
        {"v1": {"model": f"shop/models.py:{model}", "parameters": parameters}}, task="regression", batch_rows=BATCH_ROWS
    )
    return mlstream.run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, force=True)


@pytest.mark.usefixtures("worker_here")
def test_the_model_is_asked_for_a_batch_while_the_one_before_is_encoded(
    any_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (any_shop.root / "shop" / "models.py").open("a") as models:
        models.write(TOUCHES)
    batches, encode = 0, Encoder.encode
    whole = sum(-(-rows // BATCH_ROWS) for rows in counts(any_shop))

    def waiting(self: Encoder, source: pl.DataFrame, predictions: pl.DataFrame) -> pa.Table:
        nonlocal batches
        batches += 1
        deadline = time.monotonic() + WAIT_S
        while batches < whole and len(list(tmp_path.iterdir())) <= batches:
            assert time.monotonic() < deadline, "the model waits for what it answered before to be written"
            time.sleep(0.001)
        return encode(self, source, predictions)

    monkeypatch.setattr(Encoder, "encode", waiting)
    assert run(any_shop, "Touches", folder=str(tmp_path)).status == "complete"
    assert batches == whole


@pytest.mark.usefixtures("worker_here")
def test_transactions_that_fail_while_the_model_is_ahead_lose_and_double_nothing(
    any_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(any_shop, "Linear").predictions("v1").collect()
    failed = fail_commits(monkeypatch, 4)
    done = run(any_shop, "Linear")
    assert failed() > 5
    assert done.predictions("v1").collect().equals(expected)
    found = [
        (record.partition, record.json["source_offset"])
        for record in read_topic(any_shop.connection, str(done.outcome("v1").topic))
    ]
    assert found == [(part, offset) for part, rows in enumerate(counts(any_shop)) for offset in range(rows)]


@pytest.mark.usefixtures("worker_here")
def test_what_was_answered_before_a_model_failed_is_handed_over_first(
    make_shop: Callable[[str], Shop], lone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], shard.Shard.write

    def noted(self: shard.Shard, columns: pa.Table, **options: object) -> None:
        write(self, columns, **options)  # type: ignore[arg-type]
        written.append(self.row)

    monkeypatch.setattr(shard.Shard, "write", noted)
    with pytest.raises(PredictError, match=r"\[0\]@288: predict raised RuntimeError"):
        run(make_shop(lone), "Bad", how="raise", at=300)
    assert written == [row + BATCH_ROWS for row in range(0, 288, BATCH_ROWS)]


def counts(shop: Shop) -> list[int]:
    """Orders in each partition."""
    if shop.topic.startswith("lone"):
        return [ROWS]
    return frame().group_by("partition").len().sort("partition")["len"].to_list()

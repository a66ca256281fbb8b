"""Batches that no current broker sends: message formats of before Kafka 0.11, and such as are yet to come.

Kafka 4 has no way to keep the old ones any more (KIP-724), so they are golden bytes on a played cluster. What they
mean to the decoder alone is in `tests/wire/test_golden.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.broker.client import Client
from mlstream.errors import CorruptBatch, MlstreamError, UnsupportedFormat
from mlstream.home import Home
from mlstream.snapshots.capture import Options, freeze, select
from mlstream.snapshots.store import Store
from tests.broker.scripted import Cluster, client_of
from tests.wire.test_golden import FORMAT_0, FORMAT_1


def files(home: Home) -> list[Path]:
    """Everything but locks."""
    return [path for path in home.path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def cluster_with(batch: bytes, records: int) -> Cluster:
    """Ten batches of today, the given one, and ten more."""
    made = Cluster()
    part = made.partitions[0]
    for _ in range(10):
        part.append([b"today"] * 5)
    base = part.last_stable
    part.last_stable += records
    part.batches.append((base, part.last_stable, batch))
    for _ in range(10):
        part.append([b"today"] * 5)
    return made


def moved(batch: str, *, to: int) -> bytes:
    """Messages of an old format, each a batch of its own, at other offsets."""
    data = bytearray.fromhex(batch)
    at = number = 0
    while at < len(data):
        data[at : at + 8] = (to + number).to_bytes(8, "big")
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        number += 1
    return bytes(data)


def test_a_played_topic_of_today_is_frozen_so_that_the_refusals_below_are_about_the_format(home: Home) -> None:
    made = Cluster()
    for _ in range(20):
        made.partitions[0].append([b"today"] * 5)
    with client_of(made) as client:
        found = freeze(client, Store(home), "fine", select(["ticks"])).snapshot
    assert found.scan("ticks").collect()["value"].to_list() == [b"today"] * 100


@pytest.mark.parametrize(("batch", "number"), [(FORMAT_0, 0), (FORMAT_1, 1)])
@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_topic_with_messages_of_an_old_format_is_refused_by_name_and_nothing_is_kept(
    home: Home, batch: str, number: int, allow_partial: bool
) -> None:
    made = cluster_with(moved(batch, to=50), 2)
    with client_of(made) as client:
        match = rf"ticks\[0\] at offset 50: message format {number}, which producers wrote before Kafka 0\.11.*copy"
        with pytest.raises(UnsupportedFormat, match=match):
            frozen(client, home, "old", allow_partial=allow_partial)
        assert files(home) == []
        # What lies around them can be had.
        before = frozen(client, home, "before", "ticks@0..50")
        after = frozen(client, home, "after", "ticks@52..latest")
    assert before == after == 50


def _magic(batch: bytearray) -> None:
    batch[16] = 3


def _checksum(batch: bytearray) -> None:
    batch[-1] ^= 1


def _length(batch: bytearray) -> None:
    batch[8:12] = (20).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_magic, UnsupportedFormat, "message format 3 is not known"),
        (_checksum, CorruptBatch, "checksum"),
        (_length, CorruptBatch, "length"),
    ],
)
def test_a_batch_that_is_damaged_or_of_a_format_to_come_is_named_and_nothing_is_kept(
    home: Home, damage: Callable[[bytearray], None], error: type[MlstreamError], message: str
) -> None:
    made = Cluster()
    for _ in range(20):
        made.partitions[0].append([b"today"] * 5)
    base, stop, whole = made.partitions[0].batches[10]
    broken = bytearray(whole)
    damage(broken)
    made.partitions[0].batches[10] = (base, stop, bytes(broken))
    with client_of(made) as client, pytest.raises(error, match=rf"ticks\[0\] at offset 50.*{message}"):
        frozen(client, home, "x")
    assert files(home) == []


def frozen(client: Client, home: Home, name: str, what: str = "ticks", *, allow_partial: bool = False) -> int:
    """Freeze, and say how many rows that came to."""
    options = Options(allow_partial)
    return freeze(client, Store(home), name, select([what]), options=options).snapshot.rows

"""Identity put into a batch afterwards: the same bytes as when it was encoded with it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlstream.errors import UsageError
from mlstream.wire.decode import decode
from mlstream.wire.encode import encode
from mlstream.wire.stamp import stamp

ROWS = pa.table(
    {
        "timestamp": pa.array([1, None, 3], pa.timestamp("ms", "UTC")),
        "key": pa.array([b"a", None, b""], pa.binary()),
        "value": pa.array([b"x" * 100, None, b"y"], pa.binary()),
    }
)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize(("epoch", "sequence"), [(0, 0), (32767, 2**31 - 1), (7, 123_456)])
@pytest.mark.parametrize("transactional", [True, False])
def test_a_stamped_batch_is_the_batch_encoded_with_that_identity(
    codec: str, epoch: int, sequence: int, transactional: bool
) -> None:
    identity = {"producer_id": 2**40 + 5, "producer_epoch": epoch, "base_sequence": sequence}
    expected = encode(ROWS, codec=codec, transactional=transactional, **identity)
    assert stamp(encode(ROWS, codec=codec), transactional=transactional, **identity) == expected
    other = encode(ROWS, codec=codec, producer_id=1, producer_epoch=2, base_sequence=3, transactional=not transactional)
    assert stamp(other, transactional=transactional, **identity) == expected


def test_its_records_and_checksum_are_those_that_a_reader_accepts() -> None:
    data = stamp(encode(ROWS), producer_id=9, producer_epoch=1, base_sequence=5, transactional=True)
    found = decode(data, topic="t", partition=0, start=0)
    assert found.columns.column("value").to_pylist() == ROWS["value"].to_pylist()


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"\x00" * 100])
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="not a record batch"):
        stamp(data, producer_id=1, producer_epoch=0, base_sequence=0)

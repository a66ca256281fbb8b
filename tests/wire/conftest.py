"""What the tests of `wire` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import kafka.codec
import kafka.record.default_records as default_records
import pyarrow as pa
import pytest

from tests.wire import plain

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="package")
def kafka_python() -> Iterator[SimpleNamespace]:
    """kafka-python's own record batches, with all five codecs.

    It brings gzip and the framing of snappy; blocks of snappy, lz4 and zstd are Arrow's here, as those packages are no
    dependency of this project.
    """
    with pytest.MonkeyPatch.context() as patch:
        blocks = SimpleNamespace(compress=lambda data: pa.compress(data, "snappy", asbytes=True), decompress=_unsnappy)
        patch.setattr(kafka.codec, "snappy", blocks)
        patch.setattr(kafka.codec, "has_lz4", lambda: True)
        patch.setattr(kafka.codec, "has_zstd", lambda: True)
        for codec in ("lz4", "zstd"):
            patch.setattr(default_records, f"{codec}_encode", lambda data, codec=codec: plain.pack(codec, data))
            patch.setattr(default_records, f"{codec}_decode", lambda data, codec=codec: plain.unpack(codec, data))
        yield SimpleNamespace(
            builder=default_records.DefaultRecordBatchBuilder, batch=default_records.DefaultRecordBatch
        )


def _unsnappy(block: bytes) -> bytes:
    return plain.unpack("snappy", block)


@pytest.fixture(scope="session")
def golden() -> dict[str, bytes]:
    """Answers of a real broker, by name."""
    return {path.stem: bytes.fromhex(path.read_text()) for path in sorted(GOLDEN.glob("*.hex"))}

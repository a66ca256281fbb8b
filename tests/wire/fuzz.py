"""Damaged batches, each a function of a seed: `python -m tests.wire.fuzz ROUNDS` decodes that many of them.

`check` compares with the plain twin: either both refuse, or both give the same rows.
"""

from __future__ import annotations

import random
import sys

from mlstream.errors import CorruptBatch, UnsupportedFormat
from mlstream.wire.decode import decode
from mlstream.wire.layout import CODECS
from tests.wire import plain
from tests.wire.columns import to_records
from tests.wire.plain import Bad, Record

# Bytes that are the edges of varints and lengths.
EDGES = (0x00, 0x01, 0x02, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF)


def make_batch(rng: random.Random, *, base: int, codec: str) -> bytes:
    """A sound batch of a few records, some with headers, nulls and gaps."""
    rows, at = [], base
    for _ in range(rng.randint(1, 5)):
        headers = tuple(
            (rng.randbytes(rng.randint(0, 3)), rng.choice((None, b"", rng.randbytes(5))))
            for _ in range(rng.choice((0, 0, 0, 1, 2)))
        )
        rows.append(Record(at, rng.choice((-1, 0, 2**40, at)), _cell(rng), _cell(rng), headers))
        at += rng.choice((1, 1, 1, 70))
    attributes = rng.choice((0, 0, 0, plain.LOG_APPEND_TIME, plain.TRANSACTIONAL))
    return plain.build(rows, codec=codec, attributes=attributes, last_offset=at)


def _cell(rng: random.Random) -> bytes | None:
    return rng.choice((None, b"", rng.randbytes(3), b"again" * rng.randint(1, 60)))


def damage(rng: random.Random, batch: bytes) -> bytes:
    """Change, insert or remove bytes after the checksum, and make the length and the checksum right again."""
    data = bytearray(batch)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(21, len(data))
        match rng.randrange(6):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2 | 3:
                data[at] = rng.choice(EDGES)
            case 4:
                data[at:at] = bytes([rng.choice(EDGES)]) * rng.choice((1, 1, 5, 10))
            case _:
                del data[at : at + rng.choice((1, 1, 2, 8))]
                if len(data) < 62:
                    return batch
    return plain.seal(bytes(data))


def outcome(data: bytes) -> list[Record] | None:
    """The rows that `decode` gives, or None when it refuses."""
    try:
        return to_records(decode(data, topic="fuzz", partition=0, start=0, max_batch_bytes=1 << 22).columns)
    except (CorruptBatch, UnsupportedFormat) as exc:
        if not str(exc).startswith("fuzz[0] at offset "):
            raise
        return None


def expected(data: bytes) -> list[Record] | None:
    """The rows that the plain twin gives, or None when it refuses."""
    try:
        return [row for row in plain.read(data) if row.offset >= 0]
    except Bad:
        return None


def check(seed: int) -> bool:
    """Damage the batches of a seed and compare; returns whether they were refused.

    Raises:
        AssertionError: the two differ.
    """
    rng = random.Random(seed)
    codec = rng.choice((*("none",) * 4, *CODECS))
    first = make_batch(rng, base=rng.choice((0, 7, 2**33)), codec=rng.choice(CODECS))
    damaged = damage(rng, make_batch(rng, base=2**34, codec=codec))
    last = make_batch(rng, base=2**35, codec=rng.choice(CODECS))
    data = first + damaged + last
    found, twin = outcome(data), expected(data)
    if found != twin:
        raise AssertionError(f"seed {seed}, {codec}: {found!r} is not {twin!r}: {data.hex()}")
    return found is None


def main(rounds: int) -> None:
    """Run `rounds` seeds and print how many were refused."""
    print(sum(check(seed) for seed in range(rounds)), "of", rounds, "refused")


if __name__ == "__main__":
    main(int(sys.argv[1]))

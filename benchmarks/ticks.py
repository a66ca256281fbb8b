"""The input of the benchmarks: JSON records of about 157 bytes with their key, made from a seed. Talks to no broker."""

from __future__ import annotations

import numpy as np
import polars as pl

SENDERS = 1000
SYMBOLS = 500
FIRST_MS = 1_700_000_000_000


def ticks(records: int, *, seed: int = 7) -> pl.DataFrame:
    """Trades of a made-up exchange, a millisecond apart.

    Returns:
        `records` rows: key (binary, the symbol), value (binary, JSON of about 150 bytes), timestamp (ms, UTC).
    """
    rng = np.random.default_rng(seed)
    number = np.arange(records)
    frame = pl.DataFrame(
        {
            "time_ms": FIRST_MS + number,
            "symbol": rng.integers(0, SYMBOLS, records),
            "price": np.round(rng.lognormal(4.0, 0.6, records), 4),
            "volume": rng.integers(1, 10_000, records),
            "sender": rng.integers(0, SENDERS, records),
            "receiver": rng.integers(0, SENDERS, records),
            "sequence": number,
        }
    )
    symbol = pl.format("SYM{}", pl.col("symbol").cast(pl.String).str.zfill(4))
    return frame.select(
        symbol.cast(pl.Binary).alias("key"),
        pl.struct(
            pl.col("sequence"),
            symbol.alias("symbol"),
            pl.col("price"),
            pl.col("volume"),
            pl.format("trader-{}", pl.col("sender").cast(pl.String).str.zfill(4)).alias("sender"),
            pl.format("trader-{}", pl.col("receiver").cast(pl.String).str.zfill(4)).alias("receiver"),
            pl.when(pl.col("volume") > 5000).then(pl.lit("block")).otherwise(pl.lit("regular")).alias("condition"),
            pl.lit("A").alias("source"),
        )
        .struct.json_encode()
        .cast(pl.Binary)
        .alias("value"),
        pl.col("time_ms").cast(pl.Datetime("ms", "UTC")).alias("timestamp"),
    )

"""Values to typed columns beside other decoders: `python benchmarks/decode.py [--records N] [--json]`.

In one process, over the same values in memory, one thread. What a value holds is the same in every format: six fields
of a tick. The peers end where mlstream ends, in Arrow or polars columns; where one cannot name the record that does not
decode, the note says so.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import fastavro
import polars as pl
import pyarrow as pa

from benchmarks.report import Line, Report, show
from mlstream.config import DecodeConfig
from mlstream.decoding.columns import Decoder
from mlstream.decoding.decoder import open_decoder
from mlstream.decoding.json_tokens import BATCH_ROWS

PEER_ROWS = 100_000
ROUNDS = 3
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Tick",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "symbol", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "volume", "type": "int"},
        {"name": "condition", "type": ["null", "string"], "default": None},
        {"name": "held", "type": "boolean"},
    ],
}
COLUMNS = {"at": "time", "symbol": "string", "price": "float", "volume": "int", "condition": "string", "held": "bool"}
NOTHING_NAMED = "names no record that is wrong"


def rows(count: int) -> list[dict[str, Any]]:
    """Ticks as Python has them."""
    return [
        {
            "at": 1_700_000_000_000 + n,
            "symbol": f"S{n % 500:03d}",
            "price": 100 + (n % 10_000) / 64,
            "volume": n % 900 + 1,
            "condition": None if n % 3 else "@F",
            "held": n % 7 == 0,
        }
        for n in range(count)
    ]


def best_rate(count: int, action: Callable[[], object]) -> float:
    """Rows a second, the best of some rounds after one that warms up."""
    action()
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return count / min(times)


def own_rate(decode: DecodeConfig, values: Sequence[bytes]) -> float:
    """mlstream's, in batches as a view is made of."""
    column = pa.array(values, pa.binary())
    batches = [column.slice(first, BATCH_ROWS) for first in range(0, len(column), BATCH_ROWS)]
    return best_rate(len(values), partial(_decode, open_decoder(decode), batches))


def avro(found: list[dict[str, Any]]) -> Report:
    """Avro in the Confluent wire format."""
    plain = {**SCHEMA, "fields": [{**SCHEMA["fields"][0], "type": "long"}, *SCHEMA["fields"][1:]]}
    parsed = fastavro.parse_schema(plain)
    header = b"\0" + struct.pack(">I", 1)
    values = []
    for row in found:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        values.append(header + out.getvalue())
    container = io.BytesIO()
    fastavro.writer(container, parsed, found)
    own = own_rate(DecodeConfig(format="avro", schemas={1: SCHEMA}), values)
    few = values[:PEER_ROWS]
    peers = [
        ("fastavro, then polars", best_rate(len(few), partial(_fastavro, parsed, few)), ""),
        (
            "polars.read_avro, of a container file",
            best_rate(len(values), partial(_container, container.getvalue())),
            f"not this format; {NOTHING_NAMED}",
        ),
    ]
    return _report("Avro", values, own, peers)


def json_values(found: list[dict[str, Any]]) -> Report:
    """JSON with declared columns."""
    values = [json.dumps(row).encode() for row in found]
    own = own_rate(DecodeConfig(columns=COLUMNS), values)
    few = values[:PEER_ROWS]
    peers = [
        ("json.loads, then polars", best_rate(len(few), lambda: pl.DataFrame([json.loads(each) for each in few])), ""),
        ("polars.read_ndjson, of lines", best_rate(len(values), partial(_ndjson, values)), NOTHING_NAMED),
    ]
    return _report("JSON", values, own, peers)


def csv_values(found: list[dict[str, Any]]) -> Report:
    """CSV."""
    values = [",".join("" if each is None else str(each) for each in row.values()).encode() for row in found]
    own = own_rate(DecodeConfig(format="csv", columns=COLUMNS), values)
    peers = [("polars.read_csv, of lines", best_rate(len(values), partial(_csv, values)), NOTHING_NAMED)]
    return _report("CSV", values, own, peers)


def _report(name: str, values: Sequence[bytes], own: float, peers: Sequence[tuple[str, float, str]]) -> Report:
    lines = [Line(f"{name}: mlstream", own, "records/s", 1.0)]
    lines += [Line(f"{name}: {peer}", rate, "records/s", rate / own, note) for peer, rate, note in peers]
    return Report(f"{len(values):,} values of {name}, {sum(map(len, values)) // len(values)} bytes each", lines)


def _decode(decoder: Decoder, batches: Sequence[pa.BinaryArray]) -> None:
    for batch in batches:
        found = decoder.decode(batch)
        if found.faults:
            raise ValueError(found.faults[0].reason)


def _fastavro(schema: Any, values: Sequence[bytes]) -> pl.DataFrame:
    return pl.DataFrame([fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None) for value in values])


def _container(data: bytes) -> pl.DataFrame:
    return pl.read_avro(io.BytesIO(data))


def _ndjson(values: Sequence[bytes]) -> pl.DataFrame:
    return pl.read_ndjson(b"\n".join(values), infer_schema_length=100)


def _csv(values: Sequence[bytes]) -> pl.DataFrame:
    return pl.read_csv(b"\n".join(values), has_header=False)


def main() -> None:
    """Make the values, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = rows(options.records)
    for measure in (avro, json_values, csv_values):
        show(measure(found), as_json=options.json)


if __name__ == "__main__":
    main()

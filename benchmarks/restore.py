"""Putting a topic back into Kafka, and writing it out: `python benchmarks/restore.py [--records N] [--skip] [--json]`.

- mlstream: `Snapshot.restore`: written, read back, every payload digest compared, the translation table kept
- confluent-kafka and pyarrow: the loop that one would write, Parquet rows to `produce`; nothing is checked
- mlstream: `Snapshot.export` to Parquet, CSV and JSON lines
- pandas: the same rows, read from Parquet, keys and values as text, `to_csv`

Each in a process of its own, one after the other, with the broker on the same machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.freeze import PARTITIONS, TOPIC, fill
from benchmarks.report import Line, Report, show


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender's pass over all records."""

    rows: int
    seconds: float
    peak_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.rows / self.seconds


def restore_mlstream(servers: str, folder: Path) -> Measured:
    """`Snapshot.restore`, after one of a few records that loads the kernels."""
    import mlstream

    connection = mlstream.Connection(bootstrap_servers=tuple(servers.split(",")), settings={})
    mlstream.open_snapshot("few", home=folder / "home").restore("bench-warm", connection=connection)
    opened = mlstream.open_snapshot("all", home=folder / "home")
    began = time.perf_counter()
    done = opened.restore("bench-restored", connection=connection)
    return Measured(done.rows, time.perf_counter() - began)


def restore_confluent(servers: str, folder: Path) -> Measured:
    """Parquet rows to `produce`, partition by partition, with the times of the records."""
    from confluent_kafka import Producer

    import mlstream

    opened = mlstream.open_snapshot("all", home=folder / "home")
    paths = [piece.object for part in opened.streams[0].partitions for piece in opened.pieces(TOPIC, part.partition)]
    began = time.perf_counter()
    settings = {"bootstrap.servers": servers, "compression.type": "zstd", "linger.ms": 50, "batch.size": 900_000}
    producer = Producer({**settings, "acks": "all", "queue.buffering.max.messages": 1_000_000})
    rows = 0
    for digest in paths:
        rows += _produce(producer, opened.store.object(digest))
    producer.flush()
    return Measured(rows, time.perf_counter() - began)


def _produce(producer: object, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    for batch in pq.ParquetFile(path).iter_batches(65_536):
        columns = (batch.column(name).to_pylist() for name in ("partition", "key", "value", "headers"))
        times = batch.column("timestamp").cast(pa.int64()).to_pylist()
        for partition, key, value, headers, moment in zip(*columns, times, strict=True):
            pairs = [(header["key"].decode(), header["value"]) for header in headers]
            while True:
                try:
                    producer.produce("bench-confluent", value, key, partition, timestamp=moment, headers=pairs)  # type: ignore[attr-defined]
                    break
                except BufferError:
                    producer.poll(0.1)  # type: ignore[attr-defined]
        rows += len(batch)
    return rows


def export_mlstream(kind: str) -> Callable[[str, Path], Measured]:
    """`Snapshot.export` in a format, after one of a few records."""

    def run(servers: str, folder: Path) -> Measured:
        import mlstream

        mlstream.open_snapshot("few", home=folder / "home").export(folder / f"warm-{kind}", format=kind)  # type: ignore[arg-type]
        opened = mlstream.open_snapshot("all", home=folder / "home")
        began = time.perf_counter()
        done = opened.export(folder / f"all-{kind}", format=kind)  # type: ignore[arg-type]
        return Measured(done.rows, time.perf_counter() - began)

    return run


def export_pandas(servers: str, folder: Path) -> Measured:
    """Parquet to CSV with pandas, an object after the other."""
    import pandas as pd

    import mlstream

    opened = mlstream.open_snapshot("all", home=folder / "home")
    began = time.perf_counter()
    rows = 0
    for number, digest in enumerate(opened.storage.objects):
        frame = pd.read_parquet(opened.store.object(digest))
        for name in ("key", "value"):
            frame[name] = frame[name].str.decode("utf-8")
        frame.to_csv(folder / f"pandas-{number}.csv", index=False)
        rows += len(frame)
    return Measured(rows, time.perf_counter() - began)


CONTENDERS: dict[str, tuple[str, Callable[[str, Path], Measured]]] = {
    "restore": ("mlstream restore, checked", restore_mlstream),
    "confluent": ("confluent-kafka loop, unchecked", restore_confluent),
    "parquet": ("mlstream export, Parquet", export_mlstream("parquet")),
    "csv": ("mlstream export, CSV", export_mlstream("csv")),
    "jsonl": ("mlstream export, JSON lines", export_mlstream("jsonl")),
    "pandas": ("pandas to_csv", export_pandas),
}
BESIDE = {"restore": "restore", "confluent": "restore", "parquet": "csv", "csv": "csv", "jsonl": "csv", "pandas": "csv"}


def measure(name: str, servers: str, folder: Path) -> Measured:
    """Run a contender in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--contender", name, "--servers", servers, "--folder", str(folder)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Measured(**json.loads(out.splitlines()[-1]))


def peak_mb() -> float:
    """The most memory that this process took. Not by getrusage, which counts what its parent took, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def compare(servers: str, folder: Path, records: int, skip: bool) -> Report:
    """Measure every contender; only mlstream's when `skip`."""
    names = [name for name in CONTENDERS if not (skip and name in ("confluent", "pandas"))]
    found = {name: measure(name, servers, folder) for name in names}
    for name, measured in found.items():
        if measured.rows != records:
            raise RuntimeError(f"{name} wrote {measured.rows} of {records} records")
    lines = [
        Line(
            CONTENDERS[name][0],
            measured.rate,
            "records/s",
            measured.rate / found[BESIDE[name]].rate,
            f"{measured.seconds:.2f} s, peak memory {measured.peak_mb:.0f} MB",
        )
        for name, measured in found.items()
    ]
    return Report(f"restoring and exporting {records:,} JSON records in {PARTITIONS} partitions", lines)


def main() -> None:
    """Start a broker of its own, fill a topic, freeze it, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--skip", action="store_true", help="leave the peers out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contender", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender is not None:
        found = CONTENDERS[options.contender][1](options.servers, options.folder)
        print(json.dumps({**asdict(found), "peak_mb": peak_mb()}))
        return
    import mlstream
    from mlstream.broker import embedded
    from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
    from mlstream.broker.client import Client
    from mlstream.broker.connection import find_connection
    from mlstream.home import Home

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kafka = Home(folder / "kafka")
        embedded.up(kafka, profile="bench", heap_mb=1024)
        try:
            connection = find_connection(kafka)
            with Client(connection) as client:
                for topic in (TOPIC, "bench-confluent"):
                    create_topic(client, topic, partitions=PARTITIONS, config=KEEP_EVERYTHING)
            servers = ",".join(connection.bootstrap_servers)
            fill(servers, options.records, "lz4")
            for name, topic in (("few", f"{TOPIC}@0..100"), ("all", TOPIC)):
                mlstream.snapshot(name, topics=[topic], connection=connection, home=folder / "home")
            show(compare(servers, folder, options.records, options.skip), as_json=options.json)
        finally:
            embedded.down(kafka)


if __name__ == "__main__":
    main()

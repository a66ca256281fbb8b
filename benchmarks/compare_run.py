"""What `compare.py` compares: a run as it lies on the disk, and its comparison in a process of its own.

`write_run` writes what a comparison reads of a run: its record, the manifests of its snapshots, and the decoded views
of the input and of each version's output, in the batches and types of the decoder. The raw records behind the views,
which no comparison opens, are not written.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import polars as pl
import pyarrow as pa

from mlstream.comparison.compare import Evidence
from mlstream.config import DecodeConfig, ExperimentConfig
from mlstream.decoding.json_tokens import BATCH_ROWS
from mlstream.decoding.types import arrow_type
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.reporting.compare import compare
from mlstream.runs.layout import SOURCE, decoder
from mlstream.runs.outcome import Input, VersionOutcome
from mlstream.runs.record import log_path, write_record
from mlstream.runs.run import Run
from mlstream.snapshots.manifest import Content, PartitionContent, StreamContent
from mlstream.snapshots.store import Store
from mlstream.snapshots.view_making import describe_file
from mlstream.snapshots.views import view_digest

_WORDS: dict[pl.DataType, str] = {
    pl.Int64(): "int",
    pl.Float64(): "float",
    pl.String(): "string",
    pl.Boolean(): "bool",
}
_OWN = (("_partition", pa.int32()), ("_offset", pa.int64()), ("_timestamp", pa.timestamp("ms", tz="UTC")))


@dataclass(frozen=True, slots=True)
class Whole:
    """What comparing a run took.

    Attributes:
        seconds: after the imports, from the run's id to the kept comparison.
        cpu_seconds: of these, of all threads.
        memory_bytes: the most that was resident in the process at once, its libraries and mapped files among it.
        id: of the comparison.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int
    id: str


def decoded(config: ExperimentConfig, evidence: Evidence) -> ExperimentConfig:
    """The experiment, with the columns of the records declared."""
    columns = {name: _WORDS[kind] for name, kind in evidence.records.schema.items() if not name.startswith("_")}
    decode = config.input.decode.model_copy(update={"columns": columns})
    return config.model_copy(update={"input": config.input.model_copy(update={"decode": decode})})


def write_run(home: Home, config: ExperimentConfig, evidence: Evidence) -> str:
    """The run of `config` over the records of `evidence`, as if it were computed; its id."""
    store = Store(home)
    for folder in ("manifests", "refs"):
        (home.path / folder).mkdir(parents=True, exist_ok=True)
    topic = config.input.topic
    snapshot_id, digest = _write_snapshot(store, topic, config.input.decode, evidence.records)
    versions = {}
    for name, frame in evidence.predictions.items():
        said = frame.select(
            pl.lit(topic).alias("source_topic"),
            pl.col("source_partition").cast(pl.Int64),
            "source_offset",
            pl.exclude("source_partition", "source_offset"),
        )
        kinds = {column: _WORDS[kind] for column, kind in said.schema.items() if column not in SOURCE}
        own = evidence.records.select("_partition", "_offset", "_timestamp")
        output = f"{config.experiment}.{name}"
        output_id, _ = _write_snapshot(store, output, decoder(kinds), pl.concat([own, said], how="horizontal"))
        versions[name] = VersionOutcome(
            name=name,
            status="complete",
            described={"digest": hashlib.sha256(name.encode()).hexdigest()},
            topic=output,
            topic_id=output,
            log=log_path(home, snapshot_id, name),
            rows=frame.height,
            columns=kinds,
            output_id=output_id,
            output_name=output,
        )
    run = Run(
        id=hashlib.sha256(snapshot_id.encode()).hexdigest(),
        key=snapshot_id,
        attempt=1,
        status="complete",
        config=config,
        snapshot_id=snapshot_id,
        snapshot_name=None,
        input=Input(topic, config.input.decode.model_dump(mode="json")["columns"], digest, _ranges(topic, evidence), 0),
        versions=versions,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:00:01+00:00",
        timings={},
        settings={},
        environment={},
        hardware={},
        git=None,
        home=home,
    )
    write_record(home, {**run.to_dict(), "config_path": None, "root": str(home.path)})
    return run.id


def _ranges(topic: str, evidence: Evidence) -> tuple[PartitionRange, ...]:
    bounds = evidence.records.group_by("_partition").agg(pl.col("_offset").max() + 1).sort("_partition")
    return tuple(PartitionRange(topic, partition, 0, stop) for partition, stop in bounds.iter_rows())


def _write_snapshot(store: Store, topic: str, decode: DecodeConfig, frame: pl.DataFrame) -> tuple[str, str]:
    """The manifest and the view of rows with `_partition`, `_offset`, `_timestamp` and columns; its id, the view's."""
    parts = frame.partition_by("_partition", as_dict=True)
    contents = []
    for (number,), rows in sorted(parts.items()):
        root = hashlib.sha256(f"{topic} {number} {rows.height}".encode()).hexdigest()
        contents.append(
            PartitionContent(number, 0, int(rows["_offset"][-1]) + 1, rows.height, root, root, 0, 1, "CreateTime")
        )
    stream = StreamContent("cluster", topic, topic, tuple(contents))
    content = Content((stream,))
    store.manifest(content.id).write_bytes(content.to_bytes())
    digest = view_digest(stream, decode)
    folder = store.views / digest
    folder.mkdir(parents=True)
    columns = [(name, _WORDS[kind]) for name, kind in frame.schema.items() if name not in dict(_OWN)]
    for (number,), rows in parts.items():
        _write_part(folder / f"{number}.arrow", columns, rows)
    document = {
        "format": 2,
        "columns": columns,
        "partitions": [{"partition": n, "rows": str(rows.height), "faults": "0"} for (n,), rows in parts.items()],
        "files": {path.name: describe_file(path) for path in sorted(folder.glob("*.arrow"))},
    }
    (folder / "view.json").write_text(json.dumps(document))
    return content.id, digest


def _write_part(path: Path, columns: Sequence[tuple[str, str]], rows: pl.DataFrame) -> None:
    fields = [*_OWN, ("_key", pa.large_binary()), *((name, arrow_type(word)) for name, word in columns)]
    rows = rows.with_columns(pl.lit(b"key").alias("_key"))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema(fields)) as out:
        for first in range(0, rows.height, BATCH_ROWS):
            batch = rows.slice(first, BATCH_ROWS)
            arrays = [batch[name].rechunk().to_arrow().cast(kind) for name, kind in fields]
            out.write_batch(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)))


def compare_apart(home: Home, run_id: str) -> Whole:
    """Compare the run in a process of its own, as `mlstream compare` does, and say what it took."""
    command = [sys.executable, __file__, str(home.path), run_id]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Whole(**json.loads(done.stdout))


def _peak_bytes() -> int:
    """The most that was resident: of this program, where the system knows; else of what it was started from, too."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        # Bytes on macOS, which has no such file.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    """Compare one run: its home and its id."""
    home, run_id = Home(Path(sys.argv[1])), sys.argv[2]
    wall, cpu = time.perf_counter(), time.process_time()
    found = compare(run_id, home=home, track=False)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_bytes": _peak_bytes(), "id": found.id}))


if __name__ == "__main__":
    main()

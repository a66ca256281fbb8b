"""Runs beside the same models without a run, and beside a stream processor: `python benchmarks/runs.py [--rows N]`.

Three versions (a rule, LogisticRegression, HistGradientBoosting with 50 iterations) answer every record of a frozen
topic, exactly once, each into a topic of its own. Measured is from the common start of their workers, when each has
loaded its model, to the last commit of all. Beside it:

- the same three models over the decoded columns in memory, in one process that writes nothing
- a quixstreams application with exactly-once processing, for one version
- the same run with idempotent writes instead of transactions
- one version instead of three, two workers instead of one, fewer and more records

The broker is on the same machine, and takes its share of the processors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import polars as pl

from benchmarks.report import Line, Report, show
from benchmarks.runs_project import FEATURES, VERSIONS, Project, fill
from benchmarks.runs_rounds import Round, Runner
from mlstream.broker import embedded
from mlstream.broker.connection import find_connection
from mlstream.home import Home
from mlstream.runs.machine import cpus
from mlstream.runs.spec import Spec
from mlstream.snapshots import views
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.view_making import make_view

GOAL_OF_MEMORY = 0.5
GOAL_PEER = 8.0
GOAL_TRANSACTIONS = 0.15
FLAT = 1.25  # the most that memory may grow while the records grow by four
QUIXSTREAMS = "3.28.1"
RULE_ROWS, MODEL_ROWS = 200_000, 5_000  # of the peer, which goes record by record
_PEER_S = 900


def over_memory(project: Project, topic: str, rounds: int) -> tuple[float, float]:
    """Seconds of the three models over the ready columns: all rows at once, and batch by batch."""
    config = project.config(topic)
    view = views.open_view(project.freeze(topic), topic, config.input.decode)
    frame = view.frame().select(FEATURES).collect()
    table = frame.to_pandas()
    rows = config.batch_rows

    def at_once() -> None:
        _rule(frame)
        for model in project.models.values():
            model.predict_proba(table)

    def by_batches() -> None:
        for first in range(0, frame.height, rows):
            _rule(frame.slice(first, rows))
        for model in project.models.values():
            for first in range(0, frame.height, rows):
                model.predict_proba(table.iloc[first : first + rows])

    return _median(at_once, rounds), _median(by_batches, rounds)


def _rule(frame: pl.DataFrame) -> pl.Series:
    return frame["price"] * frame["volume"] > 250_000.0


def _median(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def beside_memory(project: Project, runner: Runner, topic: str, rounds: int) -> tuple[Report, Round]:
    """Three versions, with one and two workers each, and the models alone."""
    at_once, by_batches = over_memory(project, topic, rounds)
    one = runner.median(topic, VERSIONS)
    two = runner.median(topic, VERSIONS, workers=2)
    rows = one.found.input.rows * len(VERSIONS)
    base = rows / min(at_once, by_batches)
    lines = [
        Line("the models over a ready frame, all rows at once", rows / at_once, "records/s", rows / at_once / base),
        Line("the models over a ready frame, in batches", rows / by_batches, "records/s", rows / by_batches / base),
        _line("mlstream run, 1 worker a version", one, base),
        _line("mlstream run, 2 workers a version", two, base),
    ]
    best = max(one.rate, two.rate) / base
    goals = [(f"at least {GOAL_OF_MEMORY:.0%} of the ready frame's rate: {best:.0%}", best >= GOAL_OF_MEMORY)]
    return Report(f"three versions over {rows // 3:,} records, exactly once to topics", lines, goals), one


def _line(name: str, found: Round, base: float) -> Line:
    run_seconds = sum(found.found.timings.values())
    note = f"{found.seconds:.2f} s; {run_seconds:.1f} s with decoding, starts and freezing"
    return Line(name, found.rate, "records/s", found.rate / base, note)


def where_time_goes(found: Round) -> Report:
    """Each version's worker, thread by thread, and its model; a version's seconds are 1.00 x."""
    lines: list[Line] = []
    for each in found.timed:
        whole = each.ended - each.began
        parts = each.parts
        asked = [parts.get(name, 0.0) for name in ("wait for the model", "wait for the writing", "begin")]
        steps = [
            ("worker: waits for the model", asked[0]),
            ("worker: waits for what it writes", asked[1]),
            ("worker: opens transactional ids", asked[2]),
            ("worker: the rest", whole - sum(asked)),
            ("model's process: the model", each.model),
            ("writing: predictions to records", parts.get("encode", 0.0)),
            ("writing: hands over, waits for commits", parts.get("hand over", 0.0)),
            ("writing: last commits", parts.get("last commit", 0.0)),
            ("encoding: batches, compressed", parts.get("compress", 0.0)),
        ]
        lines.append(Line(each.version, whole, "s", 1.0, "from the common start to its last commit"))
        lines += [Line(f"  {step}", seconds, "s", seconds / whole) for step, seconds in steps]
    return Report("where the time of a version goes, three versions at once; threads and processes side by side", lines)


def what_takes_processors(found: Round) -> Report:
    """The processor seconds of a run with three versions, from the common start to the last commit of all."""
    whole = found.seconds * cpus()
    lines = [Line("all processors", whole, "s", 1.0, f"{cpus()} cores for {found.seconds:.2f} s")]
    lines += [Line(f"  {name}", seconds, "s", seconds / whole) for name, seconds in sorted(found.cpu_seconds.items())]
    return Report("what takes the processors, three versions at once", lines)


def beside_peer(project: Project, runner: Runner, topic: str) -> Report:
    """One version, and a stream processor that does the same."""
    rule, logistic = runner.whole(topic, ["rule"]), runner.whole(topic, ["logistic"])
    lines = [_whole("mlstream run, the rule", rule, rule), _whole("mlstream run, LogisticRegression", logistic, rule)]
    goals = []
    for name, model, own, most in (
        ("the rule", None, rule, RULE_ROWS),
        ("LogisticRegression", "logistic", logistic, MODEL_ROWS),
    ):
        label = f"quixstreams {QUIXSTREAMS}, {name}"
        try:
            rate = peer_rate(project, topic, model, min(most, own.found.input.rows))
        except (subprocess.SubprocessError, ValueError, IndexError, OSError) as exc:
            lines.append(Line(label, 0.0, "records/s", None, f"could not run: {exc}"))
            continue
        lines.append(Line(label, rate, "records/s", rate / _whole_rate(rule), "reads, decodes, answers, writes"))
        ratio = _whole_rate(own) / rate
        goals.append((f"{name}: at least {GOAL_PEER:g} x quixstreams: {ratio:.1f} x", ratio >= GOAL_PEER))
    return Report(f"one version over {rule.found.input.rows:,} records, exactly once to a topic", lines, goals)


def _whole_rate(found: Round) -> float:
    """Records a second with the decoding, which the peer does too."""
    return found.found.input.rows / found.with_decoding


def _whole(name: str, found: Round, base: Round) -> Line:
    note = f"decoding {found.found.timings['decode']:.2f} s, scoring and writing {found.seconds:.2f} s"
    return Line(name, _whole_rate(found), "records/s", _whole_rate(found) / _whole_rate(base), note)


def peer_rate(project: Project, topic: str, model: str | None, records: int) -> float:
    """Records a second of the quixstreams application, in an environment of its own."""
    job = {
        "servers": ",".join(project.connection.bootstrap_servers),
        "topic": topic,
        "output": f"peer-{model or 'rule'}",
        "records": records,
        "model": None if model is None else str(project.folder / f"{model}.pkl"),
        "features": FEATURES,
    }
    wanted = [f"quixstreams=={QUIXSTREAMS}"]
    wanted += [f"{name}=={installed(name)}" for name in ("numpy", "pandas", "scikit-learn")]
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [uv, "run", "--quiet", "--no-project", "--isolated", "--python", sys.executable]
    for each in wanted:
        command += ["--with", each]
    command += ["python", "-W", "ignore", str(Path(__file__).with_name("runs_peer.py")), json.dumps(job)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_PEER_S, check=True, cwd=project.folder
    )  # its state is left where it is started
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["records"] / found["seconds"])


def decoding(project: Project, runner: Runner, topic: str) -> Report:
    """One and three versions over a view that is not there yet, and how often it is made."""
    made = [0]

    def counted(snapshot: Snapshot, decoded: str, *rest: Any) -> Any:
        made[0] += decoded == topic  # outputs are decoded, too, when they are checked
        return make_view(snapshot, decoded, *rest)

    setattr(views, "make_view", counted)  # noqa: B010
    lines, times, counts = [], [], []
    try:
        for versions in (VERSIONS[:1], VERSIONS):
            shutil.rmtree(project.home.path / "views", ignore_errors=True)
            made[0] = 0
            found = runner.once(topic, versions)
            times.append(found.found.timings["decode"])
            counts.append(made[0] + sum("decode" in each.parts for each in found.timed))
            note = f"decoded {counts[-1]} time{'s' if counts[-1] > 1 else ''}"
            name = f"decoding for {len(versions)} version{'s' if len(versions) > 1 else ''}"
            lines.append(Line(name, times[-1], "s", times[-1] / times[0], note))
    finally:
        setattr(views, "make_view", make_view)  # noqa: B010
    goals = [("a second and a third version cost no second decoding", counts == [1, 1])]
    return Report("decoding, which the versions of a run share", lines, goals)


def beside_idempotent(runner: Runner, topic: str) -> Report:
    """Transactions, and the same without."""
    lines, goals = [], []
    for name, versions in (("the rule", VERSIONS[:1]), ("three versions", VERSIONS)):
        exactly, plain = runner.alternating(topic, versions)
        cost = exactly.seconds / plain.seconds - 1
        lines.append(Line(f"{name}, idempotent writes", plain.rate, "records/s", 1.0, f"{plain.seconds:.2f} s"))
        note = f"{exactly.seconds:.2f} s, {cost:+.1%}"
        lines.append(Line(f"{name}, transactions", exactly.rate, "records/s", exactly.rate / plain.rate, note))
        goals.append(
            (f"{name}: exactly once costs under {GOAL_TRANSACTIONS:.0%}: {cost:+.1%}", cost < GOAL_TRANSACTIONS)
        )
    return Report("exactly once beside idempotent writes, the same path otherwise", lines, goals)


def memory(project: Project, runner: Runner, topic: str, records: int) -> Report:
    """The boosting version over half as many records and twice as many."""
    few, many = f"{topic}-few", f"{topic}-many"
    lines, found = [], []
    for name, rows in ((few, records // 2), (many, records * 2)):
        fill(project.connection, name, rows)
        project.freeze(name)
        found.append(runner.once(name, ["boosting"]))
        used = found[-1].anonymous_mb
        resident = found[-1].found.outcome("boosting").memory_bytes or 0
        note = f"{resident / 1e6:,.0f} MB resident with the mapped input"
        lines.append(Line(f"{rows:,} records", used, "MB", used / found[0].anonymous_mb, note))
    grew = found[1].anonymous_mb / found[0].anonymous_mb
    goal = f"4 x the records take at most {FLAT:g} x the memory: {grew:.2f} x"
    return Report(
        "memory of a version's worker and its model, the most that they wrote to", lines, [(goal, grew <= FLAT)]
    )


def measure(folder: Path, *, records: int, rounds: int, peers: bool) -> Iterator[Report]:
    """All reports, one after the other."""
    topic = "ticks"
    home = Home(folder / "kafka")
    embedded.up(home, profile="bench", heap_mb=1024)
    try:
        connection = find_connection(home)
        project = Project.make(folder / "project", Home(folder / "home"), connection)
        fill(connection, topic, records)
        project.freeze(topic)
        Spec.module = "benchmarks.runs_worker"
        runner = Runner(project, rounds, home)
        runner.once(topic, ["rule"])  # loads the kernels
        yield decoding(project, runner, topic)
        beside, one = beside_memory(project, runner, topic, rounds)
        yield beside
        yield where_time_goes(one)
        yield what_takes_processors(one)
        yield beside_idempotent(runner, topic)
        if peers:
            yield beside_peer(project, runner, topic)
        yield memory(project, runner, topic, records)
    finally:
        embedded.down(home)


def main() -> None:
    """Start a broker of its own, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="records of the input")
    parser.add_argument("--rounds", type=int, default=3, help="of each run; the median counts")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for report in measure(Path(folder), records=options.rows, rounds=options.rounds, peers=not options.no_peers):
            show(report, as_json=options.json)


if __name__ == "__main__":
    main()

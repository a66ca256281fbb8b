"""What `make demo` does: the main job, command by command, each printed before it runs. Computes nothing itself.

Safe to run again: topics that hold the data are left alone, a snapshot's name that stands for the same content is
fine, training the same data gives the same files, and a run that was computed before is not computed again.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import mlstream

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/flights.yaml"
TRAIN, TEST = "flights-train", "flights-q4"
# Midnight in New York, where the flights leave: 04:00 UTC.
OCTOBER = "2013-10-01T00:00-04:00"
CLUSTER = ("MLSTREAM_BOOTSTRAP_SERVERS", "MLSTREAM_KAFKA_CONFIG")


@dataclass(frozen=True, slots=True)
class Step:
    """A command as a user would type it, and why."""

    why: str
    command: str


BROKER = Step("A real Apache Kafka on this machine.", "mlstream broker up")
PREPARE = (
    Step(
        "The flights that left New York in 2013, and when they landed, become two topics.",
        "python -m pipelines.flights.load",
    ),
    Step(
        "Freeze January to September, to train on …",
        f"mlstream snapshot create {TRAIN} --topic flights --topic landings --from 2013-01-01 --to {OCTOBER}",
    ),
    Step(
        "… and October to December, to compare on. A snapshot's id is a digest over every byte of every record.",
        f"mlstream snapshot create {TEST} --topic flights --topic landings --from {OCTOBER} --to latest",
    ),
    Step("Fit the three versions.", f"mlstream train {CONFIG} --snapshot {TRAIN}"),
    Step(
        "Every version scores the same frozen flights, in parallel. Predictions are topics again.",
        f"mlstream run {CONFIG} --snapshot {TEST}",
    ),
)
NEXT = (
    ("mlstream ui", "the comparison in MLflow, with its charts"),
    ("make notebook", "flights, predictions and scores in Jupyter"),
    (f"mlstream snapshot show {TEST}", "what exactly was compared"),
    ("mlstream compare --baseline v2", "the trees against the regression"),
    (f"edit {CONFIG}", "drop recent_late; train, run, compare again"),
    ("mlstream broker down", "stop Kafka; its data stays"),
)


def main() -> int:
    """Run all steps and return the exit code: 0, or that of the first command that failed."""
    started = time.monotonic()
    os.chdir(ROOT)
    given = [name for name in CLUSTER if os.environ.get(name)]
    if given:
        print(f"The cluster that {given[0]} names is used; no broker is started here.", flush=True)
    try:
        for step in PREPARE if given else (BROKER, *PREPARE):
            if (code := run(step)) != 0:
                return code
        # `mlstream compare` alone takes the newest run, which may be another one; asking for this one finds it.
        run_id = mlstream.run(CONFIG, snapshot=TEST).id
        compare = Step("Compare, paired flight by flight, and record it in MLflow.", f"mlstream compare {run_id[:12]}")
        if (code := run(compare)) != 0:
            return code
    except mlstream.MlstreamError as exc:
        print(f"\nstopped: {exc}", file=sys.stderr, flush=True)
        return exc.exit_code
    except KeyboardInterrupt:
        return 130
    print_end(time.monotonic() - started)
    return 0


def run(step: Step) -> int:
    """Print a step, run it with its output as it comes, and return its exit code."""
    print(f"\n{step.why}\n{bold(f'$ {step.command}')}", flush=True)
    program, *arguments = shlex.split(step.command)
    code = subprocess.run([find(program), *arguments], check=False).returncode
    # Killed by a signal: the code that a shell would give.
    code = 128 - code if code < 0 else code
    if code != 0:
        print(f"\nstopped: `{step.command}` ended with exit code {code}", file=sys.stderr, flush=True)
    return code


def print_end(seconds: float) -> None:
    """Say how long it took and what to try next."""
    first = (
        "" if which("mlstream") else f", after `source {os.path.relpath(Path(sys.executable).with_name('activate'))}`"
    )
    print(f"\n{bold('Done')} in {seconds:.0f} s. Try next{first}:\n")
    for command, what in NEXT:
        print(f"  {bold(f'{command:<35}')} {what}")
    print("\nWhat the demo does, and what its numbers do and do not say: docs/demo.md")


def find(program: str) -> str:
    """The program of this environment: `python` is this interpreter, others are beside it."""
    return sys.executable if program == "python" else str(Path(sys.executable).with_name(program))


def bold(text: str) -> str:
    """`text` in bold on a terminal, else as it is."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


if __name__ == "__main__":
    sys.exit(main())

"""The entry point: a group whose commands are imported only when they are called, and the one table of exit codes.

0 ok · 1 expected error · 2 usage · 3 a gate failed · 4 inconclusive where a verdict was demanded · 130 interrupt ·
141 closed pipe. The only broad catch of the project is here.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import click

from mlstream import __version__
from mlstream.cli.lazy import LazyGroup, ReaderGone
from mlstream.cli.plain import plain
from mlstream.errors import MlstreamError, UsageError, redacted

# name → (module, attribute, the help line that `mlstream --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "broker": (
        "mlstream.cli.broker",
        "broker",
        "A real Apache Kafka on this machine: up, down, status, logs.",
    ),
    "snapshot": (
        "mlstream.cli.snapshots.group",
        "snapshot",
        "Freeze topics, files and tables; check, compare, move them.",
    ),
    "train": (
        "mlstream.cli.train",
        "train",
        "Fit the versions that have a train step, on a frozen snapshot.",
    ),
    "version": (
        "mlstream.cli.versions.group",
        "version",
        "What the versions of an experiment are made of; check how they answer.",
    ),
    "run": ("mlstream.cli.runs.group", "run", "Run every version over a snapshot; look at runs, remove them."),
    "compare": (
        "mlstream.cli.comparisons.group",
        "compare",
        "Compare the versions of a run and record it in MLflow; look at comparisons.",
    ),
    "ui": ("mlstream.cli.ui", "ui", "Open the MLflow UI on the recorded comparisons."),
    "config": ("mlstream.cli.config", "config", "Check an experiment file; print its JSON Schema."),
}


@click.group(
    cls=LazyGroup,
    commands_of=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="mlstream")
@click.option(
    "--home",
    type=click.Path(file_okay=False),
    envvar="MLSTREAM_HOME",
    help="Where snapshots and runs are kept: a folder or a URL (default: .mlstream in the project).",
)
@click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT,…",
    envvar="MLSTREAM_BOOTSTRAP_SERVERS",
    help="An existing Kafka cluster (default: the embedded broker).",
)
@click.option(
    "--kafka-config",
    type=click.Path(dir_okay=False),
    envvar="MLSTREAM_KAFKA_CONFIG",
    help="A YAML file of kafka-python's client settings, for TLS and SASL.",
)
@click.pass_context
def cli(ctx: click.Context, home: str | None, bootstrap_servers: str | None, kafka_config: str | None) -> None:
    """Git for machine-learning experiments on streams.

    Freeze a range of Kafka topics, run versions of a model over it in parallel, and compare them with honest
    statistics: a change in the output then comes from the code, not from the data.
    """
    from mlstream.cli.context import Session

    ctx.obj = Session(home=home, bootstrap_servers=bootstrap_servers, kafka_config=kafka_config)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code of the table above."""
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the command line; return its exit code. Errors go to stderr, one line each, never a traceback."""
    try:
        result: Any = cli.main(args=args, prog_name="mlstream", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        said = io.StringIO()
        exc.show(file=said)
        click.echo(redacted(said.getvalue()), err=True, nl=False)
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt) as exc:
        words = exc.args if exc.__cause__ is None else exc.__cause__.args  # of click's Abort it is the interrupt
        click.echo(": ".join(["interrupted", *map(str, words)]), err=True)  # a command may say what comes of it
        return 130
    except (BrokenPipeError, ReaderGone):
        # The reader went away; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MlstreamError as exc:
        _print_error(exc.message, exc.hint)
        return exc.exit_code
    except Exception as exc:
        if os.environ.get("MLSTREAM_DEBUG"):
            raise
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "the output cannot be written" if exc.filename is None else f"{exc.filename} cannot be written"
            _print_error(redacted(f"{what}: {exc.strerror}"), "free some space, and run it again")
            return 1
        _print_error(
            redacted(f"unexpected {type(exc).__name__}: {exc}"), "set MLSTREAM_DEBUG=1 to see where, and report it"
        )
        return 1


def _print_error(message: str, hint: str | None) -> None:
    color = False if os.environ.get("NO_COLOR") else None  # click does not ask (no-color.org)
    click.echo(click.style("error: ", fg="red", bold=True) + plain(message, keep="\n\t"), err=True, color=color)
    if hint is not None:
        click.echo(click.style("  fix: ", fg="cyan") + plain(hint, keep="\n\t"), err=True, color=color)


if __name__ == "__main__":
    main()

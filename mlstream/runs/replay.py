"""Run versions over a snapshot, each in processes of its own: the public `run`, and the steps that it takes.

1. find everything, before anything starts: the input, the versions, their columns, the topics' names
2. decode the input, once for all versions
3. the same run is not computed twice, nor a version that an earlier run has computed
4. go on with an attempt that was cut off; or write a record that says `incomplete`, and make the topics
5. one or more processes a version; wait for all of them
6. freeze what each wrote, and check that it is one prediction for each record
7. write the record, whole
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.transactions import check_transactions
from mlstream.config import ExperimentConfig
from mlstream.errors import UsageError
from mlstream.home import Home
from mlstream.runs.attempt import Attempt, Listener, Progress, utc_now
from mlstream.runs.outputs import clear_leftovers, free_attempt, still_there
from mlstream.runs.prepare import prepare, what_is_known
from mlstream.runs.record import alone, write_record
from mlstream.runs.run import Run
from mlstream.snapshots.snapshot import Snapshot


def run(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None = None,
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Listener | None = None,
) -> Run:
    """Run versions of an experiment over a frozen snapshot, in parallel; their predictions become frozen topics.

    The same run (the same input, versions, decoder, features, seed and batches) is computed once: asked for again, the
    earlier one is returned. A version that another run has computed over the same input is taken from there. A run
    that was cut off is gone on with: its predictions are written exactly once. A version that fails fails alone; see
    `Run.status` and `Run.check`.

    Args:
        config: an experiment or its file.
        snapshot: the input, or its name or id.
        versions: which versions; all when None.
        connection: the cluster that predictions go to; found as `find_connection` says when None.
        home: where snapshots and runs are kept; found as `find_home` says when None.
        workers: processes a version, which share its partitions; how many there are changes no prediction.
        force: compute it again even when it is there.
        progress: called in this thread as the run goes on.

    Returns:
        The run, with the status "complete", "partial" or "failed".

    Raises:
        ConfigError, UnknownSnapshot, UnknownTopic, UnknownVersion, VersionLoadError, DecodeError, UsageError:
            something is not there or not right; nothing was started.
        RunError: the same run is being computed by another process.
        BrokerError: the cluster cannot be used.
    """
    # 1. find everything; 2. decode the input
    tell = progress if progress is not None else _tell_nobody
    found = prepare(
        config,
        snapshot=snapshot,
        versions=versions,
        home=home,
        on_decoding=lambda rows: tell(Progress("decoding", total=rows)),
        on_building=lambda version, _: tell(Progress("building", version)),
    )
    with (
        alone(found.home, found.plan.key),
        found.source.store.in_use(found.source.id, f"a run of {found.config.experiment}"),
    ):
        # 3. the same run is not computed twice
        known = what_is_known(found)
        done = known.done
        if done is not None and not force:
            tell(Progress("reused", total=done.input.rows, rows=done.input.rows, state="done", run_id=done.id))
            return _as_asked(done, found.config)
        given = connection if connection is not None else find_connection(found.home, settings=found.config.connection)
        check_portable(given)
        with Client(given) as client:
            check_transactions(client)
            # 4. go on with an attempt that was cut off
            cut_off = None if force else resumable(client, known.earlier)
            everything = (*known.earlier, *known.repeats)
            clear_leftovers(client, found.home, [run for run in everything if run is not cut_off])
            attempt = free_attempt(client, found.plan, everything) if cut_off is None else cut_off.attempt
            now = Attempt(client, found.home, found.plan, attempt, found.source, found.view, tell, workers)
            if cut_off is not None:
                return now.run(_as_asked(cut_off, found.config), found.decode_seconds)
            return now.run(now.begin({} if force else known.computed), found.decode_seconds)


def resumable(client: Client, earlier: Sequence[Run]) -> Run | None:
    """The newest of these attempts that was cut off and can go on."""
    return next((run for run in earlier if run.status == "incomplete" and still_there(client, run)), None)


def _as_asked(run: Run, config: ExperimentConfig) -> Run:
    """A run that was there, as the newest one, and with what the experiment says now: the same of all that decides
    predictions, and maybe other labels, metrics or gates.
    """
    now = replace(run, config=config, asked_at=utc_now())
    write_record(run.home, now.to_dict())
    return now


def check_portable(connection: Connection) -> None:
    """Refuse settings that are objects of this process: the versions' processes connect by themselves."""
    for name, value in connection.settings.items():
        if not (value is None or isinstance(value, str | int | float)):
            raise UsageError(
                f"connection setting {name}: a {type(value).__name__} cannot be given to another process",
                hint="use settings that are text, numbers or booleans",
            )


def _tell_nobody(progress: Progress) -> None:
    """The listener when none was given."""

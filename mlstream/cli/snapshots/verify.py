"""`mlstream snapshot verify`: whether snapshots are whole, and everything that is wrong with those that are not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.snapshots.options import JSON, SHORT, counted
from mlstream.cli.snapshots.screen import size_text

if TYPE_CHECKING:
    from mlstream.snapshots.findings import Finding
    from mlstream.snapshots.store import Store
    from mlstream.snapshots.verify import Verified

_SHOWN = 8  # parts that one finding breaks, before the rest is counted
_CAUSES = {
    "missing": "missing",
    "control": "transaction markers",
    "aborted": "aborted",
    "compacted": "compacted",
    "earlier": "explained by earlier snapshots",
    "unknown": "of unknown cause",
    "unexplained": "unexplained",
}


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Every snapshot of the store, and every name.")
@click.option("--deep", is_flag=True, help="Recompute the digests of every row, too.")
@click.option("--strict", is_flag=True, help="Fail also where offsets without a record are unexplained.")
@JSON
@click.pass_obj
def verify(session: Session, names: tuple[str, ...], everything: bool, deep: bool, strict: bool, as_json: bool) -> None:
    """Check that the snapshots NAME... are whole: every file is there and is what its digest says.

    All that is missing or wrong is listed, with what it breaks; the exit code is then 1. Offsets without a record are
    accounted for from what the freeze saw: transaction markers, aborted records, compaction. Others are named as
    unexplained, which is no damage: the digests prove that nothing was there when it was frozen.
    """
    from mlstream.errors import IntegrityError, UsageError
    from mlstream.snapshots.store import Store
    from mlstream.snapshots.verify_parts import check_names

    if bool(names) == everything:
        raise UsageError("name the snapshots to check, or give --all", hint="`mlstream snapshot ls` lists them")
    store = Store(session.at)
    lost = check_names(store) if everything else []
    checked = _check(session, store, names, deep=deep)
    bad = [name for name, found in checked if not found.ok]
    doubtful = [name for name, found in checked if found.ok and strict and _unexplained(found)]
    if as_json:
        session.emit_json(
            {
                "ok": not bad and not doubtful and not lost,
                "snapshots": [{"name": name, "ok": found.ok, **asdict(found)} for name, found in checked],
                "names": [asdict(finding) for finding in lost],
            }
        )
    else:
        for name, found in checked:
            _print(session, name, found)
        _print_findings(session, lost)
    if bad or lost:
        raise IntegrityError(
            _verdict(bad, lost),
            hint="restore it from a copy of the store (`mlstream snapshot pull`), or freeze the range again",
        )
    if doubtful:
        raise IntegrityError(
            f"unexplained offsets without a record: {_listed(doubtful)}",
            hint="find out what took them (was the topic compacted before?), or leave --strict out",
        )


def _check(session: Session, store: Store, names: Sequence[str], *, deep: bool) -> list[tuple[str, Verified]]:
    """Each snapshot once, by the name that it was asked for, or one that it has."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from mlstream.errors import MlstreamError, StoreError
    from mlstream.snapshots.verify import Seen, check

    if names:
        wanted = {store.find(name)[0]: name for name in reversed(names)}
        wanted = dict(reversed(wanted.items()))
    else:
        wanted = {snapshot_id: snapshot_id[:SHORT] for snapshot_id in store.ids()}
        for name in reversed(store.names()):
            with suppress(MlstreamError):  # a name that is damaged is told of apart
                if (snapshot_id := store.id_of(name)) in wanted:
                    wanted[snapshot_id] = name
        wanted = dict(sorted(wanted.items(), key=lambda found: found[1]))
    seen, checked = Seen(), []
    hidden = not sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Bar(*columns, console=session.err, transient=True, disable=hidden) as bar:
        task = bar.add_task("")

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        for snapshot_id, name in wanted.items():
            bar.reset(task, description=plain(name))
            with ExitStack() as stack:
                with suppress(StoreError):  # a store that cannot be written is checked without
                    stack.enter_context(store.lease("verify")).hold(snapshots=[snapshot_id])
                if names or store.manifest(snapshot_id).exists():  # else it was collected since it was listed
                    checked.append((name, check(store, snapshot_id, deep=deep, progress=tell, seen=seen)))
    return checked


def _unexplained(found: Verified) -> int:
    return sum(part.unexplained for part in found.gaps)


def _print(session: Session, name: str, found: Verified) -> None:
    held = [f"{counted(found.objects, 'object')}, {size_text(found.size_bytes)}"]
    if found.rows:
        held.append(counted(found.rows, "row"))
    if found.tables:
        held.append(f"{counted(found.tables, 'table')} with {counted(found.table_rows, 'row')}")
    if found.files:
        held.append(counted(found.files, "file"))
    state = "ok" if found.ok else "damaged"
    hint = "; every row recomputed" if found.deep else " (--deep recomputes every row)"
    session.line(f"{state}: {name}: {'; '.join(held)}{hint}")
    _print_findings(session, found.findings)
    _print_gaps(session, found)


def _print_findings(session: Session, findings: Sequence[Finding]) -> None:
    for finding in findings:
        session.line(f"  {finding.message}")
        for part in finding.breaks[:_SHOWN]:
            session.line(f"    breaks {part}")
        if len(finding.breaks) > _SHOWN:
            session.out.print(f"    and {len(finding.breaks) - _SHOWN:,} more")


def _print_gaps(session: Session, found: Verified) -> None:
    sums = {what: sum(getattr(part, cause) for part in found.gaps) for cause, what in _CAUSES.items()}
    told = ", ".join(f"{count:,} {what}" for what, count in sums.items() if count)
    if told:
        session.out.print(f"  offsets without a record: {told}", soft_wrap=True)
    for part in found.gaps:
        if part.unexplained:
            text = f"  unexplained: {part.unexplained:,} offsets of {part.topic}[{part.partition}], not compacted"
            session.line(text)


def _verdict(bad: Sequence[str], lost: Sequence[Finding]) -> str:
    said = [f"snapshot{'s' if len(bad) > 1 else ''} {_listed(bad)}"] if bad else []
    said += [f"{len(lost)} name{'s' if len(lost) > 1 else ''}"] if lost else []
    plural = len(bad) + len(lost) > 1
    return f"{' and '.join(said)}: {'they are' if plural else 'it is'} not whole"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

"""`mlstream version ls`: the versions that the experiments name, as they are written there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.versions.choosing import CONFIG, JSON, experiments, shown_path

if TYPE_CHECKING:
    from mlstream.config import ExperimentConfig


@click.command("ls")
@CONFIG
@JSON
@click.pass_obj
def list_(session: Session, config: str | None, as_json: bool) -> None:
    """List the versions that the experiments name. Nothing is resolved or built: `version show` does that."""
    from mlstream.config import load_config

    found, damaged = ([load_config(config)], {}) if config is not None else experiments()
    for reason in damaged.values():
        session.say(f"not read: {reason}")
    if as_json:
        session.emit_json({"versions": [row for experiment in found for row in _json(experiment)]})
        return
    if not found:
        session.say("no experiments: write one to configs/NAME.yaml, or name one with --config")
        return
    for number, experiment in enumerate(found):
        if number:
            session.out.print()
        session.line(f"{experiment.experiment} ({shown_path(experiment.path)})", style="bold")
        _print(session, experiment)


def _print(session: Session, experiment: ExperimentConfig) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for wraps in (False, True, True):
        table.add_column(no_wrap=not wraps, overflow="fold")
    for row in _json(experiment):
        notes = [
            "baseline" if row["baseline"] else "",
            f"at {row['git']}" if row["git"] is not None else "",
            f"in {row['environment']}" if row["environment"] is not None else "",
            "trained" if row["train"] is not None else "",
            row["description"],
        ]
        table.add_row(f"  {plain(row['version'])}", plain(row["model"]), plain(", ".join(filter(None, notes))))
    session.out.print(table, markup=False)


def _json(experiment: ExperimentConfig) -> list[dict[str, Any]]:
    return [
        {
            "experiment": experiment.experiment,
            "config": str(experiment.path),
            "version": name,
            "baseline": name == experiment.baseline_version,
            "model": own.model,
            "description": own.description,
            "git": own.git,
            "environment": own.environment,
            "train": own.train,
        }
        for name, own in experiment.versions.items()
    ]

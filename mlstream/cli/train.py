"""`mlstream train CONFIG --snapshot NAME`: fit the versions that have a `train:` function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from mlstream.runs.training import Trained


@click.command()
@click.argument("config", metavar="CONFIG")
@click.option("--snapshot", required=True, metavar="NAME", help="What to train on: a name or an id.")
@click.option("--version", "versions", multiple=True, metavar="V", help="Only this version; may be repeated.")
@click.option("--register", is_flag=True, help="Register what is trained in MLflow, as versions of models.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def train(
    session: Session, config: str, snapshot: str, versions: tuple[str, ...], register: bool, as_json: bool
) -> None:
    """Fit the versions of CONFIG that have a `train:` function, on a frozen snapshot.

    Each is called in a process of its own, as function(snapshot, config). What it returns is written to the file that
    `model:` names (or the one under `files:`), with a note of what made it beside it.

    With --register, MLflow gets a run for each, with the snapshot as its dataset, and estimators become versions of
    registered models: a version's `model:` may name the models:/NAME/N that is printed.
    """
    from mlstream.config import load_config
    from mlstream.runs.training import check_trained
    from mlstream.runs.training import train as train_versions

    said = {"building": "building its environment", "started": "training", "done": "done", "failed": "failed"}

    def say(version: str, state: str) -> None:
        if state in said:
            click.echo(f"{version}: {said[state]}", err=True)

    found = load_config(config)
    trained = train_versions(
        found,
        snapshot=snapshot,
        versions=versions if versions else None,
        register=register,
        home=session.at,
        progress=say,
    )
    if as_json:
        session.emit_json({"snapshot": snapshot, "trained": [_as_json(part) for part in trained]})
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("version", "file"):
            table.add_column(name, overflow="fold")
        for name in ("records", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("digest", no_wrap=True)
        for part in trained:
            shown = str(part.path.relative_to(found.root)) if part.path.is_relative_to(found.root) else str(part.path)
            figures = ["–", "–", "[red]failed[/]"]
            if part.note is not None:
                figures = [f"{part.note['rows']:,}", f"{part.note['seconds']:.1f}", part.note["digest"][:12]]
            table.add_row(part.version, shown, *figures)
        session.out.print(table)
        for part in trained:
            if part.registered is not None:
                what = f"run {part.registered.run_id}" if part.registered.uri is None else part.registered.uri
                click.echo(f"{part.version}: {what}")
    check_trained(trained)


def _as_json(part: Trained) -> dict[str, Any]:
    found = {"version": part.version, "path": str(part.path), "error": part.error}
    if part.registered is not None:
        found |= {"model": part.registered.uri, "run_id": part.registered.run_id, "mlflow": part.registered.place}
    return {**found, **(part.note if part.note is not None else {})}

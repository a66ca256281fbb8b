"""`mlstream config`: check an experiment file, print its JSON Schema."""

from __future__ import annotations

import click

from mlstream.cli.context import Session


@click.group()
def config() -> None:
    """Check an experiment file; print its JSON Schema."""


@config.command()
@click.pass_obj
def schema(session: Session) -> None:
    """Print the JSON Schema of experiment files, for editors and CI."""
    from mlstream.config import json_schema

    session.emit_json(json_schema())


@config.command()
@click.argument("path", metavar="CONFIG")
@click.option("--json", "as_json", is_flag=True, help="Print the configuration with all defaults filled in, as JSON.")
@click.pass_obj
def check(session: Session, path: str, as_json: bool) -> None:
    """Read CONFIG and say what is wrong with it, if anything.

    Keys and values, SQL, and names of columns where the file declares them. What only records, code or models can tell
    is found out by `mlstream run CONFIG --snapshot NAME --dry-run`.
    """
    from mlstream.comparison.checking import problems
    from mlstream.config import load_config
    from mlstream.errors import ConfigError

    found = load_config(path)
    wrong = list(problems(found))
    if wrong:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in wrong), path=path)
    if as_json:
        session.emit_json(found.model_dump(mode="json", by_alias=True))
    else:
        plural = "" if len(found.versions) == 1 else "s"
        session.out.print(
            f"{path}: ok: {found.experiment}, {len(found.versions)} version{plural} ({', '.join(found.versions)}), "
            f"baseline {found.baseline_version}"
        )

"""Which experiment a version belongs to: the one that is named, else the only one in `configs/` that has it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlstream.config import ExperimentConfig

CONFIG = click.option(
    "--config", "config", metavar="CONFIG", help="The experiment (default: those in the project's configs/)."
)
VERSION = click.argument("name", metavar="VERSION")
BUILDING = "this may take minutes: building the environment of"
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def experiments() -> tuple[list[ExperimentConfig], dict[Path, str]]:
    """The experiments in the project's `configs/`, and the files there that cannot be read, with the reason.

    A file that only says what to freeze is neither.
    """
    from mlstream.config import load_config, load_snapshot_config
    from mlstream.errors import ConfigError
    from mlstream.home import project_root

    found, damaged = [], {}
    for path in sorted((project_root() / "configs").glob("*.y*ml")):
        try:
            found.append(load_config(path))
        except ConfigError as exc:
            try:
                load_snapshot_config(path)
            except ConfigError:
                damaged[path] = exc.message
    return found, damaged


def experiment_of(version: str, config: str | None) -> ExperimentConfig:
    """The experiment that has a version.

    Raises:
        ConfigError: the file that was named is not as it should be.
        UnknownVersion: no experiment has it; the message has near names.
        UsageError: several have it, and none was named.
    """
    from mlstream.config import load_config
    from mlstream.errors import UnknownVersion, UsageError
    from mlstream.home import project_root

    if config is not None:
        return load_config(config)
    found, damaged = experiments()
    having = [experiment for experiment in found if version in experiment.versions]
    if len(having) == 1:
        return having[0]
    if having:
        files = ", ".join(shown_path(experiment.path) for experiment in having)
        raise UsageError(
            f"{len(having)} experiments have a version {version!r}: {files}", hint="name one with --config"
        )
    message = f"no experiment in {project_root() / 'configs'} has a version {version!r}"
    if damaged:
        message += "; " + "; ".join(f"not read: {reason}" for reason in damaged.values())
    names = {name for experiment in found for name in experiment.versions}
    near = get_close_matches(version, names, n=1)
    raise UnknownVersion(
        message, hint=f"did you mean {near[0]!r}?" if near else "name its experiment with --config CONFIG"
    )


def shown_path(path: Path) -> str:
    """A path from the working directory, where it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

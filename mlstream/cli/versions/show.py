"""`mlstream version show`: what a version resolves to now, digest by digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.versions.choosing import BUILDING, CONFIG, JSON, VERSION, experiment_of, shown_path

if TYPE_CHECKING:
    from mlstream.versions import Version

_SHORT = 12
_A_LINE = 3
# What decides predictions most; --json has all.
_PACKAGES = ("numpy", "polars", "pandas", "scikit-learn", "scipy", "mlflow")


@click.command()
@VERSION
@CONFIG
@JSON
@click.pass_obj
def show(session: Session, name: str, config: str | None, as_json: bool) -> None:
    """Show what VERSION is made of as a run would take it now: its code, weights, files, environment and commit.

    The digest covers all of these but the commit: the same files have the same digest wherever they are taken from.
    No model is loaded, but an environment of its own is built when it is not there yet.
    """
    from mlstream.versions import resolve_version

    experiment = experiment_of(name, config)
    # To look is not to run: what `dirty: refuse` would refuse is shown.
    found = resolve_version(
        experiment.model_copy(update={"dirty": "record"}),
        name,
        home=session.at,
        on_building=lambda file: session.say(f"{BUILDING} {file}"),
    )
    if as_json:
        session.emit_json(_json(found))
        return
    for key, text in _facts(found):
        session.line(f"{key:<12} {text}".rstrip())


def _json(found: Version) -> dict[str, Any]:
    return {
        "version": found.name,
        "experiment": found.config.experiment,
        "config": str(found.config.path),
        **found.describe(),
        "environment": dict(found.environment),
        "python": None if found.python is None else str(found.python),
        "root": str(found.root),
    }


def _facts(found: Version) -> Iterator[tuple[str, str]]:
    own = found.config.versions[found.name]
    yield "version", found.name + (f": {own.description}" if own.description else "")
    yield "experiment", f"{found.config.experiment} ({shown_path(found.config.path)})"
    yield "digest", found.digest
    yield "model", own.model
    if found.found is not None:
        yield "", f"{found.found.pinned} of {found.found.place}"
    yield from _git(found)
    if found.sources is not None:
        yield "code", str(found.code_digest)
        yield from (("", f"{digest[:_SHORT]} {file}") for file, digest in found.sources.files.items())
    if found.weights_digest is not None:
        yield "weights", found.weights_digest
    for number, (file, digest) in enumerate(found.files.items()):
        yield "" if number else "files", f"{digest[:_SHORT]} {file}"
    yield "environment", found.environment_digest
    yield from _environment(found)
    yield "features", "all columns" if found.features is None else ", ".join(found.features)
    if own.parameters:
        yield "parameters", json.dumps(own.parameters, ensure_ascii=False)
    memory = "no limit of memory" if own.memory is None else f"memory {own.memory}"
    yield "limits", f"{memory}, {own.timeout_s:g} s a batch"


def _git(found: Version) -> Iterator[tuple[str, str]]:
    state = found.git
    if state is None:
        yield "commit", "none: nothing of it is in a git repository"
    elif state.revision is not None:
        yield "revision", state.revision
        yield "commit", state.commit
    else:
        yield "commit", f"{state.commit}, {'and these differ from it:' if state.changed else 'as committed'}"
        yield from (("", name) for name in state.changed)
        if state.ignored:
            yield "", "and these, which git ignores:" if state.changed else "but for these, which git ignores:"
            yield from (("", name) for name in state.ignored)
        if state.diff_digest is not None:
            yield "difference", state.diff_digest


def _environment(found: Version) -> Iterator[tuple[str, str]]:
    packages: dict[str, str] = found.environment["packages"]
    named = [f"{name} {packages[name]}" for name in _PACKAGES if name in packages]
    python, count = found.environment["python"], f"{len(packages):,} packages"
    if "file" in found.environment:
        yield "", f"{python}: {count}"
        yield "", f"from {found.environment['file']}"
    else:
        yield "", f"{python}, as installed here: {count}"
    for start in range(0, len(named), _A_LINE):
        yield "", ", ".join(named[start : start + _A_LINE])

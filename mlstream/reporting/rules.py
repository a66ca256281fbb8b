"""Which labels, metrics, margins, slices and gates a comparison goes by. Reads the experiment's file; computes nothing.

What decides predictions is the run's. Everything else (`mlstream.config.RULES`) is the experiment's file's, as it is
when somebody compares: to correct a label or a gate, nothing has to be run again. Where the file is gone, or is another
experiment's by now, the run's record counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlstream.config import changed_rules, load_unconnected, with_rules
from mlstream.errors import ConfigError
from mlstream.runs.run import Run

AS_RUN = "or compare by what the run recorded, with --as-run"


@dataclass(frozen=True, slots=True)
class Ruled:
    """A run with the rules that it is compared by.

    Attributes:
        run: its configuration holds them.
        note: a sentence when they are not, or may not be, those that a reader expects; None when nothing is to be said.
    """

    run: Run
    note: str | None = None


def by_current_rules(run: Run) -> Ruled:
    """The run with the rules that its experiment's file has now.

    Raises:
        ConfigError: the file is wrong, or does not fit the run.
    """
    path = run.config_path
    if path is None or not path.is_file():
        return Ruled(run)
    now = load_unconnected(path)
    was = run.config
    for name in ("experiment", "task"):
        if getattr(now, name) != getattr(was, name):
            told = f"{path.name} has the {name} {getattr(now, name)} by now, and the run {getattr(was, name)}"
            return Ruled(run, f"{told}: compared by what the run recorded")
    changed = changed_rules(was, now)
    if not changed:
        return Ruled(run)
    try:
        config = with_rules(was, now)
    except ConfigError as exc:
        raise ConfigError(
            f"{path}: it was changed since run {run.id[:12]}, and does not fit it: {exc.message}",
            hint=f"run it again, {AS_RUN}",
        ) from exc
    return Ruled(replace(run, config=config), f"{', '.join(changed)}: as in {path.name} now, changed since the run")

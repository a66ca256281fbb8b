"""Compute a comparison again and say whether every figure is the same. Keeps and records nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlstream.comparison.result import Comparison
from mlstream.config import with_rules
from mlstream.home import Home
from mlstream.reporting.compare import choose_run, compute
from mlstream.reporting.kept import open_comparison

# What is not computed from records: an id that covers the rest, and what the run came to know later.
_APART = ("id", "costs", "floor")


@dataclass(frozen=True, slots=True)
class FigureDifference:
    """A value that is not what it was.

    Attributes:
        figure: where it stands: `deltas[3].interval.low`.
        kept: what the comparison says.
        now: what comes out now.
    """

    figure: str
    kept: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of computing a comparison again.

    Attributes:
        comparison_id: of the one that was kept.
        figures: how many values were compared.
        differences: those that are not the same.
    """

    comparison_id: str
    figures: int
    differences: tuple[FigureDifference, ...]

    @property
    def same(self) -> bool:
        """Whether every figure is the same, to the last bit."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "comparison_id": self.comparison_id,
            "same": self.same,
            "figures": self.figures,
            "differences": [{"figure": it.figure, "kept": it.kept, "now": it.now} for it in self.differences],
        }


def verify_comparison(
    comparison: Comparison | str | None = None,
    *,
    home: Home | str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Compute a comparison again from the frozen records and predictions, as it was asked for then.

    Args:
        comparison: one, its id or the beginning of its id; the newest when None.
        home: where comparisons and runs are kept; found as `find_home` says when None.
        progress: called with a sentence at each step.

    Raises:
        ComparisonError: there is no such comparison, or it cannot be computed any more.
        UnknownRun, UnknownSnapshot: what it was computed from is gone.
    """
    kept = comparison if isinstance(comparison, Comparison) else open_comparison(comparison, home=home)
    allow_missing = bool(kept.settings.get("allow_missing"))
    run = choose_run(kept.run_id, allow_missing=allow_missing, home=home)
    now = compute(
        replace(run, config=with_rules(run.config, kept.settings.get("rules") or {})),
        baseline=kept.baseline,
        allow_missing=allow_missing,
        against=None if kept.drift is None else kept.drift.snapshot_id,
        slices=tuple(kept.settings.get("slices", ())),
        progress=progress,
    )
    figures, differences = 0, []
    before, after = (dict(_figures("", _computed(found))) for found in (kept, now))
    for figure in dict.fromkeys([*before, *after]):
        if figure.startswith("settings.") and figure not in before:
            continue  # an earlier release did not write it down
        figures += 1
        if before.get(figure) != after.get(figure) or (figure in before) != (figure in after):
            differences.append(FigureDifference(figure, before.get(figure), after.get(figure)))
    return Verification(kept.id, figures, tuple(differences))


def _computed(found: Comparison) -> dict[str, Any]:
    return {name: value for name, value in found.to_dict().items() if name not in _APART}


def _figures(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value with where it stands."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _figures(f"{place}.{name}" if place else str(name), part)
    elif isinstance(value, list | tuple):
        yield f"{place}.length", len(value)
        for at, part in enumerate(value):
            yield from _figures(f"{place}[{at}]", part)
    else:
        yield place, value

"""A comparison as Markdown for a pull request: one glance above the fold, the rest to unfold. Pure text.

It begins with an invisible mark that names the experiment, so that a bot finds its own comment again.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlstream.comparison.result import Comparison
from mlstream.reporting import note, wording
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.gates import GATE_SIGNS, GateResult

MAX_CHARACTERS = 65_000  # GitHub's comments hold 65,536


def write_markdown(comparison: Comparison, run: RunFacts, *, gates: Sequence[GateResult] = ()) -> str:
    """The comparison for a comment.

    Args:
        comparison: what was found.
        run: where it comes from.
        gates: what came of the experiment's gates.
    """
    head = [
        f"<!-- mlstream {comparison.experiment} -->",
        f"### {note.escaped(wording.title(comparison))}",
        note.headline(comparison),
        gates_table(gates),
        note.verdict_table(comparison),
    ]
    folded = [
        note.folded("Slices", slices_table(comparison)),
        note.folded("How", note.how(comparison)),
        note.folded("Coverage", note.coverage(comparison)),
        note.folded("Made of", note.provenance(comparison, run)),
        note.folded("Recompute", note.recompute(comparison, run)),
    ]
    text = ""
    for part in filter(None, [*head, *folded]):
        if len(text) + len(part) > MAX_CHARACTERS:
            return f"{text}*The rest did not fit here: `mlstream compare show {comparison.id[:12]}`.*\n"
        text += f"{part}\n\n"
    return text.rstrip() + "\n"


def gates_table(gates: Sequence[GateResult]) -> str:
    """A row for each gate and version; nothing without gates."""
    if not gates:
        return ""
    rows = [
        [
            f"{GATE_SIGNS[it.status]} **{it.status}**",
            note.escaped(it.version),
            note.escaped(it.gate),
            note.escaped(it.found),
        ]
        for it in gates
    ]
    return note.table(["gate", "version", "limit", "found"], rows)


def slices_table(comparison: Comparison) -> str:
    """A row for each slice, version and metric, those that the search found first; nothing without slices."""
    rows = [
        [
            note.escaped(found.slice),
            f"{found.records:,}",
            note.escaped(found.version),
            wording.metric_name(found.metric),
            "–" if found.delta is None else wording.signed(found.delta),
            "–" if found.interval is None else wording.interval(found.interval),
            f"{wording.SIGNS[found.verdict]} {found.verdict}",
        ]
        for found in sorted(comparison.slices, key=lambda found: found.kind != "searched")
    ]
    heads = ["slice", "records", "version", "metric", "difference", "interval", "verdict"]
    return note.table(heads, rows) if rows else ""

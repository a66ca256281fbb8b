"""A comparison as one HTML page that needs nothing else: no network, no script, no other file. Writes no file.

The page is light or dark as the reader's system is, and prints. What is on it comes from `report_parts`, how it looks
from `templates/`; every text of a user's is escaped by the templates.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from mlstream.comparison.result import Comparison
from mlstream.reporting import gates, note, report_details, report_figures, report_parts, wording
from mlstream.reporting.facts import RunFacts


def write_report(comparison: Comparison, run: RunFacts) -> str:
    """The page of a comparison, as HTML.

    Args:
        comparison: what was found.
        run: where it comes from.
    """
    return _render("report.html", comparison, run)


def write_fragment(comparison: Comparison) -> str:
    """The verdicts of a comparison as HTML for a notebook, whose text has the colour of what is around it."""
    return _render(
        "fragment.html", comparison, RunFacts(comparison.run_id, comparison.experiment, comparison.snapshot_id)
    )


def render(template: str, /, **values: object) -> str:
    """A template with its values; texts are escaped, the drawings among them are not."""
    return _environment().get_template(template).render(values)


def _render(name: str, comparison: Comparison, run: RunFacts) -> str:
    return render(
        name,
        comparison=comparison,
        run=run,
        title=wording.title(comparison),
        named_slices=report_details.slice_groups(comparison, "named"),
        searched_slices=report_details.slice_groups(comparison, "searched"),
        search_sentence=report_details.search_sentence(comparison),
        left_out_sentence=report_details.left_out_sentence(comparison),
        slice_notes=report_details.slice_notes(comparison),
        figures=report_figures.figures(comparison),
        over_time=report_figures.over_time(comparison),
        shifts=report_details.shifts(comparison),
        disagreements=report_details.disagreements(comparison),
        changes=report_details.changes(comparison),
        drift=report_details.drift(comparison),
        costs=report_details.costs(comparison),
        floor_sentence=report_details.floor_sentence(comparison),
        verdicts=report_parts.verdicts(comparison),
        choice=wording.choice(comparison),
        groups=report_parts.metric_groups(comparison),
        facts=report_parts.facts(comparison, run),
        notes=report_parts.notes(comparison),
        made_of=report_parts.made_of(comparison, run),
        versions=report_parts.version_cards(comparison, run),
        commands=note.commands(comparison, run),
        gates=gates.check_gates(comparison, gates.gates_of(run.config)),
        gate_signs=gates.GATE_SIGNS,
        colours=report_parts.colour_classes(comparison),
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return (files("mlstream.reporting") / "templates" / name).read_text(encoding="utf-8")

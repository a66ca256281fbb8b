"""What a notebook shows of mlstream's objects: who draws what, found by name when it is asked for. Draws nothing.

Objects live below the pages that show them, so they name no page: like the package's door, this is the one place that
knows where both are.
"""

from __future__ import annotations

from importlib import import_module

_PAGES = {
    "Comparison": ("mlstream.reporting.notebook", "comparison_html", "comparison_markdown"),
    "Run": ("mlstream.reporting.notebook", "run_html", "run_markdown"),
    "Snapshot": ("mlstream.reporting.notebook", "snapshot_html", "snapshot_markdown"),
}


class Displayed:
    """An object that shows itself in a notebook: as HTML, and as Markdown where that is all there is."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        module, html, _ = _PAGES[type(self).__name__]
        return str(getattr(import_module(module), html)(self))

    def _repr_markdown_(self) -> str:
        module, _, markdown = _PAGES[type(self).__name__]
        return str(getattr(import_module(module), markdown)(self))


def chart(comparison: object) -> object:
    """The chart of a comparison; None when it has no metrics. See `mlstream.reporting.charts.draw`."""
    return getattr(import_module("mlstream.reporting.charts"), "draw")(comparison)  # noqa: B009  # typed by its name only

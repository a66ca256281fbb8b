"""The chart of a comparison: whole files, the same bytes each time, every figure in words too."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.reporting.charts import BASELINE_COLOUR, Chart, colours, draw
from tests.reporting.examples import example_comparison

SVG = "{http://www.w3.org/2000/svg}"


def drawn(comparison: Comparison) -> Chart:
    chart = draw(comparison)
    assert chart is not None
    return chart


@pytest.fixture(scope="module")
def chart() -> Chart:
    return drawn(example_comparison())


def test_the_png_is_a_picture_twice_as_wide_as_it_is_shown(chart: Chart) -> None:
    with Image.open(io.BytesIO(chart.png)) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 1800
        assert picture.getpixel((0, 0)) == (255, 255, 255, 255)
        assert picture.info["Title"] == "v1 · v2 · v3 on flights-q4"
        assert picture.convert("RGB").getcolors(20) is None  # more than 20 colours: something is drawn


def test_the_svg_is_an_image_with_a_title_and_a_description(chart: Chart) -> None:
    root = ElementTree.fromstring(chart.svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("width") == "720"
    assert root.findtext(f"{SVG}title") == "v1 · v2 · v3 on flights-q4"
    assert root.findtext(f"{SVG}desc") == chart.text


def test_the_same_comparison_gives_the_same_bytes(chart: Chart) -> None:
    assert drawn(example_comparison()) == chart


def test_the_style_of_a_notebook_is_not_the_charts(chart: Chart) -> None:
    with mpl.rc_context({"axes.grid": True, "axes.facecolor": "black", "font.family": "monospace"}):
        assert drawn(example_comparison()) == chart


def test_the_description_holds_every_figure(chart: Chart) -> None:
    assert "v3 is better than v1 on all 6 metrics." in chart.text
    assert "ROC AUC: v1 0.6389; v2 0.6877 (+0.0488, +0.0414 to +0.0562, better)" in chart.text
    assert "Brier score: v1 0.1688; v2 0.1679 (−0.0009, −0.0026 to +0.0008, inconclusive)" in chart.text


def test_without_metrics_there_is_no_chart() -> None:
    assert draw(example_comparison(metrics=(), deltas=())) is None


def test_a_figure_that_is_not_defined_is_shown_as_such() -> None:
    comparison = example_comparison()
    metrics = [
        replace(found, value=None, interval=None, undefined="one class") if found.metric == "roc_auc" else found
        for found in comparison.metrics
    ]
    deltas = [
        replace(found, delta=None, interval=None, verdict="inconclusive") if found.metric == "roc_auc" else found
        for found in comparison.deltas
    ]
    chart = drawn(example_comparison(metrics=tuple(metrics), deltas=tuple(deltas)))
    assert "ROC AUC: v1 not defined; v2 not defined; v3 not defined." in chart.text


@pytest.mark.parametrize("values", [(0.0, 0.0), (-3.5, 2e6), (1e-9, -1e-9), (-1.0, -2.0)])
def test_any_values_can_be_drawn(values: tuple[float, float]) -> None:
    first, second = values
    names = ("a", "with-a-name-that-is-longer-than-any-column-is-wide-" + "x" * 60)
    metrics = tuple(MetricResult(name, "r2", value, None, True) for name, value in zip(names, values, strict=True))
    delta = DeltaResult(names[1], "a", "r2", second - first, None, None, None, None, "inconclusive")
    comparison = example_comparison(
        versions=names, baseline="a", metrics=metrics, deltas=(delta,), blocks=None, labels=None, question="& <b> $x$"
    )
    chart = drawn(comparison)
    assert chart.title == "2 versions on flights-q4"
    ElementTree.fromstring(chart.svg)


def test_each_version_has_a_colour_of_its_own_and_the_baseline_is_grey() -> None:
    found = colours(example_comparison(baseline="v2"))
    assert found["v2"] == BASELINE_COLOUR
    assert len(set(found.values())) == 3

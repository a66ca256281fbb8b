"""The page of a comparison: one file that needs nothing else, readable by everybody, with every figure on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlstream.comparison.result import Change, Comparison, Coverage, DeltaResult, MetricResult
from mlstream.reporting import wording
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.report import write_fragment, write_report
from mlstream.reporting.report_parts import colour_classes
from tests.reporting.crowded import FIGURES, NAMES, crowded_comparison, crowded_run
from tests.reporting.detailed import a_slice, detailed_comparison
from tests.reporting.examples import VERSIONS, example_comparison, example_run

APART = {"td", "th", "h3", "code"}  # whose neighbours are drawn apart
VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Page(HTMLParser):
    """What a reader without mlstream finds on a page: elements with attributes, text; fails when tags do not match."""

    text: str = ""
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag
        self.text += " " if tag in APART else ""

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page._open
    return page


def report(comparison: Comparison | None = None, run: RunFacts | None = None) -> Page:
    found = example_comparison() if comparison is None else comparison
    return read(write_report(found, example_run() if run is None else run))


def test_the_page_needs_no_network_and_runs_nothing() -> None:
    html = write_report(example_comparison(), example_run())
    page = read(html)
    assert not page.all("script")
    assert not page.all("img")
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert not re.search(r"https?://|url\(|@import", html)
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_the_page_is_small() -> None:
    assert len(write_report(example_comparison(), example_run())) < 100_000


def test_the_page_of_a_large_comparison_is_below_two_megabytes_and_says_what_it_leaves_out() -> None:
    crowded = crowded_comparison()
    named = [f"carrier = '{n:03}' and origin in ('JFK', 'LGA', 'EWR')" for n in range(300)]
    surest = named[217]
    slices = [
        a_slice(name, version, 0.01, 0.03, "inconclusive", metric=metric, baseline=NAMES[0], p_adjusted=0.7)
        for name in named
        for metric in FIGURES
        for version in NAMES[1:]
    ]
    slices = [replace(one, reason=f"{one.reason}; about {at} times the data") for at, one in enumerate(slices)]
    slices = [replace(one, p_adjusted=0.001) if one.slice == surest else one for one in slices]
    detailed = detailed_comparison()
    columns = {f"column_{n}": "a text as long as they are kept " * 6 for n in range(40)}
    like = replace(detailed.disagreements[0], baseline=NAMES[0], columns=columns)
    drawn = {
        part: tuple(
            replace(one, version=name) for name in NAMES for one in getattr(detailed, part) if one.version == "v1"
        )
        for part in ("calibration", "curves", "series")
    }
    large = replace(
        crowded,
        **drawn,
        slices=tuple(slices),
        disagreements=tuple(replace(like, version=name) for name in NAMES[1:] for _ in range(20)),
    )
    html = write_report(large, crowded_run())
    assert len(html.encode()) < 2_000_000
    words = read(html).words
    assert "Of 300 slices the 25 are shown" in words
    assert surest in words
    assert sum(name in words for name in named) == 25


def test_every_figure_is_on_the_page_as_text() -> None:
    comparison = example_comparison()
    words = report().words
    for found in comparison.metrics:
        assert found.value is not None
        assert wording.number(found.value) in words
    for delta in comparison.deltas:
        assert delta.interval is not None
        assert wording.interval(delta.interval) in words
    assert words.count("▲ better") == sum(delta.verdict == "better" for delta in comparison.deltas)
    for text in ("82,732", "81,196", "184", "flights-q4", comparison.id, comparison.snapshot_id, comparison.run_id):
        assert text in words


def test_the_best_version_comes_first() -> None:
    words = report().words
    assert words.index("v3 is better than v1 on all 6 metrics") < words.index("v2 is better than v1 on 3 of 6")


def test_versions_that_are_all_better_come_with_how_to_choose() -> None:
    assert "To choose between v2 and v3: mlstream compare acba25512100 --baseline v2" in report().words
    alone = example_comparison(deltas=tuple(it for it in example_comparison().deltas if it.version == "v3"))
    assert "To choose" not in report(alone).words


def test_every_drawing_is_described_or_hidden_from_readers_that_cannot_see_it() -> None:
    drawings = report().all("svg")
    assert len(drawings) == 6 * 3  # two intervals and their axis a metric
    for drawing in drawings:
        assert drawing.get("aria-hidden") == "true" or (drawing["role"] == "img" and drawing["aria-label"])
    labels = [str(drawing.get("aria-label")) for drawing in drawings]
    assert "v3 less v1: +0.0229, 95 % interval +0.0198 to +0.0260: better" in labels


def test_sections_are_named_by_their_headings() -> None:
    page = report()
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    named = [attrs["aria-labelledby"] for attrs in page.all("section") if "aria-labelledby" in attrs]
    assert named
    assert set(named) <= ids
    assert page.elements[0] == ("html", {"lang": "en"})
    assert len(page.all("h1")) == 1


def test_text_of_users_is_shown_and_not_obeyed() -> None:
    nasty = "<script>alert(1)</script>\"' & {{ 7*7 }}"
    page = report(example_comparison(question=nasty, snapshot_name=nasty), example_run(snapshot_name=nasty))
    assert not page.all("script")
    assert nasty in page.text


def test_what_is_not_defined_says_so() -> None:
    metrics = tuple(MetricResult(version, "roc_auc", None, None, True, undefined="one class") for version in VERSIONS)
    deltas = tuple(
        DeltaResult(version, "v1", "roc_auc", None, None, None, None, None, "inconclusive", "one class")
        for version in VERSIONS[1:]
    )
    words = report(example_comparison(metrics=metrics, deltas=deltas)).words
    assert words.count("not defined") >= 3
    assert "Inconclusive: v2 on ROC AUC and v3 on ROC AUC (one class)." in words


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": None, "metrics": (), "deltas": (), "blocks": None},
        {"versions": ("v1",), "metrics": (), "deltas": (), "agreement": {}},
        {"coverage": (), "labels": None, "blocks": None, "question": "", "agreement": {}},
    ],
)
def test_a_comparison_that_lacks_parts_still_makes_a_page(changes: dict[str, object]) -> None:
    comparison = example_comparison(**changes)
    bare = RunFacts(comparison.run_id, comparison.experiment, comparison.snapshot_id)
    assert comparison.id in report(comparison, bare).words
    read(write_fragment(comparison))


def test_records_that_were_left_out_are_a_warning() -> None:
    coverage = (Coverage("v1", 10, 10, 0, 0, 0), Coverage("v2", 10, 7, 2, 1, 0), Coverage("v3", 10, 10, 0, 0, 0))
    page = report(example_comparison(coverage=coverage, paired=7))
    assert "of 10, those that every version answered once; v2: 1 missing, 2 errors of 10 records" in page.words
    assert any(attrs.get("class") == "warning" for attrs in page.all("div"))


def test_gates_of_the_experiment_are_judged_on_the_page() -> None:
    gates = [{"metric": "log_loss", "better_by": 0}, {"metric": "brier_score", "better_by": 0, "require": "verdict"}]
    words = report(run=example_run(config={"gates": gates})).words
    assert "✓ passed v3 Log loss better than v1 −0.0660 (−0.0728 to −0.0592)" in words
    assert "? inconclusive v2 Brier score better than v1 not shown: −0.0009 (−0.0026 to +0.0008)" in words


def test_slices_are_shown_with_their_size_and_what_the_search_was() -> None:
    words = report(detailed_comparison()).words
    assert "Looked through 418 slices of carrier, origin, dest and hour" in words
    assert "carrier = 'HA' and hour < 10 214 records, 0.3 % v2 Log loss 0.5100 → 0.6920 +0.1820" in words
    assert words.index("Found by the search") < words.index("Named by the experiment")


def test_disagreements_are_tables_of_records_with_their_columns() -> None:
    words = report(detailed_comparison()).words
    assert "1:61235 2013-10-17 09:53:20 true (0.9100) false (0.1200) false v1 EV EWR 20 31 <b>x</b>" in words
    assert "v3, where the label is true v1 ↓ v3 → false true false 1,704 1,705 true 1,706 60,000" in words


def test_curves_are_drawn_with_a_line_for_each_version() -> None:
    page = report(detailed_comparison())
    squares = [found for found in page.all("svg") if found.get("class") == "square"]
    assert [str(found["aria-label"]).partition(";")[0].partition(" of ")[0] for found in squares] == [
        "Calibration",
        "ROC",
        "Precision and recall",
        "Quantiles",
    ]
    lines = [found for found in page.all("path") if str(found.get("class")).startswith("line ")]
    assert len(lines) == 3 + (3 + 3 + 3 + 2)  # over time, and the squares


def test_metrics_over_time_are_lines_with_gaps() -> None:
    page = report(detailed_comparison())
    (drawing,) = (found for found in page.all("svg") if found.get("class") == "timeline")
    assert drawing["aria-label"] == "Log loss of v1, v2 and v3 in each 1 d of event time"
    lines = [str(found["d"]) for found in page.all("path") if str(found.get("class")).startswith("line v")]
    assert sum(line.count("M") == 2 for line in lines) == 3  # the day between has no figure


def test_drift_cost_and_noise_are_shown() -> None:
    words = report(detailed_comparison()).words
    assert "Against flights-q3: the columns that differ most come first." in words
    assert "gate – – – – 2 % – only in this snapshot" in words
    assert "v1 was computed 3 times over the same 82,732 records: every prediction was the same, bit for bit." in words
    assert "v3 13,667 3.1 7.4 26.2 0.4 17.0 214 MB" in words


def test_a_cross_table_of_many_classes_becomes_the_most_frequent_changes() -> None:
    many = tuple(
        Change("v2", "v1", None, f"c{before}", f"c{after}", 10 * before + after)
        for before in range(10)
        for after in range(10)
    )
    words = report(example_comparison(changes=many)).words
    assert "v2: the most frequent changes v1 v2 records c9 c8 98 c9 c7 97" in words


def test_parts_that_are_missing_leave_no_section() -> None:
    headings = {attrs.get("id") for attrs in report().all("h2")}
    assert headings == {"metrics", "made-of"}
    assert {attrs.get("id") for attrs in report(detailed_comparison()).all("h2")} == {
        "metrics", "slices", "over-time", "scores", "disagreements", "drift", "cost", "made-of",
    }  # fmt: skip


def test_each_version_has_its_colour_and_more_than_six_go_round() -> None:
    names = tuple(f"m{number}" for number in range(9))
    found = colour_classes(example_comparison(versions=names, baseline="m0"))
    assert [found[name] for name in names] == ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v1 again", "v2 again"]


def test_the_fragment_styles_nothing_but_itself() -> None:
    html = write_fragment(example_comparison())
    style = html.partition("<style>")[2].partition("</style>")[0]
    selectors = [line.partition("{")[0].strip() for line in style.split("}") if "{" in line]
    assert selectors
    assert all(selector.startswith(".mlstream") for selector in selectors)


def test_templates_are_part_of_the_package() -> None:
    import mlstream.reporting

    folder = Path(str(mlstream.reporting.__file__)).parent / "templates"
    assert {path.name for path in folder.iterdir()} >= {"report.html", "report.css", "fragment.html", "parts.html"}

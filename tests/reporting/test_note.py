"""The page of a comparison: what it says, in what order, and what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlstream.comparison.result import Comparison, Coverage, DeltaResult, LabelCoverage, MetricResult, Verdict
from mlstream.reporting import wording
from mlstream.reporting.note import MAX_CHARACTERS, commands, write_note
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import digest, example_comparison, example_run, interval


def test_the_headline_comes_first_then_links_the_chart_and_the_table() -> None:
    note = write_note(example_comparison(), example_run(), pages={"v1": "#/1"}, chart="chart.svg")
    order = ["Will this flight", "v3 is better than v1 on all 6", "[v1](#/1)", "(chart.svg)", "### Verdicts"]
    order += ["### Coverage", "### Made of", "### Recompute"]
    places = [note.index(part) for part in order]
    assert places == sorted(places)


def test_the_table_has_a_row_for_each_metric_with_intervals_and_verdicts() -> None:
    note = write_note(example_comparison(), example_run())
    assert "|  | v1 (baseline) | v2 | v3 |" in note
    row = next(line for line in note.splitlines() if line.startswith("| Brier score ↓"))
    assert "0.1688" in row
    assert "0.1679 ? **inconclusive**<br>−0.0009 (−0.0026 to +0.0008)" in row
    assert "0.1451 ▲ **better**<br>−0.0237 (−0.0254 to −0.0220)" in row
    assert "Inconclusive: v2 on Brier score and v2 on Average precision (the interval holds 0)." in note


def test_how_the_intervals_were_made_is_said() -> None:
    note = write_note(example_comparison(), example_run())
    assert "Intervals are at 95 %" in note
    assert "184 blocks of 12 h of event time" in note
    assert "2,000 resamples" in note
    assert "0.0050 in Accuracy and 0.0020 in Brier score" in note


def test_whole_coverage_is_one_line_and_every_gap_is_counted() -> None:
    note = write_note(example_comparison(), example_run())
    assert "v1, v2 and v3: 82,732 of 82,732 records answered, each once" in note
    coverage = (Coverage("v1", 10, 10, 0, 0, 0), Coverage("v2", 10, 7, 2, 1, 0), Coverage("v3", 10, 10, 0, 0, 3))
    note = write_note(example_comparison(coverage=coverage), example_run())
    assert "- v1: 10 of 10 records answered, each once" in note
    assert "- v2: 7 of 10 records answered, 2 errors, 1 missing" in note
    assert "- v3: 10 of 10 records answered, 3 doubled" in note


def test_labels_are_counted_with_the_reason_for_missing_ones() -> None:
    note = write_note(example_comparison(), example_run())
    assert "81,196 of 82,732 records have a label, 22 % of them positive" in note
    assert "1,536 have none (cancelled and diverted flights have no arrival); arr" in note
    late = LabelCoverage(records=10, labelled=4, not_yet_due=6, missing=0, positives=None, rule="x > 1")
    assert "6 are not yet due; x > 1" in write_note(example_comparison(labels=late), example_run())
    assert "no labels: the versions are compared" in write_note(example_comparison(labels=None), example_run())


def test_everything_that_it_was_made_of_is_named() -> None:
    note = write_note(example_comparison(), example_run())
    for part in (digest("snapshot"), digest("run"), digest("comparison"), digest("version v2")[:12], "flights-q4"):
        assert part in note
    assert "topic `flights`: 4 partitions, 83,994 offsets" in note
    assert "163,928 records, 14.8 MB" in note
    assert "Commit `3fa27000c0ffee00c0ffee00c0ffee00c0ffee00` on `main`\n" in note
    assert "gradient boosting, `models/flights-v3.skops`" in note


def test_the_commands_recompute_it() -> None:
    note = write_note(example_comparison(), example_run())
    assert note.endswith(
        "```\nmlstream snapshot verify flights-q4\n"
        "mlstream run configs/flights.yaml --snapshot flights-q4\n"
        f"mlstream compare {digest('run')[:12]} --baseline v1\n"
        f"mlstream compare verify {digest('comparison')[:12]}\n```"
    )


def test_the_commands_name_every_option_that_was_given() -> None:
    settings = {"allow_missing": True, "slices": ["origin", "hour > 18"]}
    comparison = detailed_comparison(settings=settings)
    told = commands(comparison, example_run(config={"slices": ["origin"]}))
    assert told[-2] == (
        f"mlstream compare {digest('run')[:12]} --baseline v1 --allow-missing --slice 'hour > 18' --against flights-q3"
    )


def test_a_users_text_is_shown_as_it_is() -> None:
    note = write_note(example_comparison(question="is a_b < *c* & [d](e)?"), example_run())
    assert r"**is a\_b &lt; \*c\* &amp; \[d\](e)?**" in note


def test_a_long_note_loses_its_last_parts_and_says_so() -> None:
    run = example_run()
    many = {name: replace(known, description="long " * 900) for name, known in run.versions.items()}
    note = write_note(example_comparison(), replace(run, versions=many))
    assert len(note) <= MAX_CHARACTERS
    assert "### Verdicts" in note
    assert "### Made of" not in note
    assert note.endswith("it is in `comparison.json` under Artifacts.*")


def compared(*verdicts: Verdict) -> Comparison:
    names = [f"m{number}" for number in range(len(verdicts))]
    metrics = tuple(MetricResult(version, name, 0.5, None, True) for name in names for version in ("v1", "v2"))
    deltas = tuple(
        DeltaResult("v2", "v1", name, 0.1, interval(0.1, 0.05), 0.1, 0.1, None, verdict)
        for name, verdict in zip(names, verdicts, strict=True)
    )
    return example_comparison(versions=("v1", "v2"), metrics=metrics, deltas=deltas)


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (["better"], "v2 is better than v1 on its one metric"),
        (["worse", "worse"], "v2 is worse than v1 on all 2 metrics"),
        (["equivalent"] * 3, "v2 is equivalent to v1 on all 3 metrics"),
        (["inconclusive"] * 3, "v2 is inconclusive on all 3 metrics"),
        (
            ["inconclusive", "worse", "better", "better"],
            "v2 is better than v1 on 2 of 4 metrics, worse on 1 and inconclusive on 1",
        ),
        ([], "v2 was not measured against v1: it gives v1's answer on 92.1 % of the records"),
    ],
)
def test_the_headline_counts_the_verdicts(verdicts: list[Verdict], sentence: str) -> None:
    assert wording.headline(compared(*verdicts)) == [sentence]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5000"),
        (-0.0013, "−0.0013"),
        (0.00034, "0.0003"),
        (-0.00004, "−0.000040"),
        (0.0000012, "1.2e−6"),
        (1e-16, "0.0000"),
        (-0.25, "−0.2500"),
        (12.345, "12.35"),
        (-1234567.0, "−1,234,567"),
        (-2.5e18, "−2.5e18"),
    ],
)
def test_numbers_have_the_digits_that_matter(value: float, shown: str) -> None:
    assert wording.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.5, "+0.5000"), (-0.5, "−0.5000"), (0.0, "0.0000"), (1e-9, "+1.0e−9")])
def test_differences_have_their_sign(value: float, shown: str) -> None:
    assert wording.signed(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.95, "95 %"), (0.999, "99.9 %"), (1.0, "100 %"), (0.99999, "> 99.9 %"), (1e-5, "< 0.1 %")]
)
def test_shares_are_never_rounded_to_all_or_none(share: float, shown: str) -> None:
    assert wording.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(43200, "12 h"), (90, "1.5 min"), (172800, "2 d"), (1.5, "1.5 s"), (0.02, "20 ms")]
)
def test_durations_are_in_the_largest_unit(seconds: float, shown: str) -> None:
    assert wording.duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (14_812_003, "14.8 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_in_decimal_units(size: float, shown: str) -> None:
    assert wording.size(size) == shown

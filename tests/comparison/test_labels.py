"""Labels: joined by equality and time, due by event time alone, never guessed."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from mlstream.comparison.labels import Labelled, find_labels, needed_columns
from mlstream.config import LabelConfig
from mlstream.errors import LabelError

HOUR = 3_600_000
START = 1_380_585_600_000
RULE = {"topic": "landings", "on": ["flight"], "value": "delay > 15", "within": "36h", "missing": "exclude"}


def stream(
    rows: list[tuple[float | None, Any]], column: str, schema: Any = pl.Int64, **more: list[Any]
) -> pl.DataFrame:
    """Rows of (hours after the start, flight) as a decoded stream."""
    times = [None if hours is None else START + round(hours * HOUR) for hours, _ in rows]
    return pl.DataFrame(
        {
            "_partition": pl.Series([0] * len(rows), dtype=pl.Int32),
            "_offset": pl.Series(range(len(rows)), dtype=pl.Int64),
            "_timestamp": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")),
            column: pl.Series([value for _, value in rows], dtype=schema),
            **more,
        }
    )


def flights(*rows: tuple[float, Any], schema: Any = pl.Int64) -> pl.DataFrame:
    return stream(list(rows), "flight", schema)


def landings(*rows: tuple[float | None, Any, Any], schema: Any = pl.Int64) -> pl.DataFrame:
    return stream([row[:2] for row in rows], "flight", schema, delay=[row[2] for row in rows])


def find(records: pl.DataFrame, labels: pl.DataFrame | None, **changes: Any) -> Labelled:
    return find_labels(LabelConfig.model_validate(RULE | changes), records, labels)


FAR = (100.0, 999, 0)  # a label long after, so that everything before is due


def test_a_label_is_joined_by_the_declared_columns() -> None:
    found = find(flights((0, 7), (1, 8), (2, 9)), landings((3, 9, 20), (4, 7, 10), (5, 8, 60), FAR))
    assert found.chosen.tolist() == [True, True, True]
    assert found.values.to_list() == [False, True, True]
    assert (found.coverage.labelled, found.coverage.missing, found.coverage.not_yet_due) == (3, 0, 0)
    assert found.coverage.rule == "delay > 15, from landings on flight, within 36h"


@pytest.mark.parametrize(
    ("hours", "labelled"),
    [(-0.001, False), (0, True), (36, True), (36.001, False)],
    ids=["before", "at", "end", "late"],
)
def test_a_label_counts_from_the_event_to_the_end_of_its_window(hours: float, labelled: bool) -> None:
    found = find(flights((1, 7), (2, 8)), landings((1 + hours, 7, 20), (3, 8, 20), FAR))
    assert found.chosen.tolist() == [labelled, True]


def test_the_same_key_again_later_is_another_flight() -> None:
    found = find(flights((0, 7), (48, 7)), landings((5, 7, 20), (50, 7, 0), FAR))
    assert found.values.to_list() == [True, False]


def test_a_record_whose_window_is_open_at_the_cut_is_left_out_whether_its_label_came_or_not() -> None:
    # The label stream ends at hour 40: windows that opened after hour 4 are still open.
    records = flights((3, 1), (4, 2), (5, 3), (6, 4))
    labels = landings((4, 1, 20), (5, 2, 20), (6, 3, 20), (40, 999, 0))
    found = find(records, labels, missing="refuse")
    assert found.chosen.tolist() == [True, True, False, False]
    assert (found.coverage.labelled, found.coverage.not_yet_due, found.coverage.missing) == (2, 2, 0)
    assert found.coverage.cut_ms == START + 40 * HOUR


def test_due_records_without_a_label_are_refused_by_default_and_named() -> None:
    records, labels = flights((0, 7), (1, 8)), landings((3, 7, 20), FAR)
    with pytest.raises(LabelError, match=r"1 of 2 records are due and have no label.*partition 0, offset 1.*reason"):
        find(records, labels, missing="refuse")
    found = find(records, labels, reason="cancelled flights do not land")
    assert (found.coverage.missing, found.coverage.null) == (1, 0)
    assert found.coverage.reason == "cancelled flights do not land"


def test_a_null_label_is_no_label_and_counted_apart() -> None:
    records, labels = flights((0, 7), (1, 8)), landings((3, 7, None), (4, 8, 20), FAR)
    found = find(records, labels)
    assert (found.coverage.labelled, found.coverage.missing, found.coverage.null) == (1, 1, 1)
    with pytest.raises(LabelError, match="1 of them with a label that is null"):
        find(records, labels, missing="refuse")


def test_where_labels_tell_of_events_a_due_record_without_one_has_the_label_that_none_stands_for() -> None:
    records = flights((0, 7), (1, 8), (2, 9), (3, None), (90, 7))
    labels = landings((5, 8, 20), (6, 9, None), FAR)
    found = find(records, labels, absent=False)
    assert found.chosen.tolist() == [True, True, False, False, False]
    assert found.values.to_list() == [False, True]
    assert (found.coverage.labelled, found.coverage.absent) == (2, 1)
    assert (found.coverage.missing, found.coverage.null, found.coverage.not_yet_due) == (2, 1, 1)
    assert found.coverage.rule == ("delay > 15, from landings on flight, within 36h; false where none came (1 record)")
    assert find(records, labels, absent=0, value="delay").values.to_list() == [0, 20]
    with pytest.raises(LabelError, match=r"labels\.absent: 0 is none of the labels, which are Boolean"):
        find(records, labels, absent=0)


def test_what_absence_says_is_for_labels_from_elsewhere_whose_time_is_up() -> None:
    with pytest.raises(ValueError, match="`absent:` needs `within:`, or a label that is still to come"):
        find(flights((0, 7)), landings(FAR), absent=False, within=None)
    with pytest.raises(ValueError, match=r"write COALESCE\(field, false\)"):
        LabelConfig(value="late", absent=False)


def test_two_labels_for_one_record_are_an_error_that_names_them() -> None:
    with pytest.raises(
        LabelError, match=r"1 record has more than one label; .*flight=7\), with landings .*offset 0, .*offset 1"
    ):
        find(flights((0, 7), (1, 8)), landings((3, 7, 20), (4, 7, 20), (5, 8, 1), FAR))


def test_one_label_may_be_for_several_records() -> None:
    found = find(flights((0, 7), (1, 7)), landings((3, 7, 20), FAR))
    assert found.values.to_list() == [True, True]


def test_without_a_window_every_record_is_due_and_time_does_not_matter() -> None:
    found = find(flights((10, 7), (20, 8)), landings((3, 7, 20), (4, 8, 1)), within=None)
    assert found.values.to_list() == [True, False]
    assert found.coverage.not_yet_due == 0
    with pytest.raises(LabelError, match="more than one label"):
        find(flights((10, 7)), landings((3, 7, 20), (4, 7, 1)), within=None)


def test_a_null_key_matches_nothing() -> None:
    found = find(flights((0, None), (1, 8)), landings((3, None, 20), (4, 8, 20), FAR))
    assert found.chosen.tolist() == [False, True]


def test_several_columns_must_all_be_equal() -> None:
    records = flights((0, 7), (1, 7)).with_columns(carrier=pl.Series(["AA", "UA"]))
    labels = landings((3, 7, 20), (4, 7, 1), FAR).with_columns(carrier=pl.Series(["UA", "AA", None]))
    found = find(records, labels, on=["carrier", "flight"])
    assert found.values.to_list() == [False, True]


def test_a_label_in_the_record_itself_needs_no_join() -> None:
    records = flights((0, 7), (1, 8)).with_columns(late=pl.Series([True, None]))
    found = find(records, None, topic=None, on=[], value="late", within=None)
    assert (found.coverage.labelled, found.coverage.missing, found.coverage.null) == (1, 1, 1)
    assert found.coverage.cut_ms is None
    assert found.coverage.rule == "late, from the record"


def test_not_a_number_is_no_truth() -> None:
    records = flights((0, 7), (1, 8)).with_columns(late=pl.Series([1.0, float("nan")]))
    assert find(records, None, topic=None, on=[], value="late", within=None).coverage.null == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": "delay >"}, r"labels.value: 'delay >' is not a SQL expression"),
        ({"value": "dely > 15"}, r"labels.value: a label of landings has no column 'dely'; did you mean 'delay'\?"),
        ({"value": "sum(delay)"}, r"gives 1 values for 2 rows.*without aggregates"),
        ({"on": ["fligth"]}, r"labels.on: the record has no column 'fligth'; did you mean 'flight'\?"),
    ],
)
def test_a_wrong_rule_is_named_with_the_fix(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        find(flights((0, 7)), landings((3, 7, 20), FAR), **changes)


def test_keys_of_different_types_are_an_error_and_not_an_empty_join() -> None:
    with pytest.raises(LabelError, match="flight is String in the record and Int64 in landings"):
        find(flights((0, "7"), schema=pl.String), landings((3, 7, 20), FAR))


def test_whole_numbers_of_different_widths_are_the_same_key() -> None:
    found = find(flights((0, 7), schema=pl.Int16), landings((3, 7, 20), FAR))
    assert found.values.to_list() == [True]


def test_labels_without_a_time_cannot_have_a_window() -> None:
    labels = landings((None, 7, 20), FAR)
    with pytest.raises(LabelError, match="1 labels of landings have no event time"):
        find(flights((0, 7)), labels)
    assert find(flights((0, 7)), labels, within=None).values.to_list() == [True]


@pytest.mark.parametrize("labels", [landings(), landings((0, 7, 20))], ids=["none at all", "none due"])
def test_no_record_with_a_label_is_an_error_that_says_how_many_are_not_due(labels: pl.DataFrame) -> None:
    with pytest.raises(LabelError, match=r"none of 2 records has a label \(0 without one, 2 not yet due\)"):
        find(flights((0, 7), (1, 8)), labels)


def test_the_join_reads_only_the_columns_that_it_names() -> None:
    rule = LabelConfig.model_validate(RULE | {"value": "delay > 15 AND NOT cancelled"})
    assert needed_columns(rule) == (("flight",), ("flight", "delay", "cancelled"))
    own = LabelConfig(value="a + b > 1")
    assert needed_columns(own) == (("a", "b"), ())


def test_many_labels_for_few_keys_are_joined_without_every_pair() -> None:
    hours = 20_000
    records = flights(*((float(hour), 1) for hour in range(hours)))
    labels = landings(*((hour + 0.5, 1, hour) for hour in range(hours)), (hours + 9, 999, 0))
    found = find(records, labels, within="40m", value="delay")
    assert found.values.to_list() == list(range(hours))


@pytest.mark.parametrize("again", [False, True], ids=["a label a key", "keys come again"])
@pytest.mark.parametrize("kind", ["narrow", "wide", "text", "null"])
@pytest.mark.parametrize("within", ["36h", None])
def test_labels_are_those_that_a_search_record_by_record_finds(kind: str, again: bool, within: str | None) -> None:
    rng = random.Random(3)
    keys: list[Any] = [-50, 500, *rng.sample(range(-5, 75), 58), 76]  # there are no labels for the first ten
    schema: Any = pl.Int64
    if kind == "wide":
        keys = [key * 10**12 for key in keys]
    elif kind == "text":
        keys, schema = [f"flight {key}" for key in keys], pl.String
    elif kind == "null":
        keys[30] = None
    records = [(rng.uniform(0, 40), key) for key in keys[:-1]]
    told = [(rng.uniform(-10, 90), key, rng.choice([0, 20, None])) for key in keys[10:-1]]
    if again:
        told += [(hours + 60, key, 20) for hours, key, _ in told[:20]]
    rng.shuffle(told)
    told.append((200.0, keys[-1], 20))  # so that everything before is due

    def search(sent: float, key: Any) -> list[bool | None]:
        near = [label for came, other, label in told if other == key and (not within or sent <= came <= sent + 36)]
        return [None if label is None else label > 15 for label in ([] if key is None else near)]

    wanted = [search(*record) for record in records]
    asked = flights(*records, schema=schema), landings(*told, schema=schema)
    if any(len(labels) > 1 for labels in wanted):
        with pytest.raises(LabelError, match="more than one label"):
            find(*asked, within=within, reason="some never land")
        return
    found = find(*asked, within=within, reason="some never land")
    assert found.chosen.tolist() == [labels not in ([], [None]) for labels in wanted]
    assert found.values.to_list() == [labels[0] for labels in wanted if labels not in ([], [None])]
    assert found.coverage.null == wanted.count([None])

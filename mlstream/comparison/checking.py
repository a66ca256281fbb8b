"""What can be said of an experiment's expressions and columns before there are records. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import polars as pl
from polars.exceptions import PolarsError

from mlstream.config import DecodeConfig, ExperimentConfig

_BESIDE = ("label", "prediction", "score", "scores")  # what a metric of one's own may name beside the record's columns


def problems(config: ExperimentConfig) -> Iterator[str]:
    """A sentence for each expression that is no SQL, and each name that no declared column has.

    Names are held against the columns only where `decode.columns` declares them: else the records say what there is.
    """
    columns = _declared(config.input.decode)
    for version in config.versions:
        own = config.versions[version].features
        if own is not None:
            yield from _strange(f"versions.{version}.features", own, columns)
    yield from _strange("features", config.features or (), columns)
    for number, expression in enumerate(config.slices):
        yield from _of_expression(f"slices[{number}]", expression, columns)
    yield from _strange("slice_search.columns", config.slice_search.columns or (), columns)
    if config.ranking is not None:
        yield from _strange("ranking.group", [config.ranking.group], columns)
    for name, metric in config.custom_metrics.items():
        if metric.value is not None:
            known = None if columns is None else (*columns, *_BESIDE)
            yield from _of_expression(f"custom_metrics.{name}.value", metric.value, known)
    yield from _of_labels(config, columns)


def _of_labels(config: ExperimentConfig, columns: Sequence[str] | None) -> Iterator[str]:
    rule = config.labels
    if rule is None:
        return
    if rule.source is None:
        theirs = columns
    else:
        yield from _strange("labels.on", rule.on, columns)
        theirs = _declared(rule.decode) if rule.topic is not None else None
        yield from _strange("labels.on", rule.on, theirs, of="labels.decode.columns")
    of = "input.decode.columns" if rule.source is None else "labels.decode.columns"
    yield from _of_expression("labels.value", rule.value, theirs, of=of)


def _declared(decode: DecodeConfig) -> tuple[str, ...] | None:
    if decode.format == "raw":
        return ("value",)
    return None if decode.columns is None else tuple(decode.columns)


def _of_expression(
    key: str, expression: str, columns: Sequence[str] | None, *, of: str = "input.decode.columns"
) -> Iterator[str]:
    try:
        names = pl.sql_expr(expression).meta.root_names()
    except PolarsError as exc:
        reason = next(iter(str(exc).splitlines()), "")
        yield f"{key}: {expression!r} is not a SQL expression: {reason} (words of SQL's own stand in quotes)"
        return
    yield from _strange(key, dict.fromkeys(names), columns, of=of)


def _strange(
    key: str, names: Sequence[str] | dict[str, None], columns: Sequence[str] | None, *, of: str = "input.decode.columns"
) -> Iterator[str]:
    """The names that are no column; `_timestamp` and the like are of every record."""
    for name in names:
        if columns is None or name in columns or name.startswith("_"):
            continue
        near = get_close_matches(name, columns, n=1)
        yield f"{key}: {name!r} is not among {of}" + (f"; did you mean {near[0]!r}?" if near else "")

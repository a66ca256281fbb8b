"""What a comparison goes by: labels, metrics of one's own, slices, gates, intervals. Part of `models.py`; no files."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlstream.config.decode import DecodeConfig
from mlstream.config.section import Section
from mlstream.errors import MlstreamError
from mlstream.ranges import parse_duration_s


def _duration(value: object) -> str:
    try:
        parse_duration_s(str(value))
    except MlstreamError as exc:
        raise ValueError(str(exc)) from exc
    return str(value)


Duration = Annotated[str, BeforeValidator(_duration)]


class LabelConfig(Section):
    """Where the truth comes from: a field of the record itself, or another stream, table or file of the snapshot."""

    topic: str | None = Field(None, description="the topic that brings the labels; without it, the input's own record")
    table: str | None = Field(None, description="the table of the snapshot that brings the labels, a row each")
    file: str | None = Field(
        None, description="the file of the snapshot that brings the labels, a row each: .csv, .parquet or .jsonl"
    )
    time: str | None = Field(
        None,
        description="of a table or file: the column with the time at which a label came (a time, or ms since 1970)",
    )
    decode: DecodeConfig = DecodeConfig()
    on: list[str] = Field(
        default_factory=list,
        description="columns that a record and its label have in common, compared for equality",
    )
    value: str = Field(description="SQL expression over the label's columns, for example 'arr_delay > 15'")
    within: Duration | None = Field(
        None,
        description="how long after a record its label may come, for example 36h; later records are not yet due",
    )
    missing: Literal["refuse", "exclude"] = Field(
        "refuse",
        description="a record that is due and has no label: refuse stops the comparison, "
        "exclude leaves it out of the metrics and counts it",
    )
    absent: bool | int | float | str | None = Field(
        None,
        description="what is true of a record that is due and for which no label came, where labels tell of events: "
        "false, or 0 for a number; without it such a record is missing its label",
    )
    reason: str | None = Field(None, description="why labels may be missing; printed with the count")

    @model_validator(mode="after")
    def _joined(self) -> LabelConfig:
        given = sum(found is not None for found in (self.topic, self.table, self.file))
        if given > 1:
            raise ValueError("labels come from one of topic, table and file")
        if given and not self.on:
            raise ValueError("labels from elsewhere need `on:`, the columns that tell which record a label is for")
        if self.time is not None and self.table is None and self.file is None:
            raise ValueError("`time:` is for labels from a table or a file; records of a topic have their own")
        if self.within is not None and self.time is None and given and self.topic is None:
            raise ValueError("`within:` needs `time:`, the column with the time at which a label came")
        if self.absent is not None and not given:
            raise ValueError("`absent:` is for labels from elsewhere; of the record's own write COALESCE(field, false)")
        if self.absent is not None and self.within is None and (self.topic is not None or self.time is not None):
            raise ValueError("`absent:` needs `within:`, or a label that is still to come would count as none")
        return self

    @property
    def source(self) -> str | None:
        """What brings the labels, in words; None for the record itself."""
        if self.table is not None:
            return f"table {self.table}"
        return f"file {self.file}" if self.file is not None else self.topic


class BootstrapConfig(Section):
    """How uncertainty is estimated."""

    resamples: Annotated[int, Field(ge=200, le=100_000)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    block: Literal["auto"] | Duration = Field(
        "auto", description="length of a block of event time, for example 6h; auto: from the autocorrelation"
    )
    seed: int = 0


class CustomMetricConfig(Section):
    """A figure of your own: a value for each labelled record, whose mean is compared, or one value for all of them."""

    value: str | None = Field(
        None,
        description="SQL over the record's columns, label, prediction and score, for example "
        "'CASE WHEN prediction THEN CASE WHEN label THEN 40 ELSE -5 END ELSE 0 END'",
    )
    function: str | None = Field(
        None,
        description="path.py:function, given a polars frame with the record's columns, label, prediction and score, "
        "that gives a number for each row, or one number (`of: whole`); it runs in the process that compares",
    )
    of: Literal["records", "whole"] = Field(
        "records",
        description="records: a value for each record, whose mean is compared; whole: one smooth function of all "
        "records, called about 100 times a version for its interval",
    )
    better: Literal["higher", "lower"] = "higher"

    @model_validator(mode="after")
    def _one(self) -> CustomMetricConfig:
        if (self.value is None) == (self.function is None):
            raise ValueError("a metric of your own needs `value` or `function`, one of them")
        if self.function is not None and not re.fullmatch(r"[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*", self.function):
            raise ValueError(f"{self.function!r} is not path.py:function")
        return self


class RankingConfig(Section):
    """What a ranking task ranks: the records of each group, by what a version says of them."""

    group: str = Field(description="the column of the input whose equal values make a group, for example search_id")
    k: Annotated[int, Field(ge=1)] = Field(10, description="how far down ndcg_at_k and precision_at_k look")


class SliceSearchConfig(Section):
    """How the slices are looked for on which a version is worse than the baseline."""

    columns: list[str] | None = Field(
        None, description="the columns of the input that are cut into slices; all of them when left out, none for []"
    )
    metric: str | None = Field(
        None, description="the metric that is looked at, a mean over records; when left out the finest that there is"
    )
    least_records: Annotated[int, Field(ge=1)] = Field(100, description="slices of fewer labelled records are left out")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="the share of what is found that may be found by chance (Benjamini & Yekutieli 2001)"
    )
    show: Annotated[int, Field(ge=0, le=100)] = Field(10, description="how many of them are kept, the worst first")


class GateConfig(Section):
    """A limit that a version must keep, with confidence: the bounds of its interval count, not the figure alone."""

    metric: str = Field(description="the metric that the limit is on")
    version: str | None = Field(None, description="the version that it is about; every challenger when left out")
    against: str | None = Field(None, description="the baseline that it is meant against; only to make sure")
    slice: str | None = Field(
        None, description="only on that part of the records: one of `slices`, as the comparison shows it"
    )
    no_worse_than: Annotated[float, Field(ge=0)] | None = Field(
        None, description="how much worse than the baseline it may be"
    )
    better_by: Annotated[float, Field(ge=0)] | None = Field(
        None, description="how much better than the baseline it must be; 0: better at all"
    )
    at_least: float | None = Field(None, description="the least that its own value may be")
    at_most: float | None = Field(None, description="the most that its own value may be")
    require: Literal["verdict"] | None = Field(
        None,
        description="verdict: where the data does not say, exit with 4 (inconclusive) instead of 3 (failed)",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> GateConfig:
        limits = (self.no_worse_than, self.better_by, self.at_least, self.at_most)
        given = sum(limit is not None for limit in limits)
        if given > 1 or (given == 0 and self.require is None):
            raise ValueError(
                "a gate needs one limit: no_worse_than, better_by, at_least or at_most; or `require: verdict` alone"
            )
        if self.slice is not None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("a gate on a slice is on the difference to the baseline: no_worse_than or better_by")
        return self

    @property
    def limit(self) -> float | None:
        """The limit that was given; None when a verdict is all that is asked for."""
        limits = (self.no_worse_than, self.better_by, self.at_least, self.at_most)
        return next((limit for limit in limits if limit is not None), None)

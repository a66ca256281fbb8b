"""The `snapshot:` section: what one snapshot holds. No files, no broker; the words are those of the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from mlstream.config.section import Section
from mlstream.errors import MlstreamError
from mlstream.ranges import parse_position, parse_rate, parse_topic


def _checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Whether the command line would take a value, in words that fit a file."""

    def check(value: str) -> str:
        try:
            parse(value)
        except MlstreamError as exc:
            raise ValueError(str(exc)) from exc
        return value

    return check


Topic = Annotated[str, AfterValidator(_checked(parse_topic))]
PositionText = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),  # an offset
    AfterValidator(_checked(parse_position)),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Rate = Annotated[str, AfterValidator(_checked(parse_rate))]


class SnapshotConfig(Section):
    """What `mlstream snapshot create NAME --config FILE` freezes: topics, files and tables, cut together."""

    model_config = ConfigDict(populate_by_name=True)

    topics: list[Topic] = Field(default_factory=list, description="T, T[0,2-4] or T[0]@FROM..TO")
    start: PositionText = Field(
        "earliest",
        alias="from",
        description="where topics start that do not say it themselves: an offset, a time (UTC unless it says "
        "otherwise), a time ago (-2h), earliest, latest or group:NAME",
    )
    stop: PositionText = Field("latest", alias="to", description="where they stop, exclusive")
    files: list[str] = Field(
        default_factory=list,
        description="files, folders and patterns (*, **), relative to the project's root",
    )
    tables: list[str] = Field(
        default_factory=list,
        description="tables of databases, as URL#TABLE; ${NAME} in a URL is read from the environment",
    )
    queries: list[str] = Field(default_factory=list, description="queries, as URL#NAME=SELECT …")
    allow_partial: bool = Field(False, description="keep what can be had where records have expired")
    max_rate: Rate | None = Field(None, description="the most to fetch from the brokers, for example 50MB/s")

    @model_validator(mode="after")
    def _holds_something(self) -> SnapshotConfig:
        if not (self.topics or self.files or self.tables or self.queries):
            raise ValueError("it names nothing to freeze; add topics, files, tables or queries")
        return self

"""How a record's value becomes typed columns, as an experiment file says it. Decodes nothing; `decoding` does."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from mlstream.config.section import Section

Format = Literal["json", "avro", "json-schema", "csv", "fixed-width", "raw"]
# YAML reads `null` as nothing at all.
OnError = Annotated[
    Literal["fail", "null", "dead-letter"],
    BeforeValidator(lambda value: "null" if value is None else value),
    WithJsonSchema({"enum": ["fail", "null", "dead-letter", None]}),
]

_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_MOST_DIGITS = 38
_WORDS = ("int", "float", "string", "bool", "date", "time", "time(us)", "time(ns)", "time_of_day", "binary", "json")
_KNOWN = "int, float, string, bool, date, time, time(us), time(ns), time_of_day, decimal(P,S), binary or json"
_TIMES = ("date", "time", "time(us)", "time(ns)", "time_of_day")
_TEXT_FORMATS = ("csv", "fixed-width")
_JSON_FORMATS = ("json", "json-schema")
_POINTER = re.compile(r"(/([^~/]|~[01])*)+")  # RFC 6901, without the empty one, which is the record itself


def _type(value: object) -> str:
    text = str(value).strip()
    found = _DECIMAL.fullmatch(text)
    if found is not None:
        digits, scale = int(found[1]), int(found[2])
        if not 1 <= digits <= _MOST_DIGITS or scale > digits:
            raise ValueError(f"{text}: at most {_MOST_DIGITS} digits, and no more behind the point than in all")
        return f"decimal({digits},{scale})"
    if text not in _WORDS:
        raise ValueError(f"the type {text!r} is not known; use {_KNOWN}")
    return text


def _schema_text(value: object) -> object:
    """A schema may stand in the file as text or as YAML."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _pointer(value: str) -> str:
    if not _POINTER.fullmatch(value):
        raise ValueError(f"{value!r} is no JSON Pointer; write for example /customer/country")
    return value


ColumnType = Annotated[str, BeforeValidator(_type)]
SchemaText = Annotated[str, BeforeValidator(_schema_text)]
Sign = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1)]
Text = Annotated[str, StringConstraints(strip_whitespace=False)]


class _Sparse(Section):
    """A section that tells only what was said, beside what it always tells: digests cover what it tells, and an option
    that is added later must not change those of today."""

    _always: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in told.items()
            if name in self._always or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }


class ColumnConfig(_Sparse):
    """One column, where its type alone does not say enough."""

    _always = ("type",)

    type: ColumnType = Field("string", description=_KNOWN)
    pointer: Annotated[str, AfterValidator(_pointer)] | None = Field(
        None,
        description="json, json-schema: where the value is, as a JSON Pointer (RFC 6901) through the record's objects, "
        "for example /customer/country; without it, the member of the column's name",
    )
    field: Annotated[int, Field(ge=1)] | None = Field(
        None, description="csv: the number of its field, from 1; without it, the one after the column before"
    )
    start: Annotated[int, Field(ge=0)] | None = Field(
        None, description="fixed-width: its first byte, from 0; without it, where the column before ends"
    )
    width: Annotated[int, Field(ge=1)] | None = Field(None, description="fixed-width: how many bytes it has")
    optional: bool = Field(False, description="null, not an error, where a record ends before it")
    decimals: Annotated[int, Field(ge=0, le=_MOST_DIGITS)] | None = Field(
        None, description="the last so many digits stand behind the point, which is not written: 4 makes 1234500 123.45"
    )
    format: Text | None = Field(
        None,
        description="of a date or time, in the signs of Rust's chrono: %H%M%S%3f for HHMMSSmmm; "
        "without it ISO 8601, or for time whole milliseconds since 1970",
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> ColumnConfig:
        if self.format is not None and self.type not in _TIMES:
            raise ValueError(f"`format` is for dates and times, and the type is {self.type}")
        if self.decimals is not None:
            if self.type != "float" and not self.type.startswith("decimal"):
                raise ValueError(f"`decimals` is for float and decimal, and the type is {self.type}")
            found = _DECIMAL.fullmatch(self.type)
            if found is not None and int(found[2]) < self.decimals:
                raise ValueError(f"{self.decimals} decimals do not fit {self.type}")
        return self


def _form(value: object) -> str:
    return "[column]" if isinstance(value, dict | ColumnConfig) else "[type]"


Column = Annotated[
    Annotated[ColumnType, Tag("[type]")] | Annotated[ColumnConfig, Tag("[column]")],
    Discriminator(_form),
]


class DecodeConfig(_Sparse):
    """How a record's value becomes typed columns."""

    _always = ("format", "columns", "on_error")

    format: Format = Field(
        "json",
        description="json: one JSON object a record; avro, json-schema: as a schema registry's serializers write them; "
        "csv: one line a record; fixed-width; raw: bytes as they are",
    )
    columns: dict[str, Column] | None = Field(
        None,
        description="column name → type (int, float, string, bool, date, time, time(us), time(ns), time_of_day, "
        "decimal(P,S), binary, json), or a mapping that says more of a column; csv and fixed-width need it; json "
        "without it: the schema is inferred over the whole range, once, and pinned in the run; avro, json-schema "
        "without it: all columns",
    )
    on_error: OnError = Field(
        "fail",
        description="a value that does not decode: fail names it and stops; null makes its columns null; "
        "dead-letter leaves the record out and keeps it apart, with the reason",
    )
    reader_schema: SchemaText | None = Field(
        None,
        description="avro, json-schema: the schema whose columns are wanted; "
        "without it the newest that the records name (the highest id)",
    )
    schemas: dict[int, SchemaText] = Field(
        default_factory=dict,
        description="avro, json-schema: id → schema, where the snapshot was frozen without a registry",
    )
    delimiter: Sign = Field(",", description="csv: what stands between two fields")
    quote: Sign | None = Field('"', description="csv: what a field may be enclosed in; null: nothing")
    nulls: list[Text] = Field(
        default_factory=list, description="csv, fixed-width: texts that mean null, beside the empty one"
    )
    trim: bool | None = Field(
        None, description="csv, fixed-width: drop spaces around a field; without it only fixed-width does"
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_are_types_or_more(cls, columns: object) -> object:
        if not isinstance(columns, dict):
            return columns
        # Checked here, so that the message names the column.
        checked: dict[Any, Any] = {}
        for name, column in columns.items():
            try:
                checked[name] = _type(column) if isinstance(column, str) else column
            except ValueError as exc:
                raise ValueError(f"column {name!r}: {exc}") from exc
        return checked

    @model_validator(mode="after")
    def _fits_its_format(self) -> DecodeConfig:
        details = [name for name, column in (self.columns or {}).items() if isinstance(column, ColumnConfig)]
        if self.format in _TEXT_FORMATS and not self.columns:
            raise ValueError(f"format {self.format} needs `columns`: the record does not say what they are")
        if self.format not in (*_TEXT_FORMATS, *_JSON_FORMATS) and details:
            raise ValueError(f"column {details[0]!r}: format {self.format} takes a type alone")
        if self.format == "raw" and self.columns:
            raise ValueError("format raw has one column, `value`; leave `columns` out")
        if self.format not in ("avro", "json-schema") and (self.reader_schema is not None or self.schemas):
            raise ValueError(f"format {self.format} has no schemas; leave `reader_schema` and `schemas` out")
        if self.format not in _TEXT_FORMATS and (self.nulls or self.trim is not None):
            raise ValueError(f"`nulls` and `trim` are for csv and fixed-width, and the format is {self.format}")
        if self.format != "csv" and (self.delimiter != "," or self.quote != '"'):
            raise ValueError(f"`delimiter` and `quote` are for csv, and the format is {self.format}")
        if self.format in _JSON_FORMATS:
            self._refuse_types("binary")
            self._check_json()
        else:
            self._check_no_json()
        if self.format == "csv":
            self._check_csv()
        if self.format == "fixed-width":
            self._check_fixed_width()
        return self

    def details(self) -> dict[str, ColumnConfig]:
        """The declared columns, each with all that is said of it."""
        return {
            name: ColumnConfig(type=column) if isinstance(column, str) else column
            for name, column in (self.columns or {}).items()
        }

    def _refuse_types(self, *refused: str) -> None:
        for name, column in self.details().items():
            if column.type in refused:
                raise ValueError(f"column {name!r}: format {self.format} has no {column.type}")

    def _check_json(self) -> None:
        for name, column in self.details().items():
            others = column.model_dump(exclude={"type", "pointer"})
            if others:
                raise ValueError(
                    f"column {name!r}: format {self.format} takes `type` and `pointer`, not {min(others)!r}"
                )

    def _check_no_json(self) -> None:
        self._refuse_types("json")
        for name, column in self.details().items():
            if column.pointer is not None:
                raise ValueError(f"column {name!r}: `pointer` is for json and json-schema")

    def _check_csv(self) -> None:
        self._refuse_types("binary")
        for name, column in self.details().items():
            if column.start is not None or column.width is not None:
                raise ValueError(f"column {name!r}: `start` and `width` are for fixed-width; csv takes `field`")
        if self.delimiter in "\r\n" or self.delimiter == self.quote or not self.delimiter.isascii():
            raise ValueError(f"delimiter {self.delimiter!r}: one ASCII sign, neither the quote nor an end of line")
        if self.quote is not None and (self.quote in "\r\n " or not self.quote.isascii()):
            raise ValueError(f"quote {self.quote!r}: one ASCII sign, neither a space nor an end of line")

    def _check_fixed_width(self) -> None:
        for name, column in self.details().items():
            if column.width is None:
                raise ValueError(f"column {name!r}: format fixed-width needs its `width`")
            if column.field is not None:
                raise ValueError(f"column {name!r}: `field` is for csv; fixed-width takes `start`")

"""From a configuration to the decoder that it asks for. Reads no records, except through what it makes."""

from __future__ import annotations

from collections.abc import Sequence

from mlstream.config import DecodeConfig
from mlstream.decoding.avro import AvroDecoder
from mlstream.decoding.columns import Decoder
from mlstream.decoding.csv import CsvDecoder
from mlstream.decoding.fixed_width import FixedWidthDecoder
from mlstream.decoding.framed import RegisteredSchema
from mlstream.decoding.json_decoder import JsonDecoder, RegisteredJsonDecoder
from mlstream.decoding.json_registered import columns_of
from mlstream.decoding.raw import RawDecoder

_DECLARED = 0  # the id of a schema that is given and in no registry; registries count from 1
_TYPES = {"avro": "AVRO", "json-schema": "JSON"}


def is_inferred(decode: DecodeConfig) -> bool:
    """Whether the columns are found out from the records themselves."""
    return decode.format == "json" and decode.columns is None


def open_decoder(decode: DecodeConfig, registered: Sequence[RegisteredSchema] = ()) -> Decoder:
    """The decoder of a configuration whose columns are not inferred.

    Args:
        registered: the schemas that the snapshot holds for the topic.

    Raises:
        ValueError: the schemas are not there, or cannot be used; a column cannot be had. Says what it is.
    """
    match decode.format:
        case "raw":
            return RawDecoder()
        case "csv":
            return CsvDecoder(decode)
        case "fixed-width":
            return FixedWidthDecoder(decode)
        case "json":
            return JsonDecoder(_types(decode), _paths(decode))
        case "json-schema":
            return _registered_json(decode, registered)
        case "avro":
            writers, reader = _schemas(decode, registered)
            return AvroDecoder(writers, reader, columns=_types(decode) if decode.columns is not None else None)


def _types(decode: DecodeConfig) -> tuple[tuple[str, str], ...]:
    return tuple((name, column.type) for name, column in decode.details().items())


def _paths(decode: DecodeConfig) -> dict[str, tuple[str, ...]]:
    """Column → the members that lead to it, of those that have a JSON Pointer (RFC 6901)."""
    return {
        name: tuple(step.replace("~1", "/").replace("~0", "~") for step in column.pointer.split("/")[1:])
        for name, column in decode.details().items()
        if column.pointer is not None
    }


def _registered_json(decode: DecodeConfig, registered: Sequence[RegisteredSchema]) -> Decoder:
    if decode.columns is not None:
        return RegisteredJsonDecoder(_types(decode), None, _paths(decode))
    writers, reader = _schemas(decode, registered)
    return RegisteredJsonDecoder(columns_of(reader), [writer.id for writer in writers])


def _schemas(
    decode: DecodeConfig, registered: Sequence[RegisteredSchema]
) -> tuple[list[RegisteredSchema], RegisteredSchema]:
    """The schemas that records may name, and the one whose columns are wanted."""
    kind = _TYPES[decode.format]
    found = {schema.id: schema for schema in registered}
    for schema in registered:
        if schema.type != kind:
            raise ValueError(f"schema {schema.id} is of type {schema.type}, not {kind}")
    for number, text in decode.schemas.items():
        if number in found and found[number].text != text:
            raise ValueError(f"schema {number} is given under `schemas`, and the snapshot holds another of that id")
        found.setdefault(number, RegisteredSchema(number, kind, text))
    writers = [found[number] for number in sorted(found)]
    if decode.reader_schema is not None:
        references = {name: text for schema in writers for name, text in schema.references}
        return writers, RegisteredSchema(_DECLARED, kind, decode.reader_schema, tuple(references.items()))
    if not writers:
        raise ValueError("the snapshot holds no schemas for it")
    return writers, writers[-1]

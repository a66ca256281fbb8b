"""The columns that a JSON Schema declares. Reads the schema; validates no record against it.

Each property of the object is a column, in the order of the schema. `integer`, `number`, `string`, `boolean` are int,
float, string, bool, a string of format `date-time` or `date` is time or date; with null as an alternative they are the
same. Anything else, and what a schema leaves open, is json: the text of the value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlstream.decoding.framed import RegisteredSchema

_WORDS = {"integer": "int", "number": "float", "string": "string", "boolean": "bool"}
_FORMATS = {"date-time": "time", "date": "date"}
_ALTERNATIVES = ("oneOf", "anyOf")
_MOST_STEPS = 32


def columns_of(schema: RegisteredSchema) -> tuple[tuple[str, str], ...]:
    """Names and types, in the words of `types`.

    Raises:
        ValueError: it is no JSON Schema, refers to what is not there, or does not describe an object.
    """
    documents = {name: _load(text, f"schema {schema.id}, {name}") for name, text in schema.references}
    root = _load(schema.text, f"schema {schema.id}")
    found = _Reader(root, documents, schema.id)
    properties = found.properties(root, root)
    if properties is None:
        raise ValueError(f"schema {schema.id} does not describe a JSON object with properties")
    return tuple((name, found.word(document, part)) for name, (document, part) in properties.items())


class _Reader:
    """A schema with what it refers to. A part of a schema is told with the document that its `#` is."""

    def __init__(self, root: Any, documents: Mapping[str, Any], schema_id: int) -> None:
        self._documents = dict(documents)
        self._id = schema_id
        for document in (root, *documents.values()):
            if isinstance(document, dict) and isinstance(document.get("$id"), str):
                self._documents.setdefault(document["$id"], document)

    def properties(self, document: Any, part: Any) -> dict[str, tuple[Any, Any]] | None:
        """Name → (document, schema), of the part and all that it is made of; None when it has none."""
        document, part = self._resolve(document, part)
        if not isinstance(part, dict):
            return None
        found: dict[str, tuple[Any, Any]] = {}
        if isinstance(part.get("properties"), dict):
            found |= {name: (document, each) for name, each in part["properties"].items()}
        for each in _list(part.get("allOf")):
            found |= self.properties(document, each) or {}
        return found or None

    def word(self, document: Any, part: Any) -> str:
        """The type of one property."""
        document, part = self._resolve(document, part)
        if not isinstance(part, dict):
            return "json"
        for key in _ALTERNATIVES:
            if key in part:
                words = {self.word(document, each) for each in _list(part[key]) if not self._is_null(document, each)}
                return words.pop() if len(words) == 1 else "json"
        kinds = part.get("type")
        names = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"]
        if set(names) == {"integer", "number"}:
            names = ["number"]
        word = _WORDS.get(names[0], "json") if len(names) == 1 and isinstance(names[0], str) else "json"
        return _FORMATS.get(str(part.get("format")), word) if word == "string" else word

    def _is_null(self, document: Any, part: Any) -> bool:
        _, part = self._resolve(document, part)
        return isinstance(part, dict) and part.get("type") == "null"

    def _resolve(self, document: Any, part: Any) -> tuple[Any, Any]:
        """Follow `$ref`."""
        for _ in range(_MOST_STEPS):
            if not isinstance(part, dict) or not isinstance(part.get("$ref"), str):
                return document, part
            reference = part["$ref"]
            name, _, pointer = reference.partition("#")
            if name:
                if name not in self._documents:
                    raise ValueError(f"schema {self._id} refers to {reference}, which the snapshot does not hold")
                document = self._documents[name]
            part = self._at(document, pointer, reference)
        raise ValueError(f"schema {self._id}: its references go round in a circle")

    def _at(self, document: Any, pointer: str, reference: str) -> Any:
        """RFC 6901."""
        here = document
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(here, dict) or step not in here:
                raise ValueError(f"schema {self._id} refers to {reference}, and there is nothing")
            here = here[step]
        return here


def _list(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list) else ()


def _load(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{what} is not JSON: {exc}") from exc

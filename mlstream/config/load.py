"""Read an experiment file and word what is wrong with it: file, line, key, fix. Reads that one file only."""

from __future__ import annotations

import difflib
import os
import re
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from mlstream.config.models import ExperimentConfig, SnapshotFile
from mlstream.config.section import Section
from mlstream.errors import ConfigError, shown_url
from mlstream.home import project_root


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: `on`, `yes` and dates stay text, as a reader of the file expects."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.rsplit(":", 1)[1] in ("null", "int", "float", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


M = TypeVar("M", bound=Section)


def load_config(path: str | Path) -> ExperimentConfig:
    """The experiment at `path`, checked.

    Raises:
        ConfigError: the file is not there, is not YAML, or a key is unknown, missing or has a wrong value.
    """
    return _load_experiment(Path(path), connected=True)


def load_unconnected(path: str | Path) -> ExperimentConfig:
    """The experiment at `path` for who talks to no cluster: without `connection` and `schema_registry`, whose variables
    the environment need not have.

    Raises:
        ConfigError: as `load_config`.
    """
    return _load_experiment(Path(path), connected=False)


def _load_experiment(path: Path, *, connected: bool) -> ExperimentConfig:
    node, data = _read(
        path, "an experiment is a mapping of keys", hint="start with `experiment: NAME`", connected=connected
    )
    if "snapshot" in data and data.keys() <= SnapshotFile.model_fields.keys():
        raise ConfigError(
            f"{path}: it says what to freeze, and is no experiment",
            hint=f"use it with `mlstream snapshot create NAME --config {path}`, or add `experiment:` and the rest",
            path=str(path),
        )
    return _validated(path, node, data, ExperimentConfig).located(path.resolve(), project_root(path.resolve().parent))


def load_snapshot_config(path: str | Path) -> SnapshotFile:
    """The `snapshot:` section of the file at `path`, and its `connection:`, checked; of an experiment, or alone.

    Raises:
        ConfigError: as `load_config`, or there is no such section.
    """
    path = Path(path)
    node, data = _read(path, "a configuration is a mapping of keys", hint="start with `snapshot:`")
    if data.get("snapshot") is None:
        raise ConfigError(
            f"{path}: it has no `snapshot:` section",
            hint="add one, with topics, files, tables or queries; `mlstream config schema` says what it holds",
            path=str(path),
        )
    if data.keys() <= SnapshotFile.model_fields.keys():
        return _validated(path, node, data, SnapshotFile)
    found = _validated(path, node, data, ExperimentConfig)
    return SnapshotFile.model_construct(
        **{name: getattr(found, name) for name in SnapshotFile.model_fields if name in ExperimentConfig.model_fields}
    )


def _read(path: Path, what: str, *, hint: str, connected: bool = True) -> tuple[yaml.Node, dict[str, Any]]:
    """The mapping in a file, with the environment's values put in, or without the sections that have any; and its
    nodes, which know their lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", hint=_near_files(path), path=str(path)) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}", path=str(path)) from exc
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        problem = getattr(exc, "problem", None) or str(exc)
        raise ConfigError(f"{path}:{line}: not YAML: {problem}", path=str(path), line=line) from exc
    if not isinstance(data, dict) or node is None:
        raise ConfigError(f"{path}:1: {what}", hint=hint)
    _refuse_repeated_keys(path, node)
    for section in ("connection", "schema_registry"):
        data[section] = _expand(path, node, section, data.get(section)) if connected else None
        if data[section] is None:
            del data[section]
    return node, data


def _validated(path: Path, node: yaml.Node, data: dict[str, Any], model: type[M]) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise _as_config_error(path, node, exc, model) from exc


def _expand(path: Path, node: yaml.Node, section: str, found: Any) -> Any:
    """`${NAME}` in a section's settings → the environment's value."""

    def value_of(where: tuple[str, ...], match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise ConfigError(
                f"{path}:{_line(node, where)}: {'.'.join(where)}: the environment has no {match[1]}",
                hint=f"export {match[1]}=…",
            )
        return value

    def expanded(where: tuple[str, ...], value: Any) -> Any:
        return _VARIABLE.sub(partial(value_of, where), value) if isinstance(value, str) else value

    if isinstance(found, dict):
        return {key: expanded((section, str(key)), value) for key, value in found.items()}
    return expanded((section,), found)


def _as_config_error(path: Path, node: yaml.Node, exc: ValidationError, model: type[Section]) -> ConfigError:
    lines = []
    first = 1
    for number, error in enumerate(exc.errors(include_url=False)):
        where = _where(error)
        line = _line(node, where)
        first = line if number == 0 else first
        key = ".".join(str(part) for part in where)
        lines.append(f"{path}:{line}: {key + ': ' if key else ''}{_explain(error, model)}")
    return ConfigError("\n".join(lines), path=str(path), line=first)


def _where(error: Any) -> tuple[Any, ...]:
    """The keys that lead to an error; what pydantic puts among them in brackets is in no file."""
    return tuple(part for part in error["loc"] if not str(part).startswith("["))


def _explain(error: Any, model: type[Section]) -> str:
    kind, where = error["type"], _where(error)
    if kind == "extra_forbidden":
        known = _keys_at(model, where[:-1])
        near = difflib.get_close_matches(str(where[-1]), known, n=1)
        return "no such key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}")
    if kind == "missing":
        return "missing; add it"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if kind == "value_error" or isinstance(given, dict | list):
        return message
    shown = shown_url(given) if isinstance(given, str) and "://" in given else given
    return f"{message[0].lower()}{message[1:]} (it is {shown!r})"


def _keys_at(model: type[Section], where: tuple[Any, ...]) -> list[str]:
    """The keys that the schema knows at a place in the file."""
    schema = model.model_json_schema()
    here: Any = schema
    for part in where:
        here = _resolve(schema, here)
        properties = here.get("properties", {})
        here = properties.get(part, here.get("additionalProperties", here.get("items", {})))
    return list(_resolve(schema, here).get("properties", {}))


def _resolve(schema: dict[str, Any], here: Any) -> dict[str, Any]:
    while isinstance(here, dict) and not here.keys().isdisjoint(("$ref", "anyOf", "oneOf", "allOf")):
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rsplit("/", 1)[1]]
        else:
            options = here.get("anyOf") or here.get("oneOf") or here["allOf"]
            nested = [option for option in options if "$ref" in option]
            here = next((option for option in nested or options if option.get("type") != "null"), {})
    return here if isinstance(here, dict) else {}


def _line(node: yaml.Node, where: tuple[Any, ...]) -> int:
    """The line (from 1) of the deepest part of `where` that the file has."""
    line = node.start_mark.line + 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return int(line)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return int(line)
    return int(line)


def _refuse_repeated_keys(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(
                    f"{path}:{line}: {key.value}: the key stands here twice (first in line {seen[key.value]})",
                    hint="keep one of them",
                    path=str(path),
                    line=line,
                )
            seen[key.value] = line
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(path, item)


def _near_files(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    names = sorted(str(file) for file in folder.glob("*.y*ml")) if folder.is_dir() else []
    return f"there are: {', '.join(names)}" if names else "write one; `mlstream config schema` says what it holds"

"""The examples of the documentation are right: YAML validates, every key is explained, the first experiment runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlstream.broker.connection import Connection
from mlstream.config import json_schema, load_config

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GUIDE = ROOT / "docs" / "experiment.md"
VARIABLES = ("KAFKA_PASSWORD", "REGISTRY_PASSWORD", "WEATHER_DB", "SHOP_DB")
# What an experiment must have, for examples that show a part of one.
AROUND = {
    "experiment": "shown",
    "input": {"topic": "orders"},
    "versions": {name: {"model": "shop/model.py:make"} for name in ("v1", "v2", "v3")},
}
SECTIONS = {"decode": "input", "columns": "decode"}  # a part that stands in another


def examples() -> Iterator[Any]:
    """Each block of YAML, by its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield pytest.param(found[1], id=f"{page.name}:{text[: found.start()].count(chr(10)) + 1}")


@pytest.mark.parametrize("example", list(examples()))
def test_an_example_of_an_experiment_validates(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "sqlite:///shop.db")
    lines = example
    keys = list(yaml.safe_load(example))
    while keys[0] in SECTIONS:
        section = SECTIONS[keys[0]]
        topic = "  topic: orders\n" if section == "input" else ""
        lines = f"{section}:\n{topic}" + "".join(f"  {line}\n" for line in lines.splitlines())
        keys = [section]
    rest = {name: value for name, value in AROUND.items() if name not in keys}
    file = tmp_path / "shown.yaml"
    file.write_text(lines + ("\n" + yaml.safe_dump(rest) if rest else ""), encoding="utf-8")
    load_config(file)


def keys_of(schema: dict[str, Any], here: dict[str, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every key of a file, as `versions.*.model`, with the words that may stand there."""
    for name, part in here.get("properties", {}).items():
        yield from _keys_below(schema, part, f"{path}.{name}" if path else name)


def _keys_below(schema: dict[str, Any], part: dict[str, Any], path: str) -> Iterator[tuple[str, list[str]]]:
    forms, words, deeper = [part], [], []
    while forms:
        form = forms.pop()
        forms += [*form.get("anyOf", ()), *form.get("oneOf", ()), *form.get("allOf", ())]
        if "$ref" in form:
            forms.append(schema["$defs"][form["$ref"].rsplit("/", 1)[1]])
        words += [word for word in (*form.get("enum", ()), *filter(None, [form.get("const")])) if word is not None]
        if "properties" in form:
            deeper += list(keys_of(schema, form, path))
        if isinstance(form.get("additionalProperties"), dict):
            deeper += list(_keys_below(schema, form["additionalProperties"], f"{path}.*"))
        if isinstance(form.get("items"), dict):
            deeper += list(_keys_below(schema, form["items"], f"{path}[]"))
    yield from deeper if any(each != path for each, _ in deeper) else [(path, words)]


def documented() -> dict[str, str]:
    """Key → its row, of the tables under "Every key"."""
    rows = {}
    for line in GUIDE.read_text(encoding="utf-8").split("## Every key")[1].splitlines():
        if line.startswith("| `"):
            for key in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
                rows[key] = line
    return rows


def test_every_key_is_explained_and_no_other() -> None:
    schema = json_schema()
    every = dict(keys_of(schema, schema))
    known = {_place(key): words for key, words in every.items()}
    sections = {_place(key[: end.start()]) for key in every for end in re.finditer(r"\.", key)}
    rows = documented()
    assert sorted(set(known) - set(rows)) == [], "not explained in docs/experiment.md"
    assert sorted(set(rows) - set(known) - sections) == [], "explained in docs/experiment.md, and not known"
    for key, words in known.items():
        assert [word for word in words if f"`{word}`" not in rows[key]] == [], f"words of {key} that are not explained"


def _place(key: str) -> str:
    """How the tables write a key: decoding is explained once, and lists of names are the key itself."""
    key = re.sub(r"^(input|labels)\.decode\.", "decode.", key)
    return re.sub(r"(\[\]|\.\*)$", "", key)


@pytest.mark.broker
def test_the_first_experiment_runs_as_it_is_written(tmp_path: Path, broker: Connection, empty_store: Path) -> None:
    steps = GUIDE.read_text(encoding="utf-8").split("## What a model is")[0]
    found = list(re.finditer(r"(?:^`(?P<file>[^`]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", steps, re.M | re.S))
    assert {step["file"] for step in found if step["kind"] != "sh"} == {
        "publish.py", "shop/rule.py", "shop/train.py", "configs/returns.yaml"
    }  # fmt: skip
    # The folder's topics are its own, on a broker that is there already; all else is as it stands.
    ours = tmp_path.name.replace("_", "-")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLSTREAM_", "MLFLOW_"))},
        "MLSTREAM_BOOTSTRAP_SERVERS": ",".join(broker.bootstrap_servers),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / ".mlstream").mkdir()  # `broker up` makes it
    shutil.copy(empty_store, tmp_path / ".mlstream")  # else seconds go into MLflow's tables
    said = ""
    for step in found:
        text = re.sub(r"\b(orders|outcomes)\b(?=\"|\n|$| --topic)", rf"\1-{ours}", step["text"], flags=re.M)
        if step["kind"] != "sh":
            (tmp_path / step["file"]).write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            if line == "mlstream broker up":
                continue
            done = subprocess.run(
                shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            said += done.stdout
    assert "logistic is better than rule" in said
    assert (tmp_path / "returns.html").is_file()

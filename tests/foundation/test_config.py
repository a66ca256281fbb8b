"""Experiment files: what is wrong is named by file, line, key and fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlstream.cli.main import run
from mlstream.config import json_schema, load_config
from mlstream.errors import ConfigError

GOOD = """\
experiment: flights
input:
  topic: flights
labels:
  topic: landings
  on: [carrier, flight]
  value: arr_delay > 15
  within: 36h
versions:
  v1:
    model: pipelines/flights/rule.py:late_rate
  v2:
    model: models/v2.skops
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "exp.yaml"
    path.write_text(text)
    return path


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.baseline_version == "v1"
    assert config.metric_names[:2] == ("accuracy", "balanced_accuracy")
    assert config.bootstrap.confidence == 0.95
    assert config.path == (tmp_path / "exp.yaml").resolve()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [  # what stands there, what shall stand there, what load_config says of it
        ("topic: flights\n", "topik: flights\n", r"exp.yaml:3: input.topik: no such key; did you mean 'topic'\?"),
        ("  value: arr_delay > 15\n", "", r"exp.yaml:4: labels.value: missing; add it"),
        ("within: 36h", "within: 36", r"exp.yaml:8: labels.within: '36' is not a duration; write a number and a unit"),
        ("  v2:", "  V2:", r"exp.yaml:9: versions: version 'V2': a name holds a-z.*rename it, for example to 'v2'"),
        ("  v2:", "  v1:", r"exp.yaml:12: v1: the key stands here twice \(first in line 10\); keep one of them"),
        ("experiment: flights", "experiment: a.b", r"exp.yaml:1: experiment: experiment 'a.b'"),
        ("input:", "baseline: v9\ninput:", r"baseline 'v9' is not a version; there are: v1, v2"),
        ("input:", "metrics: [acuracy]\ninput:", r"'acuracy' is not a metric of a binary task; use 'accuracy'\?"),
        ("input:", "margins: {mae: 1}\ninput:", r"'mae' is not a metric of a binary task"),
        ("input:", "batch_rows: many\ninput:", r"exp.yaml:2: batch_rows: input should be a valid integer"),
        ("experiment: flights", "experiment: [flights", r"exp.yaml:\d+: not YAML"),
        (GOOD, "- a\n- b\n", r"exp.yaml:1: an experiment is a mapping of keys"),
        ("  on: [carrier, flight]\n", "", r"labels from elsewhere need `on:`"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_fix(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, GOOD.replace(old, new)))


def test_words_that_older_yaml_took_for_booleans_stay_words(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD.replace("[carrier, flight]", "[no, yes, 2013-01-01]")))
    assert config.labels is not None
    assert config.labels.on == ["no", "yes", "2013-01-01"]


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("topic: flights", "topik: flights").replace("within: 36h", "within: soon")
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert len(caught.value.message.splitlines()) == 3


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"no such file; there are: .*exp\.yaml"):
        load_config(tmp_path / "other.yaml")


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + "connection:\n  bootstrap_servers: 127.0.0.1:9\n  sasl_plain_password: ${KAFKA_PASSWORD}\n"
    monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
    with pytest.raises(
        ConfigError, match=r"exp.yaml:16: connection.sasl_plain_password: the environment has no KAFKA_PASSWORD"
    ):
        load_config(write(tmp_path, text))
    monkeypatch.setenv("KAFKA_PASSWORD", "sesame")
    assert load_config(write(tmp_path, text)).connection["sasl_plain_password"] == "sesame"


def test_the_schema_is_printed_and_knows_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json_schema()
    assert {"experiment", "input", "labels", "versions", "metrics", "bootstrap"} <= set(printed["properties"])
    assert printed["additionalProperties"] is False


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value: arr_delay > 15", "value: order > 15", "labels.value: 'order > 15' is not a SQL exp.*in quotes"),
        ("input:", "slices: [hour >]\ninput:", r"slices\[0\]: 'hour >' is not a SQL expression"),
        ("input:", "features: [hour, hours]\ninput:", "features: 'hours' is not among .*; did you mean 'hour'"),
        ("  v2:", "  v2:\n    features: [delay]", "versions.v2.features: 'delay' is not among input.decode.columns$"),
        ("[carrier, flight]", "[carrier, number]", "labels.on: 'number' is not among input.decode.columns"),
        ("arr_delay > 15", "delay > 15", "labels.value: 'delay' is not among labels.decode.columns; did you mean"),
        ("input:", "slices: [_timestamp, dest = 'JFK']\ninput:", "slices\\[1\\]: 'dest' is not among"),
        ("input:", "custom_metrics: {gain: {value: labl * hour}}\ninput:", "gain.value: 'labl' .*did you mean 'label'"),
    ],
)  # fmt: skip
def test_check_reads_sql_and_holds_names_against_declared_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    declared = GOOD.replace(
        "  topic: flights\n",
        "  topic: flights\n  decode: {columns: {carrier: string, flight: int, hour: int}}\n",
    ).replace(
        "  topic: landings\n",
        "  topic: landings\n  decode: {columns: {carrier: string, flight: int, arr_delay: int}}\n",
    )
    assert run(["config", "check", str(write(tmp_path, declared))]) == 0
    capsys.readouterr()
    assert run(["config", "check", str(write(tmp_path, declared.replace(old, new)))]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said, re.MULTILINE), said


def test_check_leaves_names_alone_that_only_records_know(tmp_path: Path) -> None:
    text = GOOD.replace("input:", "slices: [anything]\nfeatures: [whatever]\ninput:")
    assert run(["config", "check", str(write(tmp_path, text))]) == 0


def test_check_says_ok_or_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(write(tmp_path, GOOD))]) == 0
    assert "2 versions (v1, v2), baseline v1" in " ".join(capsys.readouterr().out.split())
    assert run(["config", "check", str(write(tmp_path, GOOD + "colour: red\n"))]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "exp.yaml:14: colour: no such key" in captured.err

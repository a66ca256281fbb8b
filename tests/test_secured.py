"""The main job on a cluster that asks for TLS and a password: publish, freeze, run, compare, by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import mlstream
from mlstream.home import Home
from tests.broker.sasl_broker import SaslBroker

pytestmark = pytest.mark.broker

ROWS = 600
MODEL = """\
import polars as pl


class Above:
    def __init__(self, limit: float) -> None:
        self.limit = limit

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        return (frame["x"] > self.limit).cast(pl.Float64) * 0.8 + 0.1
"""


@pytest.fixture
def settings_file(sasl_broker: SaslBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Client settings in a file whose password comes from the environment."""
    settings = sasl_broker.settings() | {"bootstrap_servers": ",".join(sasl_broker.bootstrap_servers)}
    monkeypatch.setenv("SECURED_PASSWORD", settings["sasl_plain_password"])
    settings["sasl_plain_password"] = "${SECURED_PASSWORD}"
    path = tmp_path / "client.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def config(topic: str, tmp_path: Path) -> Path:
    """An experiment of two versions in a project of its own."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "model.py").write_text(MODEL)
    path = tmp_path / "secured.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "experiment": "secured",
                "input": {"topic": topic},
                "labels": {"value": "x > 0.5"},
                "features": ["x"],
                "versions": {
                    "v1": {"model": "model.py:Above", "parameters": {"limit": 0.4}},
                    "v2": {"model": "model.py:Above", "parameters": {"limit": 0.5}},
                },
            }
        )
    )
    return path


def test_the_main_job_runs_over_tls_with_a_password_that_is_written_nowhere(
    bare_cli: Callable[..., Any], sasl_broker: SaslBroker, settings_file: Path, config: Path, topic: str, home: Home
) -> None:
    records = pl.DataFrame(
        {
            "value": [json.dumps({"x": (n * 37 % 101) / 101}) for n in range(ROWS)],
            "timestamp": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(ROWS)],
        }
    )
    mlstream.publish(topic, records, partitions=3, connection=sasl_broker.connection(), home=home)
    options = ("--kafka-config", settings_file)
    made = bare_cli(*options, "snapshot", "create", "frozen", "--topic", topic, "--json")
    assert (made.exit_code, made.json["rows"]) == (0, ROWS)
    ran = bare_cli(*options, "run", config, "--snapshot", "frozen", "--json")
    assert (ran.exit_code, ran.json["status"]) == (0, "complete"), ran.stderr
    compared = bare_cli("compare", "--json", "--no-track")
    assert compared.exit_code == 0, compared.stderr
    accuracy = {row["version"]: row["value"] for row in compared.json["metrics"] if row["metric"] == "accuracy"}
    assert accuracy["v2"] == 1.0
    assert accuracy["v1"] < 1.0
    secret = sasl_broker.passwords["admin"]
    for file in (path for path in home.path.rglob("*") if path.is_file()):
        assert secret.encode() not in file.read_bytes(), f"{file} holds the password"
    assert all(secret not in called.stdout + called.stderr for called in (made, ran, compared))


def test_a_wrong_password_freezes_nothing_and_names_the_fix(
    bare_cli: Callable[..., Any], settings_file: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURED_PASSWORD", "guess")
    refused = bare_cli("--kafka-config", settings_file, "snapshot", "create", "frozen", "--topic", "any")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert "sasl_plain_password" in refused.stderr
    assert "guess" not in refused.stderr
    assert not (home.path / "refs" / "frozen").exists()

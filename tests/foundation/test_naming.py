"""Names of experiments, versions, snapshots, and the topics made from them."""

from __future__ import annotations

import pytest

from mlstream.errors import UsageError
from mlstream.naming import check_name, check_snapshot_name, errors_topic, output_topic


def test_a_replay_has_a_topic_of_its_own_and_live_has_one() -> None:
    assert output_topic("flights", "v2", "0123456789abcdef") == "flights.v2.0123456789ab"
    assert output_topic("flights", "v2") == "flights.v2"
    assert errors_topic("flights.v2") == "flights.v2.errors"


@pytest.mark.parametrize("name", ["", "V1", "a.b", "a_b", "-a", "a b", "é", "v1\n"])
def test_a_part_of_a_topic_holds_no_dots_underscores_or_capitals(name: str) -> None:
    with pytest.raises(UsageError, match="rename it, for example to"):
        check_name(name, what="version")


@pytest.mark.parametrize("name", ["results", "errors", "state", "control"])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="the name is reserved"):
        check_name(name, what="experiment")


def test_a_topic_name_that_kafka_would_refuse_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="more than Kafka allows"):
        output_topic("e" * 120, "v" * 120, "0" * 64)


@pytest.mark.parametrize("name", ["flights-q4", "a", "0.1", "flights.v1.0123456789ab", "x_y"])
def test_snapshots_have_readable_names(name: str) -> None:
    assert check_snapshot_name(name) == name


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "Q4", "a" * 129, "x.json", "deadbeefdead", "a" * 64])
def test_a_snapshot_name_is_neither_a_path_nor_an_id(name: str) -> None:
    with pytest.raises(UsageError):
        check_snapshot_name(name)

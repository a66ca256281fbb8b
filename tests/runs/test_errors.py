"""Records without a prediction: those that do not decode and those that a version refuses. With the others, all."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from mlstream import Run, open_snapshot, run
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, topic_config
from mlstream.broker.client import Client
from mlstream.comparison.coverage import pair
from mlstream.errors import CoverageError, DecodeError, RunIncomplete
from mlstream.reporting.compare import compute
from mlstream.reporting.evidence import read_evidence
from mlstream.runs.errors import ERRORS_SCHEMA
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import drop_beside
from mlstream.runs.preview import preview
from mlstream.runs.removing import remove_run
from tests.runs.conftest import FIRST_MS, Shop
from tests.runs.readers import Found, read_topic, topics

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

pytestmark = pytest.mark.broker

ROWS = 600
PARTITIONS = 4
MOST_BYTES = 2_000_000
PICKY = '''

class Picky(Linear):
    """Raises for some records, has no usable answer for others."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        n = frame["n"].to_numpy()
        if (n % 50 == 7).any():
            raise LookupError(f"no customer {n[n % 50 == 7][0]}")
        found = super().predict(frame)
        found[n % 50 == 8] = np.nan
        found[n % 50 == 9] = 1.5
        return found
'''
ASIDE = {"raised": 7, "invalid": 8}
DECODE = {"columns": {"x": "float", "n": "int", "s": "string"}, "on_error": "dead-letter"}


def value_of(number: int) -> bytes | None:
    """JSON; but every eleventh is none, every 33rd is null, and so are all of partition 3 and those at its ends."""
    if number % 33 == 0:
        return None
    if partition_of(number) == 3 or number % 11 == 0 or number < 9 or number >= ROWS - 9:
        return b"\xff\xfenumber %d" % number
    return json.dumps({"x": number / 7, "n": number, "s": f"s{number}"}).encode()


def partition_of(number: int) -> int:
    return 3 if number % 40 == 39 else number % 3


def decodes(number: int) -> bool:
    value = value_of(number)
    return value is not None and value.startswith(b"{")


def refused(number: int) -> bool:
    return decodes(number) and number % 50 in (7, 8, 9)


@pytest.fixture(scope="session")
def mixed(broker: Connection) -> str:
    """A topic with good and bad records, headers, and a limit on messages of its own; written by librdkafka."""
    topic = f"mixed-{secrets.token_hex(4)}"
    with Client(broker) as client:
        settings = {**KEEP_EVERYTHING, "max.message.bytes": str(MOST_BYTES)}
        create_topic(client, topic, partitions=PARTITIONS, config=settings)
    producer = Producer({"bootstrap.servers": broker.servers})
    for number in range(ROWS):
        headers: list[tuple[str, str | bytes | None]] = [
            ("n", f"{number}"),
            ("mlstream-reason", b"of before"),
            ("n", None),
        ]
        producer.produce(
            topic,
            value=value_of(number),
            key=None if number % 5 == 0 else f"k{number}".encode(),
            partition=partition_of(number),
            timestamp=FIRST_MS + number,
            headers=headers[: number % 4],
        )
    producer.flush()
    return topic


@pytest.fixture(scope="session")
def numbers() -> dict[tuple[int, int], int]:
    """(partition, offset) → the number of the record there."""
    found: dict[tuple[int, int], int] = {}
    counts = [0] * PARTITIONS
    for number in range(ROWS):
        partition = partition_of(number)
        found[partition, counts[partition]] = number
        counts[partition] += 1
    return found


def config(shop: Shop, versions: dict[str, dict[str, Any]], **settings: Any) -> Any:
    models = shop.root / "shop" / "models.py"
    if "class Picky" not in models.read_text():
        models.write_text(models.read_text() + PICKY)
    return shop.config(versions, input={"topic": shop.topic, "decode": DECODE}, batch_rows=16, **settings)


PICKY_VERSION = {"model": "shop/models.py:Picky", "on_error": "errors"}


@pytest.fixture(scope="module")
def done(make_shop: Callable[[str], Shop], mixed: str) -> tuple[Shop, Run]:
    """A shop after a run: one version that refuses records, and one that answers all that decode."""
    shop = make_shop(mixed)
    versions = {"picky": PICKY_VERSION, "plain": {"model": "shop/models.py:Linear"}}
    found = run(config(shop, versions), snapshot=shop.snapshot, connection=shop.connection, home=shop.home, workers=2)
    found.check()
    return shop, found


def errors_of(shop: Shop, run: Run, version: str) -> list[Found]:
    return read_topic(shop.connection, f"{run.versions[version].topic}.errors")


@pytest.mark.parametrize("version", ["picky", "plain"])
def test_predictions_and_errors_are_the_input_each_record_once_and_in_order(
    done: tuple[Shop, Run], numbers: dict[tuple[int, int], int], version: str
) -> None:
    """As librdkafka sees both topics."""
    shop, run = done
    predicted = [
        (found.partition, found.json["source_offset"])
        for found in read_topic(shop.connection, str(run.versions[version].topic))
    ]
    errors = [
        (found.partition, int(found.headers["mlstream-source-offset"])) for found in errors_of(shop, run, version)
    ]
    wanted = {place for place, number in numbers.items() if decodes(number)}
    if version == "picky":
        wanted = {place for place in wanted if not refused(numbers[place])}
    assert predicted == sorted(wanted)
    assert errors == sorted(numbers.keys() - wanted)


def test_an_error_is_the_record_as_it_was_with_the_reason_in_its_headers(
    done: tuple[Shop, Run], numbers: dict[tuple[int, int], int]
) -> None:
    shop, run = done
    kinds = set()
    for found in errors_of(shop, run, "picky"):
        number = numbers[found.partition, int(found.headers["mlstream-source-offset"])]
        assert found.value == value_of(number)
        assert found.key == (None if number % 5 == 0 else f"k{number}".encode())
        assert found.timestamp_ms == FIRST_MS + number
        headers = {name: value for name, value in found.headers.items() if name.startswith("mlstream-")}
        kind, reason = headers.pop("mlstream-error").decode(), headers.pop("mlstream-reason").decode()
        assert headers == {
            "mlstream-run": run.id.encode(),
            "mlstream-version": b"picky",
            "mlstream-source-topic": shop.topic.encode(),
            "mlstream-source-partition": str(found.partition).encode(),
            "mlstream-source-offset": found.headers["mlstream-source-offset"],
        }
        kinds.add(kind)
        if not decodes(number):
            assert kind == "undecodable"
            assert reason
        elif number % 50 == 7:
            assert (kind, reason) == ("raised", f"LookupError: no customer {number}")
        else:
            answer = "nan; expected finite numbers" if number % 50 == 8 else "1.5; expected a probability"
            assert kind == "invalid"
            assert reason.startswith(f"score is {answer}")
    assert kinds == {"undecodable", "raised", "invalid"}


def test_the_headers_of_the_original_come_first_and_as_they_were(
    done: tuple[Shop, Run], numbers: dict[tuple[int, int], int]
) -> None:
    shop, run = done
    topic = str(run.versions["picky"].errors_topic)
    raw = open_snapshot(topic, home=shop.home).scan(topic).collect()
    for row in raw.iter_rows(named=True):
        headers = [(found["key"], found["value"]) for found in row["headers"]]
        number = numbers[row["partition"], int(headers[-3][1])]
        before = [(b"n", b"%d" % number), (b"mlstream-reason", b"of before"), (b"n", None)][: number % 4]
        assert headers[: len(before)] == before
        assert len(headers) == len(before) + 7


def test_the_bits_of_the_others_are_those_of_a_run_without_refusals(done: tuple[Shop, Run]) -> None:
    _, run = done
    picky, plain = run.predictions("picky").collect(), run.predictions("plain").collect()
    kept = plain.join(picky.select("source_partition", "source_offset"), on=["source_partition", "source_offset"])
    assert picky.height < plain.height
    assert picky["score"].to_numpy().tobytes() == kept["score"].to_numpy().tobytes()


def test_the_outcome_counts_them_and_its_frozen_errors_are_a_frame(
    done: tuple[Shop, Run], numbers: dict[tuple[int, int], int]
) -> None:
    _, run = done
    undecodable = sum(not decodes(number) for number in range(ROWS))
    picky, plain = run.versions["picky"], run.versions["plain"]
    assert (plain.errors, plain.undecodable, plain.refused) == (undecodable, undecodable, 0)
    assert picky.undecodable == undecodable
    assert picky.refused == sum(refused(number) for number in range(ROWS))
    assert picky.rows + picky.errors == plain.rows + plain.errors == run.input.rows == ROWS
    found = run.errors("picky").collect()
    assert found.schema == ERRORS_SCHEMA
    assert found.height == picky.errors
    for row in found.iter_rows(named=True):
        assert row["value"] == value_of(numbers[row["source_partition"], row["source_offset"]])
    assert set(found["error"].to_list()) == {"undecodable", "raised", "invalid"}


def test_the_errors_topic_is_like_the_output_and_takes_what_the_source_took(done: tuple[Shop, Run]) -> None:
    shop, run = done
    found = run.versions["picky"]
    assert found.errors_topic == f"{found.topic}.errors"
    with Client(shop.connection) as client:
        assert client.topic(found.errors_topic).topic_id == found.errors_topic_id
        assert client.topic(found.errors_topic).partitions == client.topic(str(found.topic)).partitions
        settings = topic_config(client, found.errors_topic)
    assert settings["max.message.bytes"] == str(MOST_BYTES + 65_536)
    assert settings["retention.ms"] == "-1"


def test_the_log_names_the_first_refused_records_and_has_the_traceback_of_the_first(done: tuple[Shop, Run]) -> None:
    _, run = done
    text = run.versions["picky"].log.read_text()
    assert "mlstream: refused mixed-" in text
    assert 'raise LookupError(f"no customer' in text


def test_a_version_without_errors_has_no_such_topic(shop: Shop) -> None:
    versions = {"v1": {"model": "shop/models.py:Linear", "on_error": "errors"}}
    found = run(shop.config(versions), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    found.check()
    outcome = found.versions["v1"]
    assert (outcome.errors, outcome.errors_topic, outcome.errors_id) == (0, None, None)
    assert f"{outcome.topic}.errors" not in topics(shop.connection)
    assert found.errors("v1").collect().schema == ERRORS_SCHEMA
    assert found.errors("v1").collect().height == 0


@pytest.fixture(scope="module")
def failed(make_shop: Callable[[str], Shop], mixed: str) -> tuple[Shop, Run]:
    """A shop after a run of versions that refuse too much."""
    shop = make_shop(mixed)
    all_of_them = {"model": "shop/models.py:Bad", "parameters": {"how": "nan", "at": 0}, "on_error": "errors"}
    versions = {
        "early": {**PICKY_VERSION, "refused_at_most": 0.001},  # a worker alone is over it
        "late": {**PICKY_VERSION, "refused_at_most": 0.04},  # only all of them together are
        "everything": {**all_of_them, "refused_at_most": 1.0},
    }
    return shop, run(
        config(shop, versions), snapshot=shop.snapshot, connection=shop.connection, home=shop.home, workers=2
    )


def test_a_version_that_refuses_more_than_its_share_fails_by_name(failed: tuple[Shop, Run]) -> None:
    _, run = failed
    decoded = [number for number in range(ROWS) if decodes(number)]
    bad = sum(map(refused, decoded))
    words = {
        "early": "more records are refused than the version may still refuse",
        "late": f"it refused {bad} of {len(decoded)} records; it may refuse a share of 0.04",
        "everything": "no record of the input got a prediction",
    }
    for name, text in words.items():
        outcome = run.versions[name]
        assert outcome.status == "failed"
        assert text in str(outcome.error)
        assert "`refused_at_most`" in str(outcome.hint)
        with pytest.raises(RunIncomplete):
            run.errors(name)


def test_the_topics_of_failed_versions_are_gone_with_those_of_their_errors(failed: tuple[Shop, Run]) -> None:
    shop, run = failed
    assert not [name for name in topics(shop.connection) if run.id[:12] in name]


def test_an_input_of_which_nothing_decodes_is_refused_before_anything_is_made(
    make_shop: Callable[[str], Shop], broker: Connection
) -> None:
    topic = f"words-{secrets.token_hex(4)}"
    with Client(broker) as client:
        create_topic(client, topic, partitions=1)
    producer = Producer({"bootstrap.servers": broker.servers})
    for number in range(50):
        producer.produce(topic, value=b"no JSON", key=f"{number}".encode())
    producer.flush()
    shop = make_shop(topic)
    with pytest.raises(
        DecodeError, match=rf"none of its 50 records decodes; the first is {topic}\[0\]@0: .+ `input.dec"
    ):
        run(
            config(shop, {"v1": {"model": "shop/models.py:Linear"}}),
            snapshot=shop.snapshot,
            connection=shop.connection,
            home=shop.home,
        )
    assert not [name for name in topics(broker) if name.startswith(f"shop-{topic[-8:]}")]


def test_removing_a_run_takes_its_errors_away(make_shop: Callable[[str], Shop], mixed: str) -> None:
    shop = make_shop(mixed)
    found = run(
        config(shop, {"picky": PICKY_VERSION}, seed=5),
        snapshot=shop.snapshot,
        connection=shop.connection,
        home=shop.home,
    )
    found.check()
    topic = str(found.versions["picky"].errors_topic)
    assert topic in topics(shop.connection)
    (removed,) = remove_run(found, connection=shop.connection)
    assert topic in removed.topics
    assert topic in removed.names
    assert not [name for name in topics(shop.connection) if found.id[:12] in name]


def test_an_errors_topic_that_nobody_has_noted_is_cleared_away_with_its_output(client: Client, topic: str) -> None:
    """Its process was killed between making it and telling so."""
    for name in (topic, f"{topic}.errors"):
        create_topic(client, name, partitions=1)
    begun = VersionOutcome("v1", "incomplete", {}, topic, client.topic(topic).topic_id, Path("v1.log"))
    assert drop_beside(client, replace(begun, topic_id="another-topic-s-id")) == ()
    assert drop_beside(client, begun) == (f"{topic}.errors",)
    assert topic in client.topics()


def test_a_dry_run_counts_what_does_not_decode(done: tuple[Shop, Run]) -> None:
    shop, run = done
    found = preview(run.config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert found.undecodable == run.versions["plain"].undecodable
    assert found.rows + found.undecodable == ROWS


def test_a_comparison_counts_refused_records_and_goes_on_without_them_when_that_is_asked_for(
    done: tuple[Shop, Run],
) -> None:
    _, run = done
    evidence = read_evidence(run)
    with pytest.raises(
        CoverageError, match=rf"picky: {run.versions['picky'].refused} errors of \d+ records.*--allow-m"
    ):
        pair(evidence.records, evidence.predictions, evidence.errors)
    found = pair(evidence.records, evidence.predictions, evidence.errors, allow_missing=True)
    counts = {each.version: (each.predictions, each.errors, each.missing, each.doubled) for each in found.coverage}
    assert counts == {name: (each.rows, each.refused, 0, 0) for name, each in run.versions.items()}
    assert found.records.height == run.versions["picky"].rows
    undecodable = run.versions["picky"].undecodable
    assert undecodable > 0
    assert compute(run, allow_missing=True).settings["undecodable"] == undecodable

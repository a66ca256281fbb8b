"""What a writer is given is what an independent client reads, once and in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import errors
from kafka.protocol.producer import ProduceRequest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.errors import BrokerError, BrokerRefused, UnknownPartition, UnknownTopic, UsageError, WireError
from mlstream.streams.write import StreamWriter, slices
from mlstream.wire.columns import HEADERS
from tests.broker.scripted import Cluster, client_of
from tests.broker.topics import EVENT_MS, columns, consume, make
from tests.proxy import FaultProxy


def varied(start: int, stop: int) -> pa.Table:
    """Rows with and without keys, values, headers and times; empty ones too."""
    numbers = range(start, stop)
    more = [{"key": b"n", "value": None}, {"key": b"", "value": b""}]
    headers = [[{"key": b"n", "value": b"%d" % n}, *more][: n % 4] for n in numbers]
    times = [None if n % 7 == 0 else EVENT_MS + 13 * n for n in numbers]
    return pa.table(
        {
            "key": pa.array([(None, b"", b"k%d" % n)[n % 3] for n in numbers], pa.binary()),
            "value": pa.array([(None, b"", b"v%d" % n, b"x" * (n % 900))[n % 4] for n in numbers], pa.binary()),
            "timestamp": pa.array(times, pa.timestamp("ms", "UTC")),
            "headers": pa.array(headers, HEADERS),
        }
    )


def expected(rows: pa.Table) -> list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    found = []
    for row in rows.to_pylist():
        time = -1 if row["timestamp"] is None else round(row["timestamp"].timestamp() * 1000)
        headers = [(each["key"].decode(), each["value"]) for each in row["headers"]]
        found.append((time, row["key"], row["value"], headers))
    return found


@pytest.mark.broker
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_another_client_reads_what_is_written(client: Client, broker: Connection, topic: str, codec: str) -> None:
    make(client, topic, 3)
    rows = {part: varied(1000 * part, 1000 * part + 700) for part in range(3)}
    with StreamWriter(client, topic, codec=codec, batch_rows=90, batch_bytes=20_000) as writer:
        for start in range(0, 700, 37):
            for part, table in rows.items():
                writer.write(part, table.slice(start, 37))
    assert writer.rows == 2100
    for part, found in consume(broker, topic, range(3)).items():
        assert [record[0] for record in found] == list(range(700))
        assert [record[1:] for record in found] == expected(rows[part])


@pytest.mark.broker
def test_record_batches_are_taken_as_well_as_tables(client: Client, broker: Connection, topic: str) -> None:
    make(client, topic)
    with StreamWriter(client, topic) as writer:
        writer.write(0, columns([b"a", b"b"]).to_batches()[0])
        writer.write(0, columns([b"c"]))
        writer.write(0, columns([]))
    assert [record[3] for record in consume(broker, topic, [0])[0]] == [b"a", b"b", b"c"]


@pytest.mark.broker
def test_what_was_flushed_is_there_and_the_rest_is_gathered(client: Client, topic: str) -> None:
    make(client, topic)
    with StreamWriter(client, topic, batch_rows=1000) as writer:
        writer.write(0, columns([b"a"] * 10))
        assert (writer.rows, bounds(client, topic)[0].high_watermark) == (0, 0)
        writer.flush()
        assert (writer.rows, bounds(client, topic)[0].high_watermark) == (10, 10)
        writer.flush()
        writer.write(0, columns([b"b"] * 5))
    assert (writer.rows, bounds(client, topic)[0].high_watermark) == (15, 15)
    writer.close()


@pytest.mark.broker
def test_a_row_larger_than_a_batch_is_one_of_its_own(client: Client, broker: Connection, topic: str) -> None:
    make(client, topic, **{"max.message.bytes": "30000"})
    values = [b"a" * 400, b"b" * 100_000, b"c" * 400, b"d" * 100_000]  # compressed they all fit
    with StreamWriter(client, topic) as writer:
        writer.write(0, columns(values))
    assert [record[3] for record in consume(broker, topic, [0])[0]] == values


@pytest.mark.broker
def test_a_row_that_the_topic_cannot_take_names_its_limit(client: Client, topic: str) -> None:
    make(client, topic, **{"max.message.bytes": "30000"})
    with (
        pytest.raises(BrokerRefused, match=r"larger than the topic's max.message.bytes \(30000\)"),
        StreamWriter(client, topic, codec="none") as writer,
    ):
        writer.write(0, columns([b"b" * 100_000]))


@pytest.mark.broker
def test_connections_that_break_double_and_lose_nothing(client: Client, broker: Connection, topic: str) -> None:
    make(client, topic, 2)
    with (
        FaultProxy() as proxy,
        Client(proxy.through(broker)) as distant,
        StreamWriter(distant, topic, batch_rows=50) as writer,
    ):
        for number in range(40):
            writer.write(number % 2, columns([b"%d-%d" % (number, row) for row in range(50)]))
            if number % 7 == 3:
                proxy.lose_answer()
            if number % 11 == 5:
                proxy.drop()
    for part, found in consume(broker, topic, [0, 1]).items():
        assert [record[3] for record in found] == [b"%d-%d" % (n, row) for n in range(part, 40, 2) for row in range(50)]


@pytest.mark.broker
def test_unknown_topics_and_partitions_are_errors(client: Client, topic: str) -> None:
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}'"):
        StreamWriter(client, topic)
    make(client, topic, 2)
    with StreamWriter(client, topic) as writer:
        for partition in (2, -1):
            with pytest.raises(UnknownPartition, match=rf"topic {topic} has no partition {partition}; it has 0 to 1"):
                writer.write(partition, columns([b"a"]))


@pytest.mark.broker
def test_a_writer_leaves_no_thread(client: Client, topic: str) -> None:
    make(client, topic)
    before = set(threading.enumerate())
    with StreamWriter(client, topic) as writer:
        writer.write(0, columns([b"a"]))
        writer.flush()
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


# On a played cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(2)


@pytest.fixture
def scripted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr("mlstream.streams.write.topic_config", lambda client, topic: {})
    with client_of(cluster) as opened:
        yield opened


def test_a_failure_comes_out_at_the_next_call_and_at_the_end(cluster: Cluster, scripted: Client) -> None:
    cluster.faults[ProduceRequest] = [errors.OutOfOrderSequenceNumberError.errno]
    writer = StreamWriter(scripted, "ticks", batch_rows=1)

    def write_on() -> None:
        for _ in range(1000):
            writer.write(0, columns([b"a"]))

    with pytest.raises(BrokerError, match="does not follow"):
        write_on()
    with pytest.raises(BrokerError, match="does not follow"):
        writer.write(1, columns([b"a"]))
    with pytest.raises(BrokerError, match="does not follow"):
        writer.flush()
    with pytest.raises(BrokerError, match="does not follow"):
        writer.close()
    writer.close()
    assert cluster.count(ProduceRequest) == 1


def test_a_failure_of_the_last_batch_comes_out_at_the_end(cluster: Cluster, scripted: Client) -> None:
    cluster.faults[ProduceRequest] = [errors.TopicAuthorizationFailedError.errno]
    with pytest.raises(BrokerRefused, match="not allowed"), StreamWriter(scripted, "ticks") as writer:
        writer.write(0, columns([b"a"]))


def test_an_error_of_the_caller_is_not_covered_by_one_of_the_writer(cluster: Cluster, scripted: Client) -> None:
    cluster.faults[ProduceRequest] = [errors.TopicAuthorizationFailedError.errno]

    def fail() -> None:
        with StreamWriter(scripted, "ticks", batch_rows=1) as writer:
            writer.write(0, columns([b"a"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert cluster.count(ProduceRequest) <= 1


def test_a_writer_that_is_closed_takes_nothing_more(scripted: Client) -> None:
    writer = StreamWriter(scripted, "ticks")
    writer.close()
    with pytest.raises(UsageError, match="the writer of topic ticks is closed"):
        writer.write(0, columns([b"a"]))


def test_columns_that_cannot_be_encoded_are_an_error(scripted: Client) -> None:
    with pytest.raises(UsageError, match="'value'"), StreamWriter(scripted, "ticks") as writer:
        writer.write(0, pa.table({"key": pa.array([b"a"])}))
    with pytest.raises(UsageError, match="codec 'zip' is not known"):
        StreamWriter(scripted, "ticks", codec="zip")


def test_writing_waits_while_too_much_is_not_acknowledged(cluster: Cluster, scripted: Client) -> None:
    release = threading.Event()
    cluster.faults[ProduceRequest] = [
        lambda _: None if release.is_set() else errors.NotEnoughReplicasError.errno for _ in range(10_000)
    ]
    done = threading.Event()
    writer = StreamWriter(scripted, "ticks", batch_rows=1, buffer_bytes=10_000)

    def write() -> None:
        for _ in range(30):
            writer.write(0, columns([b"x" * 1000]))
        writer.close()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not done.wait(0.3)
    assert writer._pending_bytes <= 10_000
    release.set()
    thread.join(20)
    assert done.is_set()
    assert cluster.partitions[0].last_stable == 30


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3000)), min_size=0, max_size=60),
    st.integers(100, 2000),
    st.integers(1, 20),
)
def testslices_hold_all_rows_in_order_and_only_single_ones_are_large(
    sizes: list[int | None], max_bytes: int, max_rows: int
) -> None:
    rows = columns([None if size is None else b"x" * size for size in sizes])
    found = list(slices(rows, max_bytes, max_rows))
    assert (pa.concat_tables(found) if found else rows.slice(0, 0)).equals(rows)
    assert all(1 <= piece.num_rows <= max_rows for piece in found)
    assert all(piece.nbytes <= max_bytes + 100 or piece.num_rows == 1 for piece in found)


def test_a_row_that_no_batch_can_hold_is_an_error() -> None:
    header = [{"key": None, "value": b"x"}]
    rows = pa.table({"value": pa.array([b"a"]), "headers": pa.array([header], HEADERS)})
    with pytest.raises(WireError, match="row 0: a header without a name cannot be written"):
        list(slices(rows, 1000, 10))

"""Reading while brokers move, fail and forget, on a cluster that is played at the transport's boundary."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest
from kafka import errors
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.metadata import MetadataRequest

from mlstream.broker.client import NO_LEADER, Client
from mlstream.broker.fetch import Fetched, fetch
from mlstream.errors import (
    BrokerRefused,
    BrokerUnavailable,
    CorruptBatch,
    MlstreamError,
    OffsetOutOfRange,
    TopicChanged,
    UnknownPartition,
    UnknownTopic,
)
from mlstream.ranges import PartitionRange
from mlstream.wire.decode import decode
from tests.broker.scripted import Cluster, Fault, client_of


@pytest.fixture
def cluster() -> Cluster:
    """One partition with ten batches of ten records."""
    made = Cluster()
    for batch in range(10):
        made.partitions[0].append(b"%d" % (10 * batch + row) for row in range(10))
    return made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with client_of(cluster) as opened:
        yield opened


def values(answers: list[Fetched], stop: int) -> list[bytes]:
    """The values of all answers; each must begin where the one before ended."""
    for before, after in pairwise(answers):
        assert after.start == before.next_offset
    found = []
    for answer in answers:
        end = min(stop, answer.next_offset)
        rows = decode(answer.data, topic="ticks", partition=answer.partition, start=answer.start, stop=end)
        found += rows.columns["value"].to_pylist()
    return found


def read(client: Client, start: int = 0, stop: int = 100, *, stall_s: float = 5.0, size: int = 300) -> list[bytes]:
    answers = list(fetch(client, [PartitionRange("ticks", 0, start, stop)], partition_max_bytes=size, stall_s=stall_s))
    if answers:
        assert (answers[0].start, answers[-1].next_offset) == (start, stop)
    return values(answers, stop)


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def move_leader(cluster: Cluster) -> None:
    """The leadership goes to broker 2, with a new epoch, as an election does it."""
    cluster.partitions[0].leader, cluster.partitions[0].epoch = 2, 6


def move_and_die(cluster: Cluster) -> Exception:
    move_leader(cluster)
    cluster.nodes.discard(1)
    return errors.KafkaConnectionError("broker 1 went away")


PASSING: list[Fault] = [
    errors.NotLeaderForPartitionError.errno,
    errors.FencedLeaderEpochError.errno,
    errors.UnknownLeaderEpochError.errno,
    errors.LeaderNotAvailableError.errno,
    errors.ReplicaNotAvailableError.errno,
    errors.KafkaStorageError.errno,
    errors.OffsetNotAvailableError.errno,
    errors.UnknownTopicOrPartitionError.errno,
    errors.KafkaConnectionError("connection reset"),
    errors.NodeNotReadyError("too early"),
    errors.RequestTimedOutError(),
    move_leader,
    move_and_die,
]


def name_of(fault: Fault) -> str:
    if isinstance(fault, int):
        return str(errors.for_code(fault).message)
    return getattr(fault, "__name__", type(fault).__name__)


@pytest.mark.parametrize("fault", PASSING, ids=name_of)
def test_what_passes_costs_no_record_and_doubles_none(cluster: Cluster, client: Client, fault: Fault) -> None:
    cluster.faults[FetchRequest] = [lambda _: None, lambda _: None, fault]
    assert read(client) == numbers(0, 100)
    assert cluster.count(FetchRequest) > 5


def test_reading_goes_on_at_the_new_leader(cluster: Cluster, client: Client) -> None:
    cluster.faults[FetchRequest] = [lambda _: None, move_leader]
    assert read(client) == numbers(0, 100)
    nodes = [node for node, request in cluster.asked if isinstance(request, FetchRequest)]
    assert nodes[:2] == [1, 1]
    assert set(nodes[2:]) == {2}


def test_the_old_leader_is_not_believed(cluster: Cluster, client: Client) -> None:
    epochs = [
        request.topics[0].partitions[0].current_leader_epoch
        for _, request in (read(client), cluster.asked)[1]
        if isinstance(request, FetchRequest)
    ]
    assert set(epochs) == {5}


def test_a_partition_without_a_leader_is_waited_for(cluster: Cluster, client: Client) -> None:
    cluster.partitions[0].leader = NO_LEADER

    def elect(_: Cluster) -> None:
        cluster.partitions[0].leader = 2

    cluster.faults[MetadataRequest] = [lambda _: None, lambda _: None, elect]
    assert read(client) == numbers(0, 100)


@pytest.mark.parametrize("fault", [errors.NotLeaderForPartitionError.errno, errors.KafkaConnectionError("reset")])
def test_what_does_not_pass_ends_in_time_and_says_why(cluster: Cluster, client: Client, fault: Fault) -> None:
    cluster.faults[FetchRequest] = [fault] * 1000
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"ticks\[0\]: no answer from 127.0.0.1:1: .*(leader|reset)"):
        read(client, stall_s=0.5)
    assert time.monotonic() - started < 5


def test_the_patience_is_for_each_step_and_not_for_the_whole(cluster: Cluster, client: Client) -> None:
    cluster.faults[FetchRequest] = [errors.NotLeaderForPartitionError.errno, lambda _: None] * 9
    started = time.monotonic()
    assert read(client, stall_s=0.3) == numbers(0, 100)
    assert time.monotonic() - started > 0.3  # nine pauses of some 50 ms: longer than the patience for one


def test_an_error_that_does_not_pass_is_raised_at_once(cluster: Cluster, client: Client) -> None:
    cluster.faults[FetchRequest] = [errors.TopicAuthorizationFailedError.errno]
    with pytest.raises(BrokerRefused, match=r"ticks\[0\]: not allowed \(TOPIC_AUTHORIZATION_FAILED"):
        read(client)


def test_a_topic_that_is_made_anew_while_it_is_read_is_noticed(cluster: Cluster, client: Client) -> None:
    def make_anew(made: Cluster) -> None:
        made.topic_id = uuid.uuid4()

    cluster.faults[FetchRequest] = [lambda _: None, make_anew]
    with pytest.raises(TopicChanged, match="topic ticks was deleted and made anew: it is another topic"):
        read(client)


def test_a_topic_that_is_made_anew_after_the_last_answer_is_noticed(cluster: Cluster, client: Client) -> None:
    answers = fetch(client, [PartitionRange("ticks", 0, 0, 100)])
    assert next(answers).next_offset == 100
    cluster.topic_id = uuid.uuid4()
    with pytest.raises(TopicChanged, match="topic ticks was deleted and made anew"):
        list(answers)


def test_a_topic_that_is_deleted_while_it_is_read_is_noticed(cluster: Cluster, client: Client) -> None:
    def delete(made: Cluster) -> None:
        made.exists = False

    cluster.faults[FetchRequest] = [lambda _: None, delete]
    with pytest.raises(TopicChanged, match="topic ticks was deleted while it was read"):
        read(client)


def test_a_topic_that_is_not_the_expected_one_is_not_read(cluster: Cluster, client: Client) -> None:
    with pytest.raises(TopicChanged, match="made anew"):
        list(fetch(client, [PartitionRange("ticks", 0, 0, 100)], topic_ids={"ticks": "another"}))
    assert cluster.count(FetchRequest) == 0
    known = client.topic("ticks").topic_id
    assert list(fetch(client, [PartitionRange("ticks", 0, 0, 100)], topic_ids={"ticks": known}))


def test_unknown_topics_and_partitions_are_named(client: Client) -> None:
    with pytest.raises(UnknownTopic, match=r"there is no topic 'tiks'.*did you mean 'ticks'\?"):
        list(fetch(client, [PartitionRange("tiks", 0, 0, 1)]))
    with pytest.raises(UnknownPartition, match="topic ticks has no partition 3; it has only partition 0"):
        list(fetch(client, [PartitionRange("ticks", 3, 0, 1)]))


def test_records_that_are_deleted_before_they_are_read_are_an_error(cluster: Cluster, client: Client) -> None:
    def expire(made: Cluster) -> None:
        made.partitions[0].log_start = 70

    cluster.faults[FetchRequest] = [lambda _: None, expire]
    with pytest.raises(
        OffsetOutOfRange, match=r"asked from \d+, the broker keeps 70 onward: the records before"
    ) as caught:
        read(client)
    assert caught.value.log_start == 70


def test_records_that_are_deleted_while_the_answer_is_made_are_an_error(cluster: Cluster, client: Client) -> None:
    part = cluster.partitions[0]
    del part.batches[:3]

    class Sliding(type(part)):  # type: ignore[misc]
        """A log start that passes the position between the broker's check and its answer."""

        asked = 0

        @property
        def log_start(self) -> int:
            Sliding.asked += 1
            return 0 if Sliding.asked == 1 else 30

        @log_start.setter
        def log_start(self, value: int) -> None:
            pass

    part.__class__ = Sliding
    with pytest.raises(OffsetOutOfRange, match="asked from 0, the broker keeps 30 onward"):
        read(client)


def test_a_gap_without_a_moved_log_start_is_no_loss(cluster: Cluster, client: Client) -> None:
    del cluster.partitions[0].batches[2:5]
    assert read(client) == numbers(0, 20) + numbers(50, 100)


def test_a_stop_past_the_end_is_an_error_and_no_wait_for_ever(cluster: Cluster, client: Client) -> None:
    with pytest.raises(OffsetOutOfRange, match=r"ticks\[0\]: asked up to 120, the stream ends at 100; use --to 100"):
        read(client, stop=120, stall_s=0.4)


def test_a_new_leader_that_does_not_know_the_end_yet_is_waited_for(cluster: Cluster, client: Client) -> None:
    part = cluster.partitions[0]
    batches, part.batches, part.last_stable = part.batches, part.batches[:6], 60

    def catch_up(_: Cluster) -> None:
        part.batches, part.last_stable = batches, 100

    cluster.faults[FetchRequest] = [*[lambda _: None] * 6, catch_up]
    assert read(client) == numbers(0, 100)


def test_a_range_whose_end_is_compacted_away_is_finished(cluster: Cluster, client: Client) -> None:
    del cluster.partitions[0].batches[7:]
    answers = list(fetch(client, [PartitionRange("ticks", 0, 0, 100)], stall_s=5.0))
    assert values(answers, 100) == numbers(0, 70)
    assert (answers[-1].data, answers[-1].start, answers[-1].next_offset) == (b"", 70, 100)


def test_records_on_remote_storage_are_waited_for_and_never_skipped(cluster: Cluster, client: Client) -> None:
    part = cluster.partitions[0]
    batches, part.batches, cluster.local_start = part.batches, [], 100

    def load(_: Cluster) -> None:
        part.batches = batches

    cluster.faults[FetchRequest] = [*[lambda _: None] * 4, load]
    assert read(client) == numbers(0, 100)


def test_a_batch_that_is_larger_than_what_is_asked_for_still_comes(cluster: Cluster, client: Client) -> None:
    assert read(client, size=10) == numbers(0, 100)


def test_a_batch_that_comes_cut_off_is_asked_for_whole(cluster: Cluster, client: Client) -> None:
    cluster.whole_batches = False
    assert read(client, size=10) == numbers(0, 100)
    assert cluster.count(FetchRequest) < 50


def test_an_answer_that_is_no_batch_is_corrupt(cluster: Cluster, client: Client) -> None:
    part = cluster.partitions[0]
    base, stop, batch = part.batches[4]
    part.batches[4] = (base, stop, batch[:8] + (5).to_bytes(4, "big") + batch[12:])
    with pytest.raises(CorruptBatch, match=r"ticks\[0\] at offset 40"):
        read(client)


def test_a_line_that_is_too_slow_is_asked_for_less(cluster: Cluster, client: Client) -> None:
    cluster.faults[FetchRequest] = [errors.RequestTimedOutError()] * 5
    assert values(list(fetch(client, [PartitionRange("ticks", 0, 0, 100)], partition_max_bytes=8 << 20)), 100)
    sizes = [request.max_bytes for _, request in cluster.asked if isinstance(request, FetchRequest)]
    assert sizes == [8 << 20, 2 << 20, 512 << 10, 128 << 10, 64 << 10, 64 << 10]


def test_a_throttled_client_waits_and_goes_on(
    cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = cluster.answer
    throttled = 0

    def throttle(node: int, request: object) -> object:
        nonlocal throttled
        found = answer(node, request)
        if isinstance(request, FetchRequest) and cluster.count(FetchRequest) % 2:
            throttled += 1
            found.responses, found.throttle_time_ms = [], 20
        return found

    monkeypatch.setattr(cluster, "answer", throttle)
    assert read(client, stall_s=0.01) == numbers(0, 100)
    assert throttled > 3


def test_a_range_may_start_and_end_inside_of_batches(client: Client) -> None:
    assert read(client, 13, 87) == numbers(13, 87)


def test_an_empty_range_asks_nobody(cluster: Cluster, client: Client) -> None:
    assert list(fetch(client, [PartitionRange("ticks", 0, 50, 50)])) == []
    assert cluster.asked == []


@pytest.fixture
def wide() -> Cluster:
    """Twenty partitions with ten batches of ten records."""
    made = Cluster(20)
    for part in made.partitions.values():
        for batch in range(10):
            part.append(b"%d" % (10 * batch + row) for row in range(10))
    return made


def test_one_request_is_under_way_in_each_partition(wide: Cluster) -> None:
    wide.gather = 20
    with client_of(wide) as client:
        ranges = [PartitionRange("ticks", part, 0, 100) for part in range(20)]
        answers = list(fetch(client, ranges, partition_max_bytes=300))
    assert wide.most_under_way == 20
    for part in range(20):
        assert values([found for found in answers if found.partition == part], 100) == numbers(0, 100)


def test_what_is_under_way_is_bounded_whatever_the_number_of_partitions(wide: Cluster) -> None:
    with client_of(wide) as client:
        ranges = [PartitionRange("ticks", part, 0, 100) for part in range(20)]
        answers = list(fetch(client, ranges, partition_max_bytes=300, buffer_bytes=1000))
    assert wide.most_bytes <= 1000
    assert sorted({found.partition for found in answers}) == list(range(20))
    assert sum(len(values([found for found in answers if found.partition == part], 100)) for part in range(20)) == 2000


def test_a_caller_that_is_slow_stops_the_asking(cluster: Cluster, client: Client) -> None:
    answers = fetch(client, [PartitionRange("ticks", 0, 0, 100)], partition_max_bytes=300, buffer_bytes=700)
    first = next(answers)
    time.sleep(0.2)
    asked = cluster.count(FetchRequest)
    assert asked <= 3
    assert values([first, *answers], 100) == numbers(0, 100)
    assert cluster.count(FetchRequest) > asked


def test_a_caller_that_leaves_stops_the_asking(cluster: Cluster, client: Client) -> None:
    for number in range(100, 1000):
        cluster.partitions[0].append([b"%d" % number])
    answers = fetch(client, [PartitionRange("ticks", 0, 0, 1000)], partition_max_bytes=100)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    time.sleep(0.1)
    asked = cluster.count(FetchRequest)
    time.sleep(0.2)
    assert cluster.count(FetchRequest) == asked < 500


def test_a_client_that_is_closed_while_it_reads_says_so(cluster: Cluster, client: Client) -> None:
    cluster.faults[FetchRequest] = [errors.NotLeaderForPartitionError.errno] * 1000
    threading.Timer(0.3, client.close).start()
    with pytest.raises(BrokerUnavailable, match="the client was closed while it read"):
        list(fetch(client, [PartitionRange("ticks", 0, 0, 100)]))


@pytest.mark.parametrize("code", range(1, 130))
def test_every_error_code_is_an_error_of_ours(cluster: Cluster, client: Client, code: int) -> None:
    cluster.faults[FetchRequest] = [code] * 50
    with pytest.raises(MlstreamError):
        read(client, stall_s=0.0)

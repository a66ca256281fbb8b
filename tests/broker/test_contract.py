"""What mlstream uses of kafka-python beyond its public names is still there and still means the same.

When one of these fails after an upgrade, read `mlstream/broker/_kafka.py` against the new release before anything else.
"""

from __future__ import annotations

import inspect
from importlib.metadata import requires, version
from typing import Any

import pytest
from kafka import errors
from kafka.future import Future
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.consumer import FetchRequest, FetchResponse, ListOffsetsRequest
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.producer import ProduceRequest

from mlstream.broker import _kafka, connection
from mlstream.broker._kafka import NON_PUBLIC, _Frame, _FrameParser


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_release_is_pinned_to_the_minor_version_that_this_was_read_in() -> None:
    pins = [line for line in requires("mlstream") or [] if line.startswith("kafka-python")]
    assert len(pins) == 1
    assert "<3.1" in pins[0]
    assert version("kafka-python").startswith("3.0.")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in NON_PUBLIC.items() for name in names])
def test_every_name_is_still_there(kind: type, name: str) -> None:
    source = inspect.getsource(kind)
    assert hasattr(kind, name) or f"self.{name} = " in source, f"{kind.__name__}.{name} is gone"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (KafkaConnectionManager._build_transport, ["self", "node", "timeout_at"]),
        (KafkaConnectionManager._do_bootstrap, ["self", "deadline"]),
        (KafkaConnectionManager.bootstrap_async, ["self", "timeout_ms", "refresh"]),
        (KafkaConnectionManager.send, ["self", "request", "node_id", "request_timeout_ms"]),
        (KafkaTCPTransport._read_from_sock, ["self"]),
        (KafkaTCPTransport.abort, ["self", "error"]),
        (KafkaSSLTransport._build_ssl_context, ["config"]),
        (KafkaProtocol._process_response, ["self", "read_buffer"]),
        (KafkaProtocol.receive_bytes, ["self", "data"]),
        (KafkaConnection.data_received, ["self", "data"]),
        (NetworkSelector.run, ["self", "coro", "args"]),
        (NetworkSelector.call_soon_with_future, ["self", "coro", "args"]),
        (NetworkSelector.call_soon_threadsafe, ["self", "callback"]),
        (NetworkSelector.wait_read, ["self", "fileobj", "timeout_at"]),
        (NetworkSelector.wait_write, ["self", "fileobj", "timeout_at"]),
    ],
)
def test_what_is_called_or_overridden_takes_the_same(function: Any, expected: list[str]) -> None:
    assert parameters(function) == expected


def test_what_is_overridden_is_still_called_by_the_rest() -> None:
    manager, transport = inspect.getsource(KafkaConnectionManager), inspect.getsource(KafkaTCPTransport)
    assert "await self._build_transport(node, timeout_at=timeout_at)" in manager
    assert "self.call_soon(self._do_bootstrap, deadline)" in manager
    assert "self._net.call_soon(self._read_from_sock)" in transport
    assert "self.parser.receive_bytes(data)" in inspect.getsource(KafkaConnection.data_received)


def test_the_accepted_settings_are_those_that_the_client_takes() -> None:
    own = {
        "bootstrap_servers", "api_version", "client_software_name", "client_software_version", "metrics",
        "metric_group_prefix", "max_in_flight_requests_per_connection", "receive_message_max_bytes", "socket_options",
    }  # fmt: skip
    assert set(KafkaConnectionManager.DEFAULT_CONFIG) - own == set(connection.SETTINGS)


def test_a_response_is_decoded_from_a_frame_as_from_the_original_parser() -> None:
    topic = FetchResponse.FetchableTopicResponse
    part = topic.PartitionData(
        partition_index=3, error_code=0, high_watermark=9, last_stable_offset=8, log_start_offset=1,
        aborted_transactions=[topic.PartitionData.AbortedTransaction(producer_id=5, first_offset=2)],
        preferred_read_replica=-1, records=bytes(range(256)) * 100,
    )  # fmt: skip
    response = FetchResponse(
        version=12, throttle_time_ms=0, error_code=0, session_id=0, responses=[topic(topic="t", partitions=[part])]
    )
    answers = []
    for framed in (False, True):
        request = FetchRequest(topics=[], forgotten_topics_data=[], max_wait_ms=0, min_bytes=0)
        request.API_VERSION = 12
        parser = KafkaProtocol(client_id="x")
        number = parser.send_request(request)
        response.with_header(correlation_id=number)
        sent = response.encode(header=True, framed=True)
        if framed:
            ((found, answer),) = _FrameParser(parser).receive_bytes(memoryview(bytearray(sent[4:])))
        else:
            ((found, answer),) = parser.receive_bytes(sent)
        assert found == number
        answers.append(answer)
    assert answers[0] == answers[1]
    found_part = answers[1].responses[0].partitions[0]
    assert found_part.records == bytes(range(256)) * 100
    assert type(found_part.records) is bytes  # a copy: the frame is not kept alive by it


def test_a_frame_reads_like_a_file() -> None:
    frame = _Frame(memoryview(b"abcdef"))
    assert (frame.read(2), frame.tell()) == (b"ab", 2)
    frame.seek(1)
    rest = frame.read()
    assert isinstance(rest, memoryview)
    assert (bytes(rest), frame.read(5)) == (b"bcdef", b"")


def test_a_future_is_awaited_and_resolved_from_callbacks() -> None:
    seen: list[object] = []
    future = Future()
    future.add_both(seen.append)
    future.success(1)
    assert (seen, future.is_done, future.value, future.exception) == ([1], True, 1, None)
    assert hasattr(future, "__await__")


def test_retriable_errors_are_marked_as_such() -> None:
    passing = (3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 51, 56, 74, 75, 78, 88, 100, 103)
    assert [code for code in passing if not errors.for_code(code).retriable] == []
    final = (1, 2, 10, 17, 29, 30, 31, 32, 36, 44, 45, 46, 47, 59, 76, 87, 90)
    assert [code for code in final if errors.for_code(code).retriable] == []
    assert errors.for_code(46) is errors.DuplicateSequenceNumberError
    assert issubclass(errors.UnknownError, errors.KafkaError)


@pytest.mark.parametrize(
    ("request_type", "needed"),
    [(FetchRequest, 13), (ListOffsetsRequest, 9), (ProduceRequest, 12), (MetadataRequest, 12)],
)
def test_the_protocol_versions_that_are_asked_for_exist(request_type: Any, needed: int) -> None:
    assert request_type.max_version >= needed


def test_topic_ids_are_read_from_metadata() -> None:
    assert {"topic_id", "error_code", "partitions"} <= set(MetadataResponse.MetadataResponseTopic.fields)


def test_a_receiving_half_is_used_by_both_kinds_of_connections() -> None:
    for kind in (_kafka._PlainTransport, _kafka._SecureTransport):
        assert kind._read_from_sock is _kafka._Receiving._read_from_sock

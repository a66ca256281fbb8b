"""Control batches and aborted transactions are no rows: against a model that knows what each producer did."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.errors import CorruptBatch
from mlstream.wire.decode import AbortedTransaction, decode, decode_parts
from mlstream.wire.layout import CODECS
from tests.wire.columns import to_records
from tests.wire.plain import ABORT_KEY, COMMIT_KEY, CONTROL, TRANSACTIONAL, Record, build, marker


@dataclass
class Log:
    """A partition that producers write to. `kept` fills as transactions commit."""

    batches: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # the offset after each batch
    kept: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    markers: list[int] = field(default_factory=list)
    aborted: list[tuple[AbortedTransaction, int]] = field(default_factory=list)  # with its marker's offset
    under_way: dict[int, list[int]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.ends[-1] if self.ends else 0

    def write(self, producer: int, count: int, codec: str, *, transactional: bool) -> None:
        offsets = list(range(self.end, self.end + count))
        rows = [Record(offset, 7, None, b"%d by %d" % (offset, producer)) for offset in offsets]
        self._append(
            build(rows, codec=codec, attributes=TRANSACTIONAL if transactional else 0, producer_id=producer), count
        )
        if transactional:
            self.under_way.setdefault(producer, []).extend(offsets)
        else:
            self.kept += offsets

    def finish(self, producer: int, *, abort: bool) -> None:
        offsets = self.under_way.pop(producer, None)
        if offsets is None:
            return
        self.markers.append(self.end)
        if abort:
            self.aborted.append((AbortedTransaction(producer, offsets[0]), self.end))
            self.dropped += offsets
        else:
            self.kept += offsets
        self._append(marker(ABORT_KEY if abort else COMMIT_KEY, offset=self.end, producer_id=producer), 1)

    def _append(self, batch: bytes, count: int) -> None:
        self.batches.append(batch)
        self.ends.append(self.end + count)

    def listed(self, start: int) -> list[AbortedTransaction]:
        """What a broker lists for a fetch from `start`: transactions whose marker is not before it."""
        return [found for found, at in self.aborted if at >= start]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    log = Log()
    producers = st.integers(0, 3)
    for _ in range(draw(st.integers(1, 14))):
        match draw(st.sampled_from(("write", "write", "commit", "abort", "plain"))):
            case "write":
                log.write(draw(producers), draw(st.integers(1, 4)), draw(st.sampled_from(CODECS)), transactional=True)
            case "plain":
                log.write(draw(producers), draw(st.integers(1, 3)), "none", transactional=False)
            case ending:
                log.finish(draw(producers), abort=ending == "abort")
    for producer in list(log.under_way):  # the last stable offset is before what is under way
        log.finish(producer, abort=draw(st.booleans()))
    if not log.batches:
        log.write(0, 1, "none", transactional=False)
    return log


@settings(max_examples=200, deadline=None)
@given(logs(), st.data())
def test_rows_are_those_of_committed_transactions(log: Log, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, log.end - 1))
    stop = data.draw(st.none() | st.integers(start, log.end + 3))
    first = next(index for index, end in enumerate(log.ends) if end > start)  # where a broker's answer begins
    answer = b"".join(log.batches[first:])
    inside = range(start, log.end if stop is None else min(stop, log.end))
    aborted = data.draw(st.permutations(log.listed(start)))

    found = decode(answer, topic="t", partition=0, start=start, stop=stop, aborted=aborted)
    assert found.columns["offset"].to_pylist() == sorted(offset for offset in log.kept if offset in inside)
    assert found.control == sum(offset in inside for offset in log.markers)
    assert found.aborted == sum(offset in inside for offset in log.dropped)
    assert found.next_offset == max(start, inside.stop)
    assert all(row.value.startswith(b"%d by" % row.offset) for row in to_records(found.columns) if row.value)

    parts = list(decode_parts(answer, topic="t", partition=0, start=start, stop=stop, aborted=aborted, part_bytes=300))
    assert [row for part in parts for row in to_records(part.columns)] == to_records(found.columns)
    assert sum(part.control for part in parts) == found.control
    assert sum(part.aborted for part in parts) == found.aborted
    assert parts[-1].next_offset == found.next_offset


def test_without_a_list_of_aborted_transactions_all_count_as_committed() -> None:
    log = Log()
    log.write(1, 2, "zstd", transactional=True)
    log.finish(1, abort=True)
    found = decode(b"".join(log.batches), topic="t", partition=0, start=0)
    assert (found.columns.num_rows, found.control, found.aborted) == (2, 1, 0)


def test_an_aborted_producers_next_transaction_is_kept() -> None:
    log = Log()
    log.write(1, 2, "none", transactional=True)
    log.finish(1, abort=True)
    log.write(1, 2, "none", transactional=True)
    log.finish(1, abort=False)
    found = decode(b"".join(log.batches), topic="t", partition=0, start=0, aborted=log.listed(0))
    assert found.columns["offset"].to_pylist() == [3, 4]


def test_a_marker_before_the_range_still_ends_its_transaction() -> None:
    log = Log()
    log.write(1, 2, "none", transactional=True)
    log.finish(1, abort=True)
    log.write(1, 2, "none", transactional=True)
    log.finish(1, abort=False)
    found = decode(b"".join(log.batches), topic="t", partition=0, start=3, aborted=log.listed(0))
    assert (found.columns["offset"].to_pylist(), found.control, found.aborted) == ([3, 4], 1, 0)


def test_control_batches_of_other_kinds_are_dropped_and_end_nothing() -> None:
    log = Log()
    log.write(1, 1, "none", transactional=True)
    data = log.batches[0] + marker(bytes.fromhex("00000002"), offset=1, producer_id=1)
    data += build([Record(2, 7, None, b"x")], attributes=TRANSACTIONAL, producer_id=1)
    found = decode(data, topic="t", partition=0, start=0, aborted=[AbortedTransaction(1, 0)])
    assert (found.columns.num_rows, found.control, found.aborted) == (0, 1, 2)


@pytest.mark.parametrize("key", [None, b"", b"\0\0\0"])
@pytest.mark.parametrize("aborted", [(), (AbortedTransaction(1, 0),)])
def test_a_marker_without_a_type_is_corrupt(key: bytes | None, aborted: tuple[AbortedTransaction, ...]) -> None:
    data = build([Record(0, 7, key, b"")], attributes=TRANSACTIONAL | CONTROL, producer_id=1)
    with pytest.raises(CorruptBatch, match=r"t\[0\] at offset 0: .*record 0: a control record's key is too short"):
        decode(data, topic="t", partition=0, start=0, aborted=aborted)

"""Every offset without a record is accounted for: by the cut, by earlier cuts, or as what nobody can explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mlstream
from mlstream.broker.admin import create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.home import Home
from mlstream.snapshots.cuts import Cut, CutPartition, CutStream, Gaps
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.verify import Verified, check
from tests.snapshots.kafka import Sent, Transactions, produce
from tests.snapshots.making import CLUSTER, Row, columns, make_snapshot

Call = Callable[..., Any]


@pytest.fixture
def made(home: Home) -> Snapshot:
    """Four records in eleven offsets, and no cut that says why."""
    found = make_snapshot(home, "one", {"ticks": {0: columns([Row(0), Row(3), Row(4), Row(10)])}})
    for path in found.store.cuts(found.id):
        path.unlink()
    return found


def write_cut(made: Snapshot, gaps: Gaps, policy: str | None = "delete", *, number: int = 0) -> None:
    part = CutPartition(0, 0, 11, 11, ((0, 0),), gaps, 4, 0)
    stream = CutStream(CLUSTER, "ticks", policy, (part,))
    cut = Cut("one", 1_700_000_000_000 + number, 1, 0.1, "tester", "here", (), {}, (stream,))
    folder = made.store.path / "cuts"
    (folder / f"{made.id}-20260101T00000{number}-abcdef.json").write_bytes(cut.to_bytes(made.id))


def account(found: Verified) -> dict[str, int]:
    (part,) = found.gaps
    causes = ("control", "aborted", "compacted", "earlier", "unexplained", "unknown")
    assert sum(getattr(part, cause) for cause in causes) == part.gaps
    return {cause: count for cause in causes if (count := getattr(part, cause))}


@pytest.mark.parametrize(
    ("gaps", "policy", "causes"),
    [
        (Gaps(3, 4, 0, 0), "delete", {"control": 3, "aborted": 4}),
        (Gaps(1, 0, 0, 6), "compact,delete", {"control": 1, "compacted": 6}),
        (Gaps(1, 0, 0, 6), "delete", {"control": 1, "unexplained": 6}),
        (Gaps(1, 0, 0, 6), None, {"control": 1, "unknown": 6}),
        (Gaps(0, 0, 7, 0), "delete", {"unknown": 7}),
    ],
)
def test_a_gap_has_the_cause_that_the_cut_gives_it(
    made: Snapshot, gaps: Gaps, policy: str | None, causes: dict[str, int]
) -> None:
    write_cut(made, gaps, policy)
    found = check(made.store, made.id)
    assert found.ok
    assert account(found) == causes


def test_without_a_cut_the_causes_are_unknown(made: Snapshot) -> None:
    assert account(check(made.store, made.id)) == {"unknown": 7}


def test_of_several_cuts_the_one_that_saw_most_counts(made: Snapshot) -> None:
    write_cut(made, Gaps(3, 4, 0, 0), number=1)
    write_cut(made, Gaps(0, 0, 7, 0), number=2)
    assert account(check(made.store, made.id)) == {"control": 3, "aborted": 4}


def test_a_cut_that_contradicts_the_manifest_is_a_finding(made: Snapshot) -> None:
    write_cut(made, Gaps(3, 3, 0, 0))
    found = check(made.store, made.id)
    (finding,) = found.findings
    assert (finding.kind, finding.problem) == ("cut", "ticks[0]: it counts 6 gaps, the manifest 7")
    assert account(found) == {"unknown": 7}


def test_a_damaged_cut_is_a_finding_that_breaks_no_row(made: Snapshot) -> None:
    write_cut(made, Gaps(7, 0, 0, 0))
    (path,) = made.store.cuts(made.id)
    path.write_bytes(path.read_bytes()[:50])
    (finding,) = check(made.store, made.id).findings
    assert (finding.name, finding.breaks) == (f"cuts/{path.name}", ("the account of its gaps, no row",))


def test_the_command_names_what_is_unexplained_and_is_strict_when_asked(bare_cli: Call, made: Snapshot) -> None:
    write_cut(made, Gaps(1, 0, 0, 6))
    said = bare_cli("snapshot", "verify", "one")
    assert said.exit_code == 0
    assert "offsets without a record: 1 transaction markers, 6 unexplained" in said.stdout
    assert "unexplained: 6 offsets of ticks[0], not compacted" in said.stdout
    strict = bare_cli("snapshot", "verify", "one", "--strict", "--json")
    assert (strict.exit_code, strict.json["ok"]) == (1, False)
    assert "unexplained offsets without a record: one" in strict.stderr


@pytest.mark.broker
def test_transactions_of_a_real_topic_are_accounted_for_also_when_it_grows(
    broker: Connection, client: Client, topic: str, home: Home
) -> None:
    create_topic(client, topic, partitions=1)
    writer = Transactions(broker, topic)
    writer.send(topic, [Sent(b"kept")] * 5)
    writer.send(topic, [Sent(b"dropped")] * 3, commit=False)
    produce(broker, topic, [Sent(b"plain")])
    first = mlstream.snapshot("first", topics=[topic], connection=broker, home=home)
    assert account(check(first.store, first.id, deep=True)) == {"control": 2, "aborted": 3}
    writer.send(topic, [Sent(b"more")] * 2)
    produce(broker, topic, [Sent(b"plain")])
    second = mlstream.snapshot("second", topics=[topic], connection=broker, home=home)
    found = check(second.store, second.id, deep=True)
    assert (found.ok, second.rows) == (True, 9)
    assert account(found) == {"control": 1, "earlier": 5}
    for path in first.store.cuts(first.id):
        path.unlink()
    assert account(check(second.store, second.id)) == {"control": 1, "unknown": 5}

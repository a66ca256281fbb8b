"""Compare partitions of different topics by what is in them: restored, mirrored or made anew, their offsets differ.

Groups of 65,536 records that have the same digest in the same place are the same and are not read. The others are
compared as multisets of records; what has no counterpart is removed or added, and changed where a removed and an added
record have the same number in their partitions. Takes 24 bytes of memory for each record that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from mlstream.snapshots.diff_rows import Side
from mlstream.snapshots.difference import PartitionDifference, Range, RecordChange
from mlstream.snapshots.manifest import GROUP_ROWS
from mlstream.snapshots.multisets import hashed, unmatched
from mlstream.snapshots.payload_rows import payload_rows


def compare_content(old: Side, new: Side, *, limit: int) -> tuple[PartitionDifference, list[RecordChange]]:
    """How the records of two partitions differ, and the first `limit` that do."""
    a, b = old.content, new.content
    mine, theirs = _unlike(old, new)
    read = sum(stop - start for start, stop in (*mine, *theirs))
    removed: set[int] = set()
    added: set[int] = set()
    reordered = False
    if read > 0:
        found = unmatched(hashed(_payloads(old, mine)), hashed(_payloads(new, theirs)))
        removed, added = set(found.old.tolist()), set(found.new.tolist())
        reordered = found.reordered
    changed = removed & added
    difference = PartitionDifference(
        a.partition,
        (a.start, a.stop),
        (b.start, b.stop),
        a.rows,
        b.rows,
        None,
        same=a.rows - len(removed),
        changed=len(changed),
        removed=len(removed) - len(changed),
        added=len(added) - len(changed),
        reordered=reordered,
        rows_read=read,
    )
    shown = sorted(removed | added)[:limit]
    here = old.records([number for number in shown if number in removed])
    there = new.records([number for number in shown if number in added])
    return difference, [RecordChange(a.partition, here.get(number), there.get(number)) for number in shown]


def _unlike(old: Side, new: Side) -> tuple[list[Range], list[Range]]:
    """The rows of each side, counted from 0, that are not known to be the same."""
    mine, theirs = old.stored.groups, new.stored.groups
    same = {number for number, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] == pair[1]}
    return _ranges(len(mine), same, old.content.rows), _ranges(len(theirs), same, new.content.rows)


def _ranges(groups: int, same: set[int], rows: int) -> list[Range]:
    found: list[Range] = []
    for number in range(groups):
        if number in same:
            continue
        start, stop = number * GROUP_ROWS, min((number + 1) * GROUP_ROWS, rows)
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, stop))
    return found


def _payloads(side: Side, ranges: Sequence[Range]) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
    for start, stop in ranges:
        at = start
        for batch in side.rows(start, stop):
            yield at, payload_rows(batch)
            at += len(batch)

"""A round of the fault tests in which some records get no prediction; both topics are counted. No test is here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np

from mlstream.broker.client import Client
from mlstream.broker.settling import settled_bounds
from tests.broker.topics import consume
from tests.runs.fault_rounds import ROOT, Found, Round, committed_offset
from tests.runs.mortal import Job, offsets_of, words
from tests.runs.mortal_errors import decoding, refused


@dataclass
class ErrorRound(Round):
    """A round whose input has records that do not decode, and records that are refused."""

    def start(self, **settings: object) -> subprocess.Popen[str]:
        """A worker."""
        lane, servers = asdict(self.lane), list(self.broker.bootstrap_servers)
        job = Job(servers, lane, self.rows, self.seed, control=self.control, **settings)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "tests.runs.mortal_errors", words(job)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def check(self, client: Client) -> Found:
        """Compare what committed readers see in both topics with the input, record by record."""
        beside = f"{self.topic}.errors"
        open_transactions = 0
        for topic in (self.topic, beside):
            settled = settled_bounds(client, topic, timeout_s=30)[0]
            open_transactions += settled.high_watermark - settled.last_stable
        records = consume(self.broker, self.topic, [0])[0]
        predicted = [json.loads(value or b"")["source_offset"] for *_, value, _ in records]
        in_order, kinds = [], {}
        for *_, value, headers in consume(self.broker, beside, [0])[0]:
            ours = dict(headers)
            offset = int(ours["mlstream-source-offset"] or b"")
            in_order.append(offset)
            kinds[offset] = ours["mlstream-error"]
            assert value == b"%d" % offset
            assert headers[0] == ("n", None)

        offsets = offsets_of(self.rows, self.seed)
        decodes = decoding(offsets)
        wanted = set(offsets[decodes & ~refused(offsets)].tolist())
        assert {offset for offset, kind in kinds.items() if kind == b"undecodable"} <= set(offsets[~decodes].tolist())
        counts = Counter(predicted) + Counter(in_order)
        strange = (set(predicted) - wanted) | (set(in_order) - (set(offsets.tolist()) - wanted))
        behind = sum(int(np.count_nonzero(np.diff(seen) <= 0)) for seen in (predicted, in_order) if len(seen) > 1)
        return Found(
            lost=len(set(offsets.tolist()) - set(counts)),
            doubled=sum(count - 1 for count in counts.values()) + len(strange),
            unordered=behind,
            committed=committed_offset(self.broker, self.lane.group, self.topic),
            open_transactions=open_transactions,
        )

"""A program: Kafka's own Java producers write to a topic, and say of each record where it is and what became of it.

    python -m tests.faults.java_producer '{"servers": …, "topic": …, "partitions": 3, "turns": 10, "seed": …}'

It prints one JSON line a record: partition, offset, the value's word and its fate. One idempotent producer for each
codec and two transactional ones take turns, so that codecs and transactions are mixed in every partition.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import jpype

from mlstream.broker.connection import Connection
from mlstream.broker.embedded.jars import find_jars
from mlstream.broker.embedded.java import find_java
from tests.faults.ledger import ABORTED, COMMITTED, Entry, Ledger

ROOT = Path(__file__).parents[2]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FLAGS = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED")


def run_java_producers(
    broker: Connection, topic: str, ledger: Ledger, *, partitions: int, turns: int, seed: str
) -> None:
    """Run the program in a process of its own, and enter what it says."""
    job = {"servers": broker.servers, "topic": topic, "partitions": partitions, "turns": turns, "seed": seed}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.java_producer", json.dumps(job)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ledger.enter(Entry(partition, offset, word.encode(), fate) for partition, offset, word, fate in lines)


class JavaProducer:
    """`org.apache.kafka.clients.producer.KafkaProducer`, and what it has sent and not yet told."""

    def __init__(self, job: dict[str, Any], name: str, codec: str, dice: random.Random, *, transactional: bool) -> None:
        settings = {
            "bootstrap.servers": job["servers"],
            "compression.type": codec,
            "key.serializer": "org.apache.kafka.common.serialization.ByteArraySerializer",
            "value.serializer": "org.apache.kafka.common.serialization.ByteArraySerializer",
            "enable.idempotence": "true",
            "acks": "all",
            "linger.ms": "1",
        }
        if transactional:
            settings["transactional.id"] = f"{job['topic']}-{name}"
        properties = jpype.JClass("java.util.Properties")()
        for key, value in settings.items():
            properties.put(key, value)
        self._producer = jpype.JClass("org.apache.kafka.clients.producer.KafkaProducer")(properties)
        self._record = jpype.JClass("org.apache.kafka.clients.producer.ProducerRecord")
        self._header = jpype.JClass("org.apache.kafka.common.header.internals.RecordHeader")
        self._job = job
        self._name = name
        self._dice = dice
        self._sent = 0
        self._futures: list[tuple[Any, str]] = []
        if transactional:
            self._producer.initTransactions()

    def send(self, count: int) -> None:
        for _ in range(count):
            word = f"java-{self._name}-{self._sent:06d}" + "." * self._dice.randrange(300)
            self._sent += 1
            headers = jpype.JClass("java.util.ArrayList")()
            for _ in range(self._dice.randrange(3)):
                content = None if self._dice.random() < 0.5 else jpype.JArray(jpype.JByte)(list(b"\x01\x02"))
                headers.add(self._header("again", content))
            key = None if self._dice.random() < 0.3 else jpype.JArray(jpype.JByte)(list(b"k%d" % (self._sent % 7)))
            value = jpype.JArray(jpype.JByte)(list(word.encode()))
            partition = jpype.JInt(self._dice.randrange(self._job["partitions"]))
            timestamp = jpype.JLong(self._dice.randrange(1, 2_000_000_000_000))
            record = self._record(
                self._job["topic"], jpype.JObject(partition, "java.lang.Integer"),
                jpype.JObject(timestamp, "java.lang.Long"), key, value, headers,
            )  # fmt: skip
            self._futures.append((self._producer.send(record), word))
        self._producer.flush()

    def begin(self) -> None:
        self._producer.beginTransaction()

    def end(self, *, commit: bool) -> None:
        if commit:
            self._producer.commitTransaction()
        else:
            self._producer.abortTransaction()
        self.tell(COMMITTED if commit else ABORTED)

    def tell(self, fate: str) -> None:
        for future, word in self._futures:
            metadata = future.get()
            print(json.dumps([int(metadata.partition()), int(metadata.offset()), word, fate]))
        self._futures = []

    def close(self) -> None:
        self._producer.close()


def main() -> None:
    job = json.loads(sys.argv[1])
    dice = random.Random(job["seed"])
    library = find_java().program.parents[1] / "lib" / "server" / "libjvm.so"
    jpype.startJVM(str(library), *FLAGS, classpath=[str(jar) for jar in find_jars().jars])
    plain = [JavaProducer(job, f"plain-{codec}", codec, dice, transactional=False) for codec in CODECS]
    pair = [JavaProducer(job, f"t{n}", codec, dice, transactional=True) for n, codec in enumerate(("snappy", "none"))]
    for turn in range(job["turns"]):
        for each in pair:
            each.begin()
        for _ in range(dice.randrange(1, 4)):
            for each in dice.sample(plain + pair, 7):
                each.send(dice.randrange(1, 6))
        for place, each in enumerate(dice.sample(pair, 2)):
            # Both fates are there, however the dice fall.
            each.end(commit=dice.random() < 0.6 if turn > 0 else place > 0)
        for each in plain:
            each.tell(COMMITTED)
    for each in plain + pair:
        each.close()
    sys.stdout.flush()


if __name__ == "__main__":
    main()

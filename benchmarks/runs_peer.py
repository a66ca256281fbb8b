"""The peer of `runs.py`: a quixstreams application that answers every record of a topic, exactly once.

A program for an environment of its own (quixstreams wants an older confluent-kafka than the tests): `runs.py` starts
it with uv. It answers record by record, as such an application does. Prints one JSON object: records and seconds, from
the first record to the last commit.
"""

from __future__ import annotations

import json
import logging
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found,unused-ignore]


def rule(value: dict[str, Any]) -> dict[str, Any]:
    """The rule of `runs.py`."""
    return {"prediction": value["price"] * value["volume"] > 250_000.0}


def estimator(file: Path, features: list[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A fitted model from a file."""
    import pandas as pd

    model = pickle.loads(file.read_bytes())

    def answer(value: dict[str, Any]) -> dict[str, Any]:
        score = float(model.predict_proba(pd.DataFrame([[value[name] for name in features]], columns=features))[0, 1])
        return {"prediction": score >= 0.5, "score": score}

    return answer


def main() -> None:
    """Run the application over so many records of a topic."""
    job = json.loads(sys.argv[1])
    answer = rule if job["model"] is None else estimator(Path(job["model"]), job["features"])
    application = Application(
        broker_address=job["servers"],
        consumer_group=job["output"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        loglevel=logging.WARNING,
        consumer_poll_timeout=0.1,
        producer_extra_config={"compression.type": "zstd", "linger.ms": 50},
    )
    source = application.topic(job["topic"], value_deserializer="json", key_deserializer="bytes")
    target = application.topic(job["output"], value_serializer="json", key_serializer="bytes")
    began = 0.0

    def answered(value: dict[str, Any], key: Any, moment: int, headers: Any) -> dict[str, Any]:
        nonlocal began
        if not began:
            began = time.perf_counter()
        return answer(value)

    stream = application.dataframe(source).apply(answered, metadata=True)
    stream.to_topic(target)
    application.run(count=job["records"], timeout=60, collect=False)
    print(json.dumps({"records": job["records"], "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()

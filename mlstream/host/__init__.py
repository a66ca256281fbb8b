"""A version's model in a process of its own, which only predicts: start it, ask it, survive it. Knows no Kafka.

`host.py` is the worker's side. `bootstrap.py` and `serving.py` run in the model's process, which may be of another
environment than ours: they, and what they import, need the standard library, numpy and polars only.
"""

"""Run versions over a snapshot; their outputs are topics."""

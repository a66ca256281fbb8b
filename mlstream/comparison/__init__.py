"""Statistics over paired predictions: pure functions on columns, no I/O."""

"""Record batches to and from Arrow columns. Bytes only; opens no socket."""

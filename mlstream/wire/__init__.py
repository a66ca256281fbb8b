"""Record batches ↔ Arrow columns: bytes only, opens no socket."""

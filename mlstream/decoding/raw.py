"""Raw: a value's bytes as they are, in one column."""

from __future__ import annotations

import pyarrow as pa

from mlstream.decoding.columns import Columns, arrow_schema


class RawDecoder:
    """Values → one column `value`; null stays null, nothing is a fault."""

    columns = (("value", "raw"),)
    schema = arrow_schema(columns)

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        return Columns((values.cast(pa.large_binary()),), ())

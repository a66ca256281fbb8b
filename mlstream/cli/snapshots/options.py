"""What the snapshot commands have in common."""

from __future__ import annotations

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
SHORT = 12  # digits of a digest in tables

"""Say which declared columns no record has: a misspelt name or pointer gives null, as a member that is missing does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from mlstream.config import ExperimentConfig


def say_empty_columns(session: Session, config: ExperimentConfig, snapshot: str) -> None:
    """Name the declared columns of the input that are null in every record. After a run or a preview, which decoded it.

    Args:
        snapshot: the input's name or id.
    """
    from mlstream.snapshots.snapshot import open_snapshot

    topic, decode = config.input.topic, config.input.decode
    if decode.columns is None:  # found out from the records, so they have them
        return
    view = open_snapshot(snapshot, home=session.at).view(topic, decode)
    found = view.empty_columns()
    if found:
        names = ", ".join(map(repr, found))
        session.say(
            f"null in all {sum(view.rows.values()):,} records of {topic}: {names}; "
            "is a name or `pointer` under input.decode.columns misspelt?"
        )

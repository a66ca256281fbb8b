"""`mlstream snapshot show`: what a snapshot holds."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON
from mlstream.cli.snapshots.screen import content_facts, print_content, print_facts, size_text, snapshot_json, time_text


@click.command()
@click.argument("name")
@JSON
@click.pass_obj
def show(session: Session, name: str, as_json: bool) -> None:
    """Say what the snapshot NAME (or an id, or 8 digits of one) holds."""
    from mlstream.snapshots.snapshot import open_snapshot

    found = open_snapshot(name, home=session.at)
    cuts = found.cuts()
    if as_json:
        session.emit_json(snapshot_json(found, cut=cuts[-1] if cuts else None))
        return
    facts = [
        ("snapshot", ", ".join(found.names) or "(no name)"),
        ("id", found.id),
        *([("rows", f"{found.rows:,}")] if found.streams else []),
        *content_facts(found),
        ("stored", f"{size_text(found.size_bytes)} in {len(found.storage.objects):,} objects"),
    ]
    for cut in cuts[-3:]:
        source = f" from {','.join(cut.source)}" if cut.source else ""
        facts.append(("cut", f"{time_text(cut.created_at_ms)} by {cut.user}@{cut.host}{source}"))
    if len(cuts) > 3:
        facts.append(("", f"and {len(cuts) - 3} times before"))
    facts += [("database", found.source) for found in (cuts[-1].databases if cuts else ())]
    print_facts(session, facts)
    print_content(session, found, cuts[-1] if cuts else None)

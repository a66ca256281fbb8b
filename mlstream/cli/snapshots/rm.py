"""`mlstream snapshot rm`: take names away; deletes no data."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@JSON
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], as_json: bool) -> None:
    """Remove the names NAME...; their data stays until `snapshot gc`.

    All are removed or, when one cannot be, none. A snapshot without a name is still found by its id, until gc deletes
    it; `snapshot tag ID NAME` gives it a name again.
    """
    from mlstream.errors import MlstreamError
    from mlstream.snapshots.names import remove
    from mlstream.snapshots.references import references
    from mlstream.snapshots.store import Store

    store = Store(session.at)
    removed = remove(store, names)
    ids = {each.snapshot_id for each in removed}
    try:
        found = references(store, ids)
        why = {snapshot_id: list(found.reasons(snapshot_id)) for snapshot_id in ids}
    except MlstreamError as exc:  # the names are gone; what else refers to the snapshots is gc's to find out
        why = {snapshot_id: [exc.message] for snapshot_id in ids}
    if as_json:
        rows = [{"name": r.name, "snapshot_id": r.snapshot_id, "stays": why[r.snapshot_id]} for r in removed]
        session.emit_json({"removed": rows})
        return
    for each in removed:
        reasons = why[each.snapshot_id]
        stays = f"stays: {', '.join(reasons)}" if reasons else "goes with the next `mlstream snapshot gc --yes`"
        session.line(f"removed {each.name}; its data ({each.snapshot_id[:SHORT]}) {stays}")

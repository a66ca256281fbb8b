"""Find everything that a run needs, before anything starts, and what of it is there already. Starts and makes nothing.

(What it makes is the decoded view, which is derived, shared by all who read the input, and may be deleted.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlstream.config import ExperimentConfig, load_config
from mlstream.errors import DecodeError
from mlstream.home import Home, find_home
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.plan import Plan, chosen_versions, make_plan
from mlstream.runs.record import read_records
from mlstream.runs.run import Run
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store
from mlstream.versions import resolve_version

if TYPE_CHECKING:
    from mlstream.snapshots.views import View


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be run, found and checked.

    Attributes:
        home: where snapshots and runs are.
        source: the input.
        view: the decoded input.
        plan: what decides the predictions.
        decode_seconds: how long it took to have the view, and all else here.
    """

    home: Home
    source: Snapshot
    view: View
    plan: Plan
    decode_seconds: float

    @property
    def config(self) -> ExperimentConfig:
        """The experiment."""
        return self.plan.config


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier runs have done of a plan.

    Attributes:
        earlier: attempts at the same plan, the newest first; without those that repeat another run's baseline.
        repeats: attempts at the same plan that do.
        done: the newest attempt that is complete.
        computed: versions of the plan that any run has computed over the same input, whose predictions are still there.
    """

    earlier: tuple[Run, ...]
    repeats: tuple[Run, ...]
    done: Run | None
    computed: dict[str, VersionOutcome]


def prepare(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None,
    home: Home | str | Path | None,
    on_decoding: Callable[[int], None],
    on_building: Callable[[str, str], None] | None = None,
) -> Prepared:
    """Steps 1 and 2 of a run: find everything, and decode the input, once for all versions.

    Args:
        on_decoding: called with the number of records before they are decoded.
        on_building: called with a version and the file of its environment before that is built.

    Raises:
        ConfigError, UnknownSnapshot, UnknownTopic, UnknownVersion, VersionLoadError, DecodeError, UsageError:
            something is not there or not right.
    """
    # 1. find everything
    home = home if isinstance(home, Home) else find_home(home)
    config = config if isinstance(config, ExperimentConfig) else load_config(config)
    source = snapshot if isinstance(snapshot, Snapshot) else open_snapshot(snapshot, home=home)
    found = [
        resolve_version(
            config, name, home=home, on_building=None if on_building is None else partial(on_building, name)
        )
        for name in chosen_versions(config, versions)
    ]
    stream = source.stream(config.input.topic)
    # 2. decode the input
    began = time.monotonic()
    on_decoding(stream.rows)
    view = source.view(config.input.topic, config.input.decode)
    _check_decodes(view)
    plan = make_plan(config, found, snapshot_id=source.id, view_digest=view.digest, schema=dict(view.columns))
    return Prepared(home, source, view, plan, time.monotonic() - began)


def _check_decodes(view: View) -> None:
    """Refuse an input of which no record decodes, before anything is made.

    Raises:
        DecodeError: names the first one and its reason.
    """
    if any(view.rows.values()) or not any(view.faults.values()):
        return
    partition, offset, reason = view.dead_letters().select("partition", "offset", "reason").head(1).collect().row(0)
    raise DecodeError(
        f"topic {view.topic}: none of its {sum(view.faults.values()):,} records decodes; "
        f"the first is {view.topic}[{partition}]@{offset}: {reason}",
        hint="correct `input.decode`",
        topic=view.topic,
        partition=partition,
        offset=offset,
    )


def what_is_known(prepared: Prepared) -> Known:
    """What the home's records say of a plan.

    Raises:
        RunError: a record is damaged.
    """
    home, plan = prepared.home, prepared.plan
    records = [Run.from_dict(record, home=home) for record in read_records(home)]
    own = [found for found in records if found.repeats is None]
    earlier = tuple(found for found in own if found.key == plan.key)
    repeats = tuple(found for found in records if found.repeats is not None and found.key == plan.key)
    done = next((found for found in earlier if found.status == "complete"), None)
    return Known(earlier, repeats, done, _computed(own, plan))


def _computed(records: Sequence[Run], plan: Plan) -> dict[str, VersionOutcome]:
    found: dict[str, VersionOutcome] = {}
    for run in records:
        for name, outcome in run.versions.items():
            if name in found or outcome.status != "complete" or plan.version_keys.get(name) != outcome.key:
                continue
            store = Store(run.home)
            if outcome.frozen and all(store.manifest(frozen).exists() for frozen in outcome.frozen.values()):
                found[name] = replace(outcome, reused=outcome.reused if outcome.reused is not None else run.id)
    return found

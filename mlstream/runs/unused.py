"""What versions left in this machine's cache, which of it nobody uses any more, and its removal.

Environments, checkouts of revisions and fetched models are made again when they are missing, so that removing one costs
time and no result. They stay while a kept run of the home has a version that ran in them, while they were used lately
(other projects of this machine have runs, too), and while a process works in them. How requirements were resolved and
what a model's URI was at first are not removed: these decide what a version is.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from mlstream.errors import StoreError, UsageError, VersionLoadError
from mlstream.home import Home
from mlstream.registry.place import models_root
from mlstream.runs.run import list_runs
from mlstream.versions.cached import alone
from mlstream.versions.checkouts import revisions_root
from mlstream.versions.digests import digest_value
from mlstream.versions.environments import environments_root

Kind = Literal["environment", "checkout", "model"]
_DAY_S = 86_400.0
_GONE = "-gone"
_NAMED = ("scikit-learn", "mlflow", "numpy", "polars")  # the package by which an environment is known


@dataclass(frozen=True, slots=True)
class Kept:
    """An environment, a checkout or a fetched model in the cache.

    Attributes:
        folder: where it is.
        used_at: when a version was last resolved to it, seconds since 1970.
        size_bytes: of its files. Those of an environment may be the same files as in uv's own cache.
        what: it in words.
        identity: what a run's record has of it: the digest of its packages, the commit, the model's digest.
        stays: why it is not removed; None when it is.
    """

    kind: Kind
    folder: Path
    used_at: float
    size_bytes: int
    what: str
    identity: str
    stays: str | None = None


def find_unused(home: Home, *, unused_days: float) -> list[Kept]:
    """All that versions left in the cache, what was not used for the longest time first; `stays` says what may go.

    Args:
        home: whose runs count.
        unused_days: what was used within so many days stays.

    Raises:
        RunError: a run's record is damaged, so that nobody knows what it needs.
        StoreError: the cache cannot be read.
    """
    if not 0 <= unused_days <= 36_500:
        raise UsageError(f"unused for {unused_days:g} days", hint="name a number of days from 0 to 36500")
    needed, busy, since = _needed(home), _busy_folders(), time.time() - unused_days * _DAY_S
    try:
        found = [replace(kept, stays=_why_stays(kept, needed, busy, since)) for kept in _everything()]
    except OSError as exc:
        raise StoreError(f"{exc.filename}: the cache cannot be read: {exc.strerror}", hint="check the rights") from exc
    return sorted(found, key=lambda kept: (kept.used_at, str(kept.folder)))


def remove_unused(home: Home, *, unused_days: float) -> list[Kept]:
    """Remove what `find_unused` says may go; the same list, in which what is gone has no `stays`.

    Raises:
        RunError, StoreError: as `find_unused`; or something cannot be removed.
    """
    found = [kept if kept.stays is not None else _remove(kept) for kept in find_unused(home, unused_days=unused_days)]
    _finish_removals()
    return found


def _finish_removals() -> None:
    """Remove what one that was killed had put out of the way: nobody finds it there."""
    for root in (environments_root(), revisions_root(), models_root()):
        for aside in root.glob(f".*{_GONE}") if root.is_dir() else ():
            folder = root / aside.name.removeprefix(".").removesuffix(_GONE)
            with suppress(VersionLoadError), alone(folder, within_s=0, doing="removing it", where="version gc"):
                shutil.rmtree(aside, ignore_errors=True)


def _remove(kept: Kept) -> Kept:
    aside = kept.folder.with_name(f".{kept.folder.name}{_GONE}")
    try:
        # 1. nobody makes it
        with _held(kept):
            # 2. out of the way, at once: whoever looks for it now makes it again
            kept.folder.rename(aside)
            # 3. unless somebody has found it since it was looked at
            if aside.stat().st_mtime != kept.used_at:
                aside.rename(kept.folder)
                return replace(kept, stays="used just now")
            shutil.rmtree(aside)
    except VersionLoadError:
        return replace(kept, stays="being made")
    except FileNotFoundError:
        return kept  # another one removes it
    except OSError as exc:
        raise StoreError(f"{kept.folder}: it cannot be removed: {exc}", hint="check the rights on it") from exc
    return kept


def _held(kept: Kept) -> Any:
    if kept.kind == "model":  # fetched under another name, and has this one when it is whole
        return nullcontext()
    return alone(kept.folder, within_s=0, doing="making it", where=kept.kind)


def _why_stays(kept: Kept, needed: Mapping[tuple[Kind, str], str], busy: set[str], since: float) -> str | None:
    run_id = needed.get((kept.kind, kept.identity))
    if run_id is not None:
        return f"run {run_id[:12]}"
    if any(path == str(kept.folder) or path.startswith(f"{kept.folder}{os.sep}") for path in busy):
        return "a process works in it"
    return "used lately" if kept.used_at > since else None


def _needed(home: Home) -> dict[tuple[Kind, str], str]:
    """What the versions of the home's runs ran in → the newest of these runs."""
    found: dict[tuple[Kind, str], str] = {}
    for run in list_runs(home, repeats=True):
        for outcome in run.versions.values():
            own, git = outcome.described.get("environment"), outcome.described.get("git")
            if own is not None:
                found.setdefault(("environment", digest_value(own["packages"])), run.id)
            if git is not None and git["revision"] is not None:
                found.setdefault(("checkout", git["commit"]), run.id)
            if outcome.described.get("mlflow") is not None:
                found.setdefault(("model", str(outcome.described["weights_digest"])), run.id)
    return found


def _busy_folders() -> set[str]:
    """The programs, their arguments and the working folders of the processes that this user may look at."""
    found: set[str] = set()
    for process in psutil.process_iter(["cmdline", "cwd"]):
        found.update(process.info["cmdline"] or ())
        found.add(process.info["cwd"] or "")
    return found


def _everything() -> Iterator[Kept]:
    for folder in _folders(environments_root()):
        with suppress(FileNotFoundError):
            packages = _document(folder / "environment.json").get("packages", {})
            yield _kept("environment", folder, _in_words(packages), digest_value(packages))
    for folder in _folders(revisions_root()):
        with suppress(FileNotFoundError):
            said = _document(folder / "revision.json")
            commit = str(said.get("commit", ""))
            yield _kept("checkout", folder, f"{commit[:12]} of {_place(said.get('repository'))}", commit)
    for folder in _folders(models_root()):
        with suppress(FileNotFoundError):
            yield _kept("model", folder, f"{folder.name[:12]}, a model of MLflow's", folder.name)


def _folders(root: Path) -> list[Path]:
    """The folders of a part of the cache that are whole."""
    if not root.is_dir():
        return []
    length = 64 if root == models_root() else 32
    return [path for path in root.iterdir() if len(path.name) == length and path.is_dir()]


def _kept(kind: Kind, folder: Path, what: str, identity: str) -> Kept:
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    return Kept(kind, folder, folder.stat().st_mtime, size, what, identity)


def _document(file: Path) -> dict[str, Any]:
    """What a folder says of itself; nothing when it is damaged, for then it is of no use to anybody."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_words(packages: Mapping[str, str]) -> str:
    named = next((f"{name} {packages[name]}" for name in _NAMED if name in packages), None)
    return f"{len(packages):,} packages" if named is None else f"{named} and {len(packages) - 1:,} more packages"


def _place(repository: Any) -> str:
    path = Path(str(repository))
    return path.parent.name if path.name == ".git" else path.name

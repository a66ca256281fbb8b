"""Which of the files that a version loads differ from the commit that the working tree is at. Changes nothing.

A commit says what code ran only as far as the files are the commit's. Code counts wherever it is; data files and
weights that git is told to ignore do not, for no commit could hold them: their own digests are in the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlstream.errors import VersionLoadError
from mlstream.versions.digests import digest_value
from mlstream.versions.git import Repository, find_repository, head_of, run_git

_AT_ONCE = 500  # paths of a command line
_TIMEOUT_S = 600.0  # files of gigabytes are read


@dataclass(frozen=True, slots=True)
class CodeState:
    """Where a version's files stand in git.

    Attributes:
        commit: the commit that they were taken from, or that the working tree was at.
        revision: what `git:` says; None for the working tree.
        changed: the files that differ from the commit or are not in it, as paths in the project; none of a revision.
        diff_digest: of the difference: for each changed file its object id in the commit and the SHA-256 of what is
            loaded; None when nothing differs.
        ignored: weights and data files that are not in the commit, and that git is told to ignore, likewise.
    """

    commit: str
    revision: str | None = None
    changed: tuple[str, ...] = ()
    diff_digest: str | None = None
    ignored: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """What a run's record says of it: JSON values."""
        return {
            "commit": self.commit,
            "revision": self.revision,
            "changed": list(self.changed),
            "diff_digest": self.diff_digest,
            "ignored": list(self.ignored),
        }


def state_of_tree(root: Path, code: Mapping[str, str], data: Mapping[str, str], *, where: str) -> CodeState:
    """Where the files of a version in the working tree stand.

    Args:
        root: the project's root.
        code: the source files: path in the project → SHA-256.
        data: its weights and data files, likewise.
        where: the version, for messages (`versions.v1`).

    Raises:
        VersionLoadError: git, a repository or a commit is not there, or git cannot tell.
    """
    repository = find_repository(root, where=where)
    commit = head_of(repository, where=where)
    if commit is None:
        raise VersionLoadError(
            f"{where}: the repository {repository.top} has no commit yet", hint="commit the project", where=where
        )
    paths = {f"{repository.prefix}{name}": digest for name, digest in {**data, **code}.items()}
    before = _in_commit(repository, commit, paths, where)
    now = _as_objects(repository, paths, where)
    changed = {name: (before.get(name), digest) for name, digest in paths.items() if before.get(name) != now[name]}
    never = [name for name in changed if name not in before and name.removeprefix(repository.prefix) not in code]
    ignored = _ignored(repository, never, where)
    for name in ignored:
        del changed[name]
    left_out = tuple(sorted(name.removeprefix(repository.prefix) for name in ignored))
    if not changed:
        return CodeState(commit, ignored=left_out)
    diff = {name: {"commit": blob, "sha256": digest} for name, (blob, digest) in changed.items()}
    names = sorted(name.removeprefix(repository.prefix) for name in changed)
    return CodeState(commit, None, tuple(names), digest_value(diff), left_out)


def _in_commit(repository: Repository, commit: str, paths: Iterable[str], where: str) -> dict[str, str]:
    """Those of the paths that a commit has, with their object ids."""
    found = {}
    for some in _portions(sorted(paths)):
        done = run_git(["ls-tree", "-z", "--full-tree", commit, "--", *some], folder=repository.top, where=where)
        if done.code != 0:
            raise _cannot_tell(done.said, where)
        for line in done.parts:
            entry, _, name = line.partition("\t")
            found[name] = entry.split(" ")[2]
    return found


def _as_objects(repository: Repository, paths: Iterable[str], where: str) -> dict[str, str]:
    """The object ids that the files would have in a commit, whatever the index says of them."""
    found: dict[str, str] = {}
    for some in _portions(sorted(paths)):
        done = run_git(["hash-object", "--", *some], folder=repository.top, where=where, timeout_s=_TIMEOUT_S)
        if done.code != 0:
            raise _cannot_tell(done.said, where)
        found.update(zip(some, done.lines, strict=True))
    return found


def _ignored(repository: Repository, paths: Sequence[str], where: str) -> list[str]:
    if not paths:
        return []
    done = run_git(
        ["check-ignore", "-z", "--stdin"],
        folder=repository.top,
        where=where,
        variables={"GIT_LITERAL_PATHSPECS": "0"},  # it knows none; `./` keeps a name from being more than that
        given=[f"./{path}" for path in paths],
    )
    if done.code > 1:  # 1: none is ignored
        raise _cannot_tell(done.said, where)
    return [path.removeprefix("./") for path in done.parts]


def _portions(paths: Sequence[str]) -> Iterable[Sequence[str]]:
    return (paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE))


def _cannot_tell(said: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: git cannot tell how its files differ from the commit:\n{said}", hint="do what git says", where=where
    )

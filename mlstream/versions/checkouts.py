"""The files of a commit, checked out once into this machine's cache. Touches neither working tree nor repository.

    revisions/KEY/                  one commit of one repository, complete since it has that name
        tree/                       its files, read-only
        index                       git's account of them, by which changes are noticed
        revision.json               which commit it is, and what was left out
    revisions/KEY.lock              held while it is made

Not `git worktree`: that writes to the user's repository and runs its hooks. Not `git archive`: that changes what it
exports (`export-subst`), and a version's digest must be the same for the same files of a working tree. What is left
out: symbolic links that lead out of the tree, and the files of submodules, which are commits of other repositories.
A checkout may be deleted at any time when no run is going on: it is made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from mlstream.errors import VersionLoadError
from mlstream.home import cache_root, mark_used
from mlstream.versions.cached import alone, made_aside
from mlstream.versions.digests import digest_value
from mlstream.versions.git import Done, Repository, commit_of, find_repository, run_git

_FORMAT = 1
_TIMEOUT_S = 1800.0  # Git LFS may fetch large files
_LINK, _SUBMODULE = "120000", "160000"
_IMPORTED = (".py", *EXTENSION_SUFFIXES)
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A project as it was in a commit.

    Attributes:
        revision: what was asked for (`main~3`).
        commit: the commit's id.
        root: the project's root in it.
        project: the project's root in the working tree.
        tree: the top of the repository in it.
        links: symbolic links that were left out, as paths from the top.
        submodules: folders of submodules, which are empty.
        strange: files that are there and not in the commit, as paths from the top.
    """

    revision: str
    commit: str
    root: Path
    project: Path
    tree: Path = field(repr=False)
    links: tuple[str, ...] = field(default=(), repr=False)
    submodules: tuple[str, ...] = field(default=(), repr=False)
    strange: frozenset[str] = field(default=frozenset(), repr=False)

    def __str__(self) -> str:
        return f"revision {self.revision} ({self.commit[:12]})"

    def check_file(self, path: Path, *, where: str) -> None:
        """Nothing, if a file that a version reads is one of the commit's, with its contents.

        Raises:
            VersionLoadError: it is not in the commit, or only a pointer of Git LFS is.
        """
        name = path.resolve().relative_to(self.tree.resolve()).as_posix()
        if name in self.strange:
            raise VersionLoadError(
                f"{where}: {name} is not in {self}, and was put into its checkout",
                hint=f"remove the folder {self.tree.parent}: it is made again",
                where=where,
            )
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise VersionLoadError(
                    f"{where}: of {name}, {self} has only the pointer: its contents are kept by Git LFS",
                    hint=f"`git lfs install`, then remove the folder {self.tree.parent}: it is made again",
                    where=where,
                )

    def absent(self, path: Path) -> str | None:
        """Why a file is not there, as a hint; None when the commit has nothing to say of it."""
        if not path.is_relative_to(self.root):
            return None
        name = path.relative_to(self.root)
        above = path.relative_to(self.tree).as_posix()
        if any(above == link or above.startswith(f"{link}/") for link in self.links):
            return "it is a symbolic link that leads out of the repository, and is not followed"
        if any(above.startswith(f"{folder}/") for folder in self.submodules):
            return "it is in a submodule, and a revision does not bring its submodules; copy it into the repository"
        if (self.project / name).exists():
            return f"{name} is in the working tree only: commit it, and name that commit"
        return None


def revisions_root() -> Path:
    """The folder of all checkouts, in this machine's cache."""
    return cache_root() / "revisions"


def check_out(root: Path, revision: str, *, where: str) -> Checkout:
    """The project at `root` as it was in a revision, checked out when it is not there yet.

    Args:
        root: the project's root in the working tree.
        revision: a branch, a tag, an id or its beginning, `main~3`; what it names now is what is taken.
        where: the key in the configuration, for messages (`versions.v1.git`).

    Raises:
        VersionLoadError: git, the repository or the revision is not there; the project is not in that revision; the
            checkout cannot be made, or was changed.
    """
    repository = find_repository(root, where=where)
    commit = commit_of(repository, revision, where=where)
    folder = revisions_root() / digest_value([_FORMAT, str(repository.common), commit])[:32]
    try:
        if not folder.exists():
            with alone(folder, within_s=2 * _TIMEOUT_S, doing=f"checking out {commit[:12]}", where=where):
                if not folder.exists():
                    _make(folder, repository, commit, where)
        found = _open(folder, repository, revision, commit, where)
    except OSError as exc:
        raise VersionLoadError(
            f"{where}: {commit[:12]} cannot be checked out to {folder}: {exc}",
            hint="free the disk, or name another folder with MLSTREAM_CACHE",
            where=where,
        ) from exc
    if not found.root.is_dir():
        raise VersionLoadError(
            f"{where}: {found} has no folder {repository.prefix.rstrip('/')}, where the project is now",
            hint="name a later revision",
            where=where,
        )
    return found


@contextmanager
def explained(checkout: Checkout | None) -> Iterator[None]:
    """Have errors about a version's files say which revision they are about, and why a file is not in it."""
    try:
        yield
    except VersionLoadError as exc:
        if checkout is None or str(checkout) in exc.message:
            raise
        path = exc.facts.get("path")
        why = None if path is None else checkout.absent(Path(path))
        message = exc.message.replace(str(checkout.root), "the project")
        hint = None if exc.hint is None else exc.hint.replace(str(checkout.root), "the project's root")
        raise VersionLoadError(f"{message}, at {checkout}", hint=why if why is not None else hint, **exc.facts) from exc


def _make(folder: Path, repository: Repository, commit: str, where: str) -> None:
    """Check out beside the place, then give it its name."""
    with made_aside(folder) as work:
        # 1. the files, as git would write them into a working tree
        (work / "tree").mkdir()
        done = _in_tree(["read-tree", "--reset", "-u", commit], work, repository, where)
        if done.code != 0:
            raise VersionLoadError(
                f"{where}: git cannot check out {commit[:12]}:\n{done.said}", hint="try it by hand", where=where
            )
        # 2. nothing leads out of it, and nobody changes it by accident
        links, submodules = [], []
        for line in _in_tree(["ls-files", "--stage", "-z"], work, repository, where).parts:
            entry, _, name = line.partition("\t")
            path = work / "tree" / name
            if entry.startswith(_SUBMODULE):
                submodules.append(name)
            elif entry.startswith(_LINK):
                if path.is_symlink() and not _leads_inside(path, work / "tree"):
                    links.append(name)
            elif path.is_file():
                path.chmod(path.stat().st_mode & ~0o222)
        for name in links:
            (work / "tree" / name).unlink()
        _in_tree(["update-index", "-q", "--refresh"], work, repository, where)  # it says so of what was left out
        # 3. what it is, and its name
        said = {"commit": commit, "repository": str(repository.common), "links": links, "submodules": submodules}
        (work / "revision.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
        work.chmod(0o755)
        work.rename(folder)


def _open(folder: Path, repository: Repository, revision: str, commit: str, where: str) -> Checkout:
    """The checkout in a folder, held against the commit."""
    try:
        said = json.loads((folder / "revision.json").read_bytes())
        links, submodules = tuple(said["links"]), tuple(said["submodules"])
    except (OSError, ValueError, KeyError) as exc:
        raise _changed(folder, str(exc), where) from exc
    compare = ["diff", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=all", "-z", commit]
    done = _in_tree(compare, folder, repository, where)
    strange = _in_tree(["ls-files", "--others", "-z"], folder, repository, where).parts
    changed = sorted(set(done.parts) ^ set(links)) + [name for name in strange if name.endswith(_IMPORTED)]
    if done.code != 0 or changed:
        raise _changed(folder, ", ".join(changed[:5]) if changed else done.said, where)
    mark_used(folder)
    tree = folder / "tree"
    return Checkout(
        revision, commit, tree / repository.prefix, repository.folder, tree, links, submodules, frozenset(strange)
    )


def _in_tree(arguments: list[str], folder: Path, repository: Repository, where: str) -> Done:
    """git, told that the working tree and the index are those of a checkout."""
    tree = folder / "tree"
    return run_git(
        [f"--git-dir={repository.git_dir}", f"--work-tree={tree}", *arguments],
        folder=tree,
        where=where,
        variables={"GIT_INDEX_FILE": str(folder / "index")},
        timeout_s=_TIMEOUT_S,
    )


def _leads_inside(link: Path, tree: Path) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(tree.resolve())


def _changed(folder: Path, what: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the checkout at {folder} was changed: {what}",
        hint="remove that folder: it is made again",
        where=where,
        path=str(folder),
    )

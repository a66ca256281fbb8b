"""Ask git about the project: its repository, the commits that revisions name, what is in them. Changes no repository.

git runs without what a surrounding git command has set (`GIT_DIR`, `GIT_INDEX_FILE` in a hook), runs no hooks, writes
to no index that is not ours, and asks nobody for a password. Filters that the user has configured (Git LFS, line
endings) do run: they decide what a file of a commit is in the working tree.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mlstream.errors import VersionLoadError

ASK_TIMEOUT_S = 60.0
# These say how git reaches a server and where its own parts and settings are; all other GIT_… variables say which
# repository, index or tree a command is about, and that we say ourselves.
_PASSED = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_EXEC_PATH",
        "GIT_LFS_SKIP_SMUDGE",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    }
)
_SET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a commit is what its id says
    "LC_ALL": "C",
}
# Programs that git would start by itself, and settings that make it read or write elsewhere than it is told.
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.splitIndex": "false",
    "core.untrackedCache": "false",
    "core.sparseCheckout": "false",
    "core.quotePath": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_TAIL_LINES = 6
_STEPS = re.compile(r"[~^@:].*", re.DOTALL)  # main~3, v1^2, main@{yesterday}


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository that a project is in.

    Attributes:
        folder: the project's root, where git is asked.
        git_dir: its `.git` folder, or that of the linked worktree.
        common: the folder that all worktrees of the repository share.
        top: the top of the working tree.
        prefix: the project's root below the top: "" or "folder/".
        shallow: its history was cut off when it was cloned.
    """

    folder: Path
    git_dir: Path
    common: Path
    top: Path
    prefix: str
    shallow: bool


@dataclass(frozen=True, slots=True)
class Done:
    """How a git command ended: its exit code, what it printed, and the last lines of what it complained of."""

    code: int
    out: bytes
    said: str

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line."""
        return os.fsdecode(self.out).splitlines()

    @property
    def parts(self) -> list[str]:
        """What it printed with `-z`, part by part."""
        return [os.fsdecode(part) for part in self.out.split(b"\0") if part]


def run_git(
    arguments: Sequence[str],
    *,
    folder: Path,
    where: str,
    variables: Mapping[str, str] | None = None,
    given: Sequence[str] = (),
    timeout_s: float = ASK_TIMEOUT_S,
) -> Done:
    """Run git in a folder and wait for it; whether it failed is the caller's to see.

    Args:
        arguments: what follows `git`.
        folder: where it runs.
        where: the key in the configuration, for messages (`versions.v1.git`).
        variables: more variables for it.
        given: parts for its standard input, each ended by a zero.
        timeout_s: how long it may take.

    Raises:
        VersionLoadError: git is not installed, or takes too long.
    """
    settings = [text for name, value in _SETTINGS.items() for text in ("-c", f"{name}={value}")]
    passed = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _PASSED}
    try:
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env={**passed, **_SET, **(variables if variables is not None else {})},
            input=b"".join(os.fsencode(part) + b"\0" for part in given),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as exc:
        raise VersionLoadError(
            f"{where}: git is not installed, or {folder} is not there", hint="install git", where=where
        ) from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise VersionLoadError(f"{where}: git cannot be run: {exc}", hint="try it by hand", where=where) from exc
    return Done(done.returncode, done.stdout, _last_lines(done.stderr))


def find_repository(root: Path, *, where: str) -> Repository:
    """The repository that the project at `root` is in.

    Raises:
        VersionLoadError: git is not installed, `root` is in no repository, or git will not use it.
    """
    asked = ("--absolute-git-dir", "--git-common-dir", "--is-shallow-repository", "--show-toplevel", "--show-prefix")
    done = run_git(["rev-parse", *asked], folder=root, where=where)
    if done.code != 0:
        if "not a git repository" in done.said:
            raise VersionLoadError(f"{where}: {root} is in no git repository", hint="`git init` makes one", where=where)
        raise VersionLoadError(
            f"{where}: git cannot use the repository of {root}:\n{done.said}", hint="do what git says", where=where
        )
    git_dir, common, shallow, top, prefix = (*done.lines, "")[:5]
    return Repository(
        root, Path(git_dir), (root / common).resolve(), Path(top), prefix, shallow=shallow.strip() == "true"
    )


def commit_of(repository: Repository, revision: str, *, where: str) -> str:
    """The id of the commit that a revision names: a branch, a tag, an id or its beginning, `main~3`.

    Raises:
        VersionLoadError: it names none; the message has near names.
    """
    done = _resolved(repository, revision, where)
    if done.code == 0:
        return done.lines[0]
    message = f"{where}: there is no revision {revision!r} in the repository {repository.top}"
    base = _STEPS.sub("", revision)
    if "ambiguous" in done.said:
        raise VersionLoadError(f"{message}: {revision} begins the ids of several objects", hint="write more of the id")
    hint = None
    if base and base != revision and _resolved(repository, base, where).code == 0:
        message += f": {base} is there, and does not go back so far"
        hint = f"`git log --oneline {base}` lists what there is"
    if repository.shallow:
        raise VersionLoadError(
            f"{message}, whose history was cut off when it was cloned",
            hint="`git fetch --unshallow` brings the rest; in CI, check out with the whole history",
            where=where,
            revision=revision,
        )
    hint = _near(repository, base, where) if hint is None else hint
    raise VersionLoadError(message, hint=hint, where=where, revision=revision)


def head_of(repository: Repository, *, where: str) -> str | None:
    """The commit that the working tree is at; None when there is none yet."""
    done = _resolved(repository, "HEAD", where)
    return done.lines[0] if done.code == 0 else None


def _resolved(repository: Repository, revision: str, where: str) -> Done:
    asked = ["rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"]
    return run_git(asked, folder=repository.folder, where=where)


def _near(repository: Repository, name: str, where: str) -> str:
    refs = ["for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes"]
    known = run_git(refs, folder=repository.folder, where=where).lines
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return "`git branch -a` and `git tag` list what there is; `git fetch --tags` brings what a server has"


def _last_lines(said: bytes) -> str:
    lines = [line.rstrip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (it said nothing)"

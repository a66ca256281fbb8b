"""A project in a git repository of the test's own, whatever the user has configured."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@dataclass(frozen=True)
class Repo:
    """A repository and its working tree."""

    top: Path

    def git(self, *arguments: str | os.PathLike[str], given: str | None = None) -> str:
        """What a git command prints, to which `given` is its standard input."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environ = {**clean, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", "-C", self.top, *arguments],
            env=environ,
            input=given,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        """A file of the working tree."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
        return path

    def commit(self, message: str = "more") -> str:
        """Commit the whole working tree."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def state(self) -> dict[str, bytes]:
        """Every file of the repository and its working tree."""
        return {str(path): path.read_bytes() for path in sorted(self.top.rglob("*")) if path.is_file()}


def new_repo(top: Path) -> Repo:
    """A repository with one commit that holds all files of a folder."""
    top.mkdir(parents=True, exist_ok=True)
    repo = Repo(top)
    repo.git("init", "--quiet", "--initial-branch", "main")
    repo.commit("first")
    return repo

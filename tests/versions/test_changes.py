"""Whether the files that a version loads are those of the commit that its record names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.versions import resolve_version
from mlstream.versions.changes import CodeState
from tests.versions.repository import Repo, new_repo

Experiment = Callable[..., ExperimentConfig]


@pytest.fixture
def repo(project: Path) -> Repo:
    return new_repo(project)


def state(config: ExperimentConfig) -> CodeState:
    found = resolve_version(config, "v1").git
    assert found is not None
    return found


def refusing(config: ExperimentConfig) -> ExperimentConfig:
    return config.model_copy(update={"dirty": "refuse"})


def test_only_files_that_the_version_loads_count(experiment: Experiment, repo: Repo) -> None:
    head = repo.git("rev-parse", "HEAD")
    repo.write("shop/unrelated.py", "CHANGED = True\n")
    repo.write("new.py", "")
    repo.write("data/table.csv", "changed\n")
    assert state(refusing(experiment())) == CodeState(head)
    assert state(experiment(files=["data/table.csv"])).changed == ("data/table.csv",)
    repo.write("shop/late.py", "def shift():\n    return 1.0\n")
    assert state(experiment()).changed == ("shop/late.py",)


def test_what_changed_is_recorded_with_a_digest_of_the_difference(experiment: Experiment, repo: Repo) -> None:
    was = repo.write("shop/rules.py", "FACTOR = 2.0\n").read_text()
    first = state(experiment())
    assert first.changed == ("shop/rules.py",)
    assert first.diff_digest is not None
    assert len(first.diff_digest) == 64
    repo.write("shop/rules.py", "FACTOR = 3.0\n")
    assert state(experiment()).diff_digest not in (None, first.diff_digest)
    repo.write("shop/rules.py", was)
    assert state(experiment()) == first
    assert resolve_version(experiment(), "v1").describe()["git"] == {
        "commit": repo.git("rev-parse", "HEAD"),
        "revision": None,
        "changed": ["shop/rules.py"],
        "diff_digest": first.diff_digest,
        "ignored": [],
    }
    repo.commit("the same, committed")
    assert state(experiment()).diff_digest is None


def test_a_difference_is_refused_by_name_when_that_is_asked_for(experiment: Experiment, repo: Repo) -> None:
    repo.write("shop/rules.py", "FACTOR = 2.0\n")
    repo.write("shop/late.py", "def shift():\n    return 1.0\n")
    repo.git("add", "shop/late.py")  # what is staged is not committed
    with pytest.raises(
        VersionLoadError,
        match=r"versions\.v1: shop/late\.py, shop/rules\.py differ from the commit [0-9a-f]{12}, and the experiment "
        r"says `dirty: refuse`; commit them, or name a revision with `git:`",
    ):
        resolve_version(refusing(experiment()), "v1")
    assert resolve_version(refusing(experiment(git="HEAD")), "v1").git == CodeState(
        repo.git("rev-parse", "HEAD"), "HEAD"
    )


def test_flags_in_the_index_hide_no_difference(experiment: Experiment, repo: Repo) -> None:
    repo.git("update-index", "--assume-unchanged", "shop/rules.py")
    repo.git("update-index", "--skip-worktree", "shop/late.py")
    repo.write("shop/rules.py", "FACTOR = 2.0\n")
    repo.write("shop/late.py", "def shift():\n    return 1.0\n")
    assert repo.git("status", "--porcelain") == ""
    assert state(experiment()).changed == ("shop/late.py", "shop/rules.py")


def test_line_endings_that_git_converts_are_no_difference(experiment: Experiment, repo: Repo) -> None:
    repo.write(".gitattributes", "*.py text\n")
    repo.commit()
    repo.write("shop/rules.py", "FACTOR = 1.0\r\n")
    assert state(experiment()).changed == ()


def test_code_that_was_never_committed_counts_and_data_that_git_ignores_does_not(
    experiment: Experiment, repo: Repo
) -> None:
    repo.write(".gitignore", "made/\nshop/local.py\n")
    repo.commit()
    repo.write("made/table.csv", "1\n")
    repo.write("data/other.csv", "1\n")
    repo.write("shop/local.py", "class make:\n    def predict(self, frame):\n        return frame['x']\n")
    ignored = state(refusing(experiment(files=["made/table.csv"])))
    assert (ignored.changed, ignored.diff_digest, ignored.ignored) == ((), None, ("made/table.csv",))
    mixed = state(experiment(files=["made/table.csv", "data/other.csv"]))
    assert (mixed.changed, mixed.ignored) == (("data/other.csv",), ("made/table.csv",))
    assert state(experiment(model="shop/local.py:make")).changed == ("shop/local.py",)


def test_refusing_differences_needs_a_commit_to_compare_with(experiment: Experiment, project: Path) -> None:
    with pytest.raises(VersionLoadError, match=r"versions\.v1: .*project is in no git repository"):
        resolve_version(refusing(experiment()), "v1")
    repo = Repo(project)
    repo.git("init", "--quiet")
    with pytest.raises(VersionLoadError, match=r"the repository .*project has no commit yet; commit the project"):
        resolve_version(refusing(experiment()), "v1")
    assert resolve_version(experiment(), "v1").git is None

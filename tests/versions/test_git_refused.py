"""What git cannot give is refused by name, with what helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.versions import resolve_version
from tests.versions.repository import Repo, new_repo

Experiment = Callable[..., ExperimentConfig]


@pytest.fixture
def repo(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """The project with one commit, tagged `release-1`, on the branch `main`."""
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    repo = new_repo(project)
    repo.git("tag", "release-1")
    return repo


def refused(config: ExperimentConfig, message: str) -> None:
    with pytest.raises(VersionLoadError, match=message):
        resolve_version(config, "v1")


def test_a_revision_that_is_not_there_has_near_ones_named(experiment: Experiment, repo: Repo) -> None:
    refused(experiment(git="release-2"), r"versions\.v1\.git: there is no revision 'release-2' in .*mean 'release-1'\?")
    refused(experiment(git="mian~1"), r"no revision 'mian~1' in the repository .*did you mean 'main'\?")
    back = r"no revision 'main~1' .*: main is there, and does not go back so far; `git log --oneline main` lists"
    refused(experiment(git="main~1"), back)
    refused(experiment(git="0123abc"), r"no revision '0123abc' .*`git branch -a` and `git tag` list what there is")
    tree = repo.git("rev-parse", "main^{tree}")
    refused(experiment(git=tree), f"there is no revision '{tree}'")


def test_the_beginning_of_several_ids_is_told_apart_from_none(experiment: Experiment, repo: Repo) -> None:
    commits = "".join(
        f"commit refs/heads/many\ncommitter A <a@example.org> {number} +0000\ndata 0\n\n" for number in range(1000)
    )
    repo.git("fast-import", "--quiet", given=commits)
    ids = Counter(commit[:4] for commit in repo.git("rev-list", "many").split())
    beginning = next(found for found, count in ids.items() if count > 1)
    refused(experiment(git=beginning), f"{beginning} begins the ids of several objects; write more of the id")


def test_a_clone_that_was_cut_off_says_how_to_get_the_rest(experiment: Experiment, repo: Repo, tmp_path: Path) -> None:
    for _ in range(2):
        repo.commit()
    shallow = tmp_path / "shallow"
    repo.git("clone", "--quiet", "--depth", "1", f"file://{repo.top}", shallow)
    config = experiment(git="main~1").located(shallow / "c.yaml", shallow)
    refused(config, r"whose history was cut off when it was cloned; `git fetch --unshallow` brings the rest; in CI")
    config = experiment(git="main").located(shallow / "c.yaml", shallow)
    assert resolve_version(config, "v1").git is not None


def test_a_file_that_is_not_in_the_revision_is_named_with_where_it_is(experiment: Experiment, repo: Repo) -> None:
    repo.write("shop/later.py", "class make:\n    pass\n")
    at = r"at revision release-1 \([0-9a-f]{12}\)"
    refused(
        experiment(model="shop/later.py:make", git="release-1"),
        rf"there is no file shop/later\.py, {at}; shop/later\.py is in the working tree only: commit it",
    )
    refused(
        experiment(model="shop/modle.py:make", git="release-1"), rf"no file shop/modle\.py, {at}; did you mean 'mod"
    )
    refused(experiment(model="shop.later:make", git="release-1"), rf"there is no module 'shop\.later', {at}")
    refused(experiment(files=["data/new.csv"], git="release-1"), rf"no file data/new\.csv, {at}")
    refused(experiment(model="models/m.skops", git="release-1"), rf"no file models/m\.skops, {at}")
    repo.write("requirements.txt", "polars\n")
    refused(experiment(environment="requirements.txt", git="release-1"), rf"requirements\.txt.*{at}")


def test_a_file_of_a_submodule_and_one_that_git_lfs_keeps_are_named(experiment: Experiment, repo: Repo) -> None:
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.git('rev-parse', 'HEAD')},vendored")
    repo.git("commit", "--quiet", "--message", "a submodule")
    refused(
        experiment(model="vendored/model.py:make", git="main"),
        r"no file vendored/model\.py, at revision main .*it is in a submodule, and a revision does not bring its subm",
    )
    repo.write("models/m.skops", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    repo.commit()
    refused(
        experiment(model="models/m.skops", git="main"),
        r"of models/m\.skops, revision main \(.*\) has only the pointer: its contents are kept by Git LFS",
    )


def test_a_filter_that_fails_is_told_in_gits_words(experiment: Experiment, repo: Repo) -> None:
    repo.write(".gitattributes", "data/*.csv filter=far\n")
    repo.commit()
    repo.git("config", "filter.far.smudge", "echo no network here >&2; exit 3")
    repo.git("config", "filter.far.required", "true")
    refused(experiment(git="main"), r"(?s)versions\.v1\.git: git cannot check out .*data/table\.csv: smudge filter far")
    assert not list((repo.top.parent / "cache" / "revisions").glob(".*-*"))


def test_without_a_repository_or_git_a_revision_is_refused_and_the_working_tree_is_not(
    experiment: Experiment, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(experiment(git="main"), rf"versions\.v1\.git: {project} is in no git repository; `git init` makes one")
    assert resolve_version(experiment(), "v1").git is None
    new_repo(project)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(experiment(git="main"), r"versions\.v1\.git: git is not installed.*; install git")
    assert resolve_version(experiment(), "v1").git is None


@pytest.mark.parametrize("revision", ["", "--output=x", "main\n", "a\x00b"])
def test_what_cannot_be_a_revision_is_refused_by_the_configuration(experiment: Experiment, revision: str) -> None:
    if revision == "main\n":
        assert experiment(git=revision).versions["v1"].git == "main"
        return
    with pytest.raises(ValidationError, match="not a revision; write a branch, a tag, a commit, or main~3"):
        experiment(git=revision)


def test_a_revision_is_not_trained(experiment: Experiment) -> None:
    with pytest.raises(ValidationError, match="`train:` has no meaning with `git:`"):
        experiment(git="main", train="shop/model.py:make")

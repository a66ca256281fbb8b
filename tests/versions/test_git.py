"""A version at a git revision is what was committed then, whatever the working tree holds now."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mlstream
from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec
from mlstream.versions import Version, resolve_version
from mlstream.versions.loading import LoadSpec
from mlstream.versions.sources import find_project
from tests.versions.repository import Repo, new_repo

Experiment = Callable[..., ExperimentConfig]
FRAME = pl.DataFrame({"x": [1.0, 2.0, 4.0]})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkouts are, empty at first."""
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "revisions"


@pytest.fixture
def repo(project: Path, cache: Path) -> Repo:
    """The project with two commits, which answer 2x and then 5x; `doubling` is a tag of the first."""
    repo = new_repo(project)
    repo.git("tag", "doubling")
    repo.write("shop/features.py", "def double(x):\n    return x * 5\n")
    repo.write("data/table.csv", "a,b\n3,4\n")
    repo.commit("five times")
    return repo


def version(config: ExperimentConfig) -> Version:
    return resolve_version(config, "v1")


def answer(config: ExperimentConfig) -> list[float]:
    return version(config).load().predict(FRAME)["prediction"].to_list()


def test_a_tag_a_branch_an_id_its_beginning_and_steps_back_name_a_commit(experiment: Experiment, repo: Repo) -> None:
    first = repo.git("rev-parse", "doubling")
    repo.git("branch", "old/doubling", "doubling")
    for revision in ("doubling", "old/doubling", first, first[:10], "main~1", "HEAD^"):
        found = version(experiment(git=revision))
        assert found.git is not None
        assert (found.git.commit, found.git.revision, found.git.changed) == (first, revision, ())
    assert answer(experiment(git="doubling")) == [2.0, 4.0, 8.0]
    assert answer(experiment(git="main")) == answer(experiment()) == [5.0, 10.0, 20.0]


def test_its_digest_is_that_of_the_same_files_in_the_working_tree(experiment: Experiment, repo: Repo) -> None:
    settings: dict[str, Any] = {"parameters": {"by": 2.0}, "files": ["data/table.csv"]}
    then = version(experiment(git="doubling", **settings))
    now = version(experiment(**settings))
    assert version(experiment(git="main", **settings)).digest == now.digest
    assert then.digest != now.digest
    assert then.files != now.files
    repo.git("checkout", "--quiet", "doubling")
    here = version(experiment(**settings))
    assert (here.digest, here.code_digest, here.files) == (then.digest, then.code_digest, then.files)


def test_the_working_tree_may_lose_the_code_and_a_branch_may_move(experiment: Experiment, repo: Repo) -> None:
    repo.git("branch", "side")
    assert answer(experiment(git="side")) == [5.0, 10.0, 20.0]
    repo.git("rm", "-r", "--quiet", "shop")
    repo.commit("all gone")
    assert answer(experiment(git="side")) == [5.0, 10.0, 20.0]
    repo.git("branch", "--force", "side", "doubling")
    assert answer(experiment(git="side")) == [2.0, 4.0, 8.0]


def test_a_models_process_works_in_the_revision(experiment: Experiment, repo: Repo, cache: Path) -> None:
    repo.write(
        "shop/reads.py",
        "from pathlib import Path\n\nclass make:\n    def predict(self, frame):\n"
        "        return frame['x'] * 0 + float(Path('data/table.csv').read_text()[4])\n",
    )
    repo.git("checkout", "--quiet", "doubling")  # with the file that was not committed
    repo.git("add", "shop/reads.py")
    repo.git("commit", "--quiet", "--message", "reads")
    repo.git("tag", "reading")
    repo.git("checkout", "--quiet", "main")
    found = version(experiment(model="shop/reads.py:make", files=["data/table.csv"], git="reading"))
    spec = LoadSpec.from_json(json.loads(json.dumps(found.load_spec.to_json())))
    assert spec == found.load_spec
    with Host(HostSpec(load=spec)) as host:
        host.load()
        assert host.predict(FRAME).predictions["prediction"].to_list() == [1.0, 1.0, 1.0]
        assert Path(os.readlink(f"/proc/{host.pid}/cwd")).is_relative_to(cache)
        host.finish()


def test_a_project_in_a_folder_of_its_repository(experiment: Experiment, repo: Repo, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(repo.top, outer / "models", ignore=shutil.ignore_patterns(".git"))
    whole = new_repo(outer)
    config = experiment(git="main").located(outer / "models" / "c.yaml", outer / "models")
    whole.write("models/shop/features.py", "def double(x):\n    return x * 9\n")
    assert answer(config) == [5.0, 10.0, 20.0]
    found = version(config)
    assert found.sources is not None
    assert "shop/features.py" in found.sources.files

    whole.git("mv", "models", "moved")
    whole.commit()
    config = config.located(outer / "moved" / "c.yaml", outer / "moved")
    with pytest.raises(VersionLoadError, match=r"revision main~1 \([0-9a-f]{12}\) has no folder moved, where the proj"):
        version(config.model_copy(update={"versions": experiment(git="main~1").versions}))


def test_an_estimators_file_and_an_environments_are_those_of_the_revision(experiment: Experiment, repo: Repo) -> None:
    repo.write("models/m.skops", "weights of then")
    repo.write("requirements.txt", "polars\n??? no requirement\n")
    then = repo.commit("fitted")
    repo.write("models/m.skops", "weights of now")
    repo.write("requirements.txt", "polars\n")
    found = version(experiment(model="models/m.skops", git=then))
    assert found.weights_digest == hashlib.sha256(b"weights of then").hexdigest()
    assert found.load_spec.root == found.root != repo.top
    with pytest.raises(VersionLoadError, match=rf"(?s)versions\.v1\.environment: .*, at revision {then} \("):
        version(experiment(environment="requirements.txt", git=then))


def test_a_linked_worktree_of_a_bare_repository(experiment: Experiment, repo: Repo, tmp_path: Path) -> None:
    bare, linked = tmp_path / "bare.git", tmp_path / "linked"
    repo.git("clone", "--quiet", "--bare", repo.top, bare)
    repo.git("-C", bare, "worktree", "add", "--quiet", "--detach", linked, "doubling")
    config = experiment(git="HEAD").located(linked / "c.yaml", linked)
    assert answer(config) == [2.0, 4.0, 8.0]
    config = experiment(git="main").located(linked / "c.yaml", linked)
    assert answer(config) == [5.0, 10.0, 20.0]
    here = version(experiment().located(linked / "c.yaml", linked)).git
    assert here is not None
    assert (here.commit, here.changed) == (repo.git("rev-parse", "doubling"), ())


def test_an_object_that_replaces_a_commit_does_not(experiment: Experiment, repo: Repo) -> None:
    repo.git("replace", "doubling", "main")
    assert answer(experiment(git="doubling")) == [2.0, 4.0, 8.0]


def test_repository_and_working_tree_stay_as_they_are_and_no_hook_runs(experiment: Experiment, repo: Repo) -> None:
    for hook in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction"):
        path = repo.write(f".git/hooks/{hook}", "#!/bin/sh\ntouch ran-a-hook\n")
        path.chmod(0o755)
    repo.git("config", "core.fsmonitor", repo.write(".git/watch", "#!/bin/sh\ntouch ran-a-hook\n"))
    repo.git("config", "core.splitIndex", "true")
    repo.write("shop/unrelated.py", "CHANGED = True\n")
    before = repo.state()
    assert answer(experiment(git="doubling")) == [2.0, 4.0, 8.0]
    assert version(experiment()).git is not None
    assert repo.state() == before


def test_variables_of_a_surrounding_git_command_lead_nowhere(
    experiment: Experiment, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_repo(tmp_path / "other")
    for name, value in {
        "GIT_DIR": other.top / ".git",
        "GIT_WORK_TREE": other.top,
        "GIT_INDEX_FILE": other.top / "index",
        "GIT_OBJECT_DIRECTORY": other.top / ".git/objects",
        "GIT_PREFIX": "else/",
        "GIT_CONFIG_COUNT": "nothing",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert answer(experiment(git="doubling")) == [2.0, 4.0, 8.0]
    here = version(experiment()).git
    assert here is not None
    assert (here.commit, here.changed) == (repo.git("rev-parse", "main"), ())


def test_files_are_written_as_in_a_working_tree_not_as_in_an_archive(experiment: Experiment, repo: Repo) -> None:
    repo.write(".gitattributes", "data/*.csv text eol=crlf\nshop/rules.py export-subst\nshop/late.py export-ignore\n")
    repo.write("data/lines.csv", "a\r\nb\r\n")
    repo.write("shop/rules.py", "FACTOR = 1.0\nBUILT = '$Format:%H$'\n")
    repo.commit()
    files = ["data/lines.csv"]
    found = version(experiment(git="main", files=files))
    assert (found.root / "data/lines.csv").read_bytes() == b"a\r\nb\r\n"
    assert found.digest == version(experiment(files=files)).digest
    assert answer(experiment(git="main")) == [5.0, 10.0, 20.0]


def test_a_link_that_leads_out_is_not_followed_one_inside_is(
    experiment: Experiment, repo: Repo, tmp_path: Path
) -> None:
    (tmp_path / "secret.py").write_text("class make:\n    def predict(self, frame):\n        return frame['x'] * 66\n")
    (repo.top / "shop" / "stolen.py").symlink_to("../../secret.py")
    (repo.top / "shop" / "back.py").symlink_to(repo.top / "shop" / "model.py")
    (repo.top / "shop" / "again.py").symlink_to("stolen.py")
    (repo.top / "data" / "twin.csv").symlink_to("table.csv")
    (repo.top / "data" / "all").symlink_to("/etc")
    repo.commit("links")
    for model in ("shop/stolen.py:make", "shop/again.py:make", "shop/back.py:make"):
        with pytest.raises(
            VersionLoadError, match=r"there is no file shop/.*a symbolic link that leads out of the rep"
        ):
            version(experiment(model=model, git="main"))
    with pytest.raises(VersionLoadError, match=r"there is no file data/all/passwd, .* leads out of the repository"):
        version(experiment(files=["data/all/passwd"], git="main"))
    with pytest.raises(VersionLoadError, match=r"files: \.\./secret\.py is outside the project, and so not of the rev"):
        version(experiment(files=["../secret.py"], git="main"))
    found = version(experiment(files=["data/twin.csv"], git="main"))
    assert list(found.files) == ["data/table.csv"]


def test_code_that_only_the_working_tree_has_is_not_mixed_in(
    experiment: Experiment, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.write("shop/model.py", (repo.top / "shop/model.py").read_text() + "\nimport newer\n")
    old = repo.commit("forgot a file")
    repo.write("newer.py", "")
    repo.commit("there it is")
    monkeypatch.syspath_prepend(repo.top)  # as an editable install does
    with pytest.raises(VersionLoadError, match=r"newer\.py was loaded from the working tree; its revision has no such"):
        answer(experiment(git=old))
    assert answer(experiment(git="main")) == [5.0, 10.0, 20.0]


def test_a_checkout_is_made_once_by_many_and_made_again_when_it_was_deleted(
    experiment: Experiment, repo: Repo, cache: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: version(experiment(git="doubling")).root, range(4)))
    (root,) = set(found)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [root.parent.name]
    made = (root / "shop/model.py").stat().st_mtime_ns
    assert version(experiment(git="doubling")).root == root
    assert (root / "shop/model.py").stat().st_mtime_ns == made
    shutil.rmtree(root.parent)
    assert answer(experiment(git="doubling")) == [2.0, 4.0, 8.0]


def test_a_checkout_that_was_changed_is_refused(experiment: Experiment, repo: Repo) -> None:
    root = version(experiment(git="doubling")).root
    (root / "model-says.log").write_text("a file that a model writes is no matter")
    assert version(experiment(git="doubling")).root == root
    rules = root / "shop/rules.py"
    assert rules.stat().st_mode & 0o222 == 0
    was = rules.read_text()
    rules.chmod(0o644)
    rules.write_text("FACTOR = 3.0\n")
    with pytest.raises(VersionLoadError, match=r"the checkout at .* was changed: shop/rules\.py; remove that folder"):
        version(experiment(git="doubling"))
    rules.write_text(was)
    assert version(experiment(git="doubling")).root == root
    (root / "shop/hidden2.py").write_text("")
    with pytest.raises(VersionLoadError, match=r"was changed: shop/hidden2\.py"):
        version(experiment(git="doubling"))
    (root / "shop/hidden2.py").unlink()
    (root / "data/slipped-in.csv").write_text("")
    with pytest.raises(VersionLoadError, match=r"slipped-in\.csv is not in revision doubling .*was put into its check"):
        version(experiment(git="doubling", files=["data/slipped-in.csv"]))


def test_a_process_that_is_killed_while_it_checks_out_leaves_nothing(
    experiment: Experiment, repo: Repo, cache: Path, tmp_path: Path
) -> None:
    repo.write(".gitattributes", "data/*.csv filter=slow\n")
    repo.commit("a filter that takes its time")
    flag = tmp_path / "wait"
    flag.touch()
    repo.git("config", "filter.slow.smudge", f"while [ -e '{flag}' ]; do sleep 0.02; done; cat")
    call = f"from pathlib import Path\nfrom mlstream.versions.checkouts import check_out\n" \
           f"check_out(Path({str(repo.top)!r}), 'main', where='here')"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", call], start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not list(cache.glob(".*-*/tree/.gitattributes")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert not [path for path in cache.glob("[0-9a-f]*") if path.is_dir()]
    flag.unlink()
    assert answer(experiment(git="main")) == [5.0, 10.0, 20.0]
    assert not list(cache.glob(".*-*"))


def test_of_mlstreams_own_repository_the_package_that_runs_is_no_part_of_a_version(tmp_path: Path) -> None:
    own = Path(mlstream.__file__).parent.parent
    project = find_project(tmp_path, worktree=own)
    assert not project.owns(tmp_path / "mlstream" / "errors.py")
    assert project.owns(tmp_path / "pipelines" / "rule.py")
    assert project.strays(own / "pipelines" / "rule.py")
    assert not project.strays(own / "mlstream" / "errors.py")

"""`mlstream version ls`, `show`, `check`: what they print, where, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstream import Connection
from mlstream.home import Home
from tests.cli.test_run_cli import narrow
from tests.conftest import Called
from tests.runs.conftest import ROWS, Shop, frame, write_project
from tests.versions.repository import Repo, new_repo

Cli = Callable[..., Called]
MODELS = '''\
"""Models whose answers depend on more than their row."""

import polars as pl


class Centred:
    """Holds each value against the mean of its batch."""

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        return frame["x"] - frame["x"].mean()


class Counts:
    """Keeps state, and says so."""

    def __init__(self) -> None:
        self.seen = 0

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        first, self.seen = self.seen, self.seen + frame.height
        return pl.Series(range(first, self.seen), dtype=pl.Float64)

    def state(self) -> bytes:
        return str(self.seen).encode()

    def load_state(self, state: bytes) -> None:
        self.seen = int(state)


class Hides(Counts):
    """Keeps state, and does not."""

    state = load_state = None


class Picky:
    """Has no answer for some records."""

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        if frame.height > 1 and (frame["n"] % 101 == 0).any():
            raise ValueError("not with these")
        return frame["x"].set(frame["n"] % 101 == 0, float("nan"))
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a repository, in which the commands run."""
    root = write_project(tmp_path / "project")
    (root / "shop" / "odd.py").write_text(MODELS)
    (root / ".gitignore").write_text("__pycache__/\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    return root


def write_config(root: Path, versions: dict[str, dict[str, Any]], *, name: str = "shop", **settings: Any) -> None:
    values = {"experiment": name, "input": {"topic": "orders"}, **settings, "versions": versions}
    (root / "configs" / f"{name}.yaml").write_text(json.dumps(values))


def test_ls_lists_what_the_experiments_name_and_resolves_nothing(bare_cli: Cli, project: Path) -> None:
    assert "no experiments: write one to configs/NAME.yaml" in bare_cli("version", "ls").stderr
    line = {"model": "shop/models.py:Linear", "description": "a line"}
    write_config(project, {"v1": line, "v2": {"model": "no.skops"}})
    write_config(project, {"old": {"model": "shop/models.py:Linear", "git": "gone~3"}}, name="other")
    (project / "configs" / "freeze.yaml").write_text("snapshot: {topics: [orders]}\n")
    (project / "configs" / "wrong.yaml").write_text("experiment: x\nversion: {}\n")
    listed = bare_cli("version", "ls")
    assert listed.exit_code == 0
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["other", "(configs/other.yaml)"],
        ["old", "shop/models.py:Linear", "baseline,", "at", "gone~3"],
        [],
        ["shop", "(configs/shop.yaml)"],
        ["v1", "shop/models.py:Linear", "baseline,", "a", "line"],
        ["v2", "no.skops"],
    ]
    assert narrow(listed.stdout)
    assert listed.stderr.startswith("not read: ")
    assert "wrong.yaml" in listed.stderr
    found = bare_cli("version", "ls", "--config", "configs/other.yaml", "--json").json["versions"]
    assert [(row["experiment"], row["version"], row["git"], row["baseline"]) for row in found] == [
        ("other", "old", "gone~3", True)
    ]


def test_show_says_what_a_version_resolves_to_and_what_differs_from_the_commit(bare_cli: Cli, project: Path) -> None:
    repo: Repo = new_repo(project)
    first = repo.git("rev-parse", "HEAD")
    repo.write("shop/weights.py", "FACTOR = 0.5\n")
    write_config(
        project,
        {
            "now": {"model": "shop/models.py:Linear", "parameters": {"by": 2.0}, "features": ["x"], "memory": "1GB"},
        },
        dirty="refuse",
    )
    shown = bare_cli("version", "show", "now")
    assert shown.exit_code == 0, shown.stderr
    assert narrow(shown.stdout)
    lines = shown.stdout.splitlines()
    said = bare_cli("version", "show", "now", "--json").json
    assert f"digest       {said['digest']}" in lines
    assert f"commit       {first}, and these differ from it:" in lines
    assert f"difference   {said['git']['diff_digest']}" in lines
    assert said["git"]["changed"] == ["shop/weights.py"]
    assert f"             {said['sources']['shop/weights.py'][:12]} shop/weights.py" in lines
    assert f"environment  {said['environment_digest']}" in lines
    assert said["environment"]["packages"]["polars"] in shown.stdout
    assert 'parameters   {"by": 2.0}' in lines
    assert "features     x" in lines
    assert "limits       memory 1GB, 600 s a batch" in lines

    # a file that git ignores is in no commit, and so not as committed
    repo.write(".gitignore", "__pycache__/\n*.csv\n")
    repo.write("table.csv", "1\n")
    clean = repo.commit("all but what is ignored")
    write_config(
        project,
        {"now": {"model": "shop/models.py:Linear"}, "with": {"model": "shop/models.py:Linear", "files": ["table.csv"]}},
    )
    assert f"commit       {clean}, as committed" in bare_cli("version", "show", "now").stdout.splitlines()
    with_file = bare_cli("version", "show", "with").stdout
    assert (
        f"commit       {clean}, as committed\n             but for these, which git ignores:\n             table.csv\n"
        in with_file
    )
    assert narrow(with_file)
    repo.write("shop/weights.py", "FACTOR = 0.25\n")
    with_both = bare_cli("version", "show", "with").stdout
    assert (
        f"commit       {clean}, and these differ from it:\n             shop/weights.py\n"
        "             and these, which git ignores:\n             table.csv\ndifference   "
    ) in with_both


def test_show_of_a_revision_names_its_commit(bare_cli: Cli, project: Path) -> None:
    repo: Repo = new_repo(project)
    first = repo.git("rev-parse", "HEAD")
    write_config(project, {"then": {"model": "shop/models.py:Linear", "git": first[:9], "files": ["pyproject.toml"]}})
    then = bare_cli("version", "show", "then").stdout.splitlines()
    assert f"revision     {first[:9]}" in then
    assert f"commit       {first}" in then
    said = bare_cli("version", "show", "then", "--json").json
    assert said["git"] == {"commit": first, "revision": first[:9], "changed": [], "diff_digest": None, "ignored": []}
    assert said["root"].startswith(str(project.parent / "cache"))


def test_a_version_is_found_by_its_name_when_one_experiment_has_it(bare_cli: Cli, project: Path) -> None:
    versions: dict[str, dict[str, Any]] = {"v1": {"model": "shop/models.py:Linear"}}
    write_config(project, {**versions, "boosting": {"model": "shop/models.py:Linear"}})
    write_config(project, versions, name="other")
    assert bare_cli("version", "show", "boosting", "--json").json["experiment"] == "shop"
    several = bare_cli("version", "show", "v1")
    assert several.exit_code == 2
    assert "2 experiments have a version 'v1': configs/other.yaml, configs/shop.yaml" in several.stderr
    assert bare_cli("version", "show", "v1", "--config", "configs/other.yaml", "--json").json["experiment"] == "other"
    write_config(project, {"typo": {"model": "shop/models.py:Liner"}}, name="typo")
    typo = bare_cli("version", "show", "typo")
    assert (typo.exit_code, typo.stdout) == (1, "")
    assert typo.stderr == ("error: versions.typo.model: shop/models.py has no 'Liner'\n  fix: did you mean 'Linear'?\n")
    near = bare_cli("version", "show", "bosting")
    assert near.exit_code == 1
    assert "did you mean 'boosting'?" in near.stderr
    (project / "configs" / "other.yaml").write_text("experiment: other\n")
    broken = bare_cli("version", "show", "v7")
    assert "not read: " in broken.stderr
    assert "other.yaml" in broken.stderr


@pytest.mark.broker
def test_check_says_whether_answers_depend_on_the_batches(
    cli: Cli, project: Path, home: Home, broker: Connection, topic: str
) -> None:
    from mlstream import publish, snapshot

    publish(topic, frame(), partitions=3, connection=broker)
    shop = Shop(project, home, broker, topic)
    snapshot(shop.snapshot, topics=[topic], connection=broker, home=home)
    names = ("Centred", "Counts", "Hides", "Picky")
    shop.config(
        {
            "linear": {"model": "shop/models.py:Linear"},
            **{name.lower(): {"model": f"shop/odd.py:{name}"} for name in names},
            "refusing": {"model": "shop/odd.py:Picky", "on_error": "errors", "refused_at_most": 0.5},
        },
        task="regression",
    )

    def ask(name: str, *options: str) -> Called:
        return cli("version", "check", name, "--snapshot", shop.snapshot, *options)

    good = ask("linear")
    assert good.exit_code == 0, good.stderr
    assert "equal, bit by bit" in good.stdout
    assert f"{ROWS} records of {topic} of {shop.snapshot}" in good.stdout
    assert narrow(good.stdout.partition("\n")[2])  # the first line has the name of the topic
    assert "batches of 1\n" in good.stderr
    said = ask("linear", "--rows", "400", "--json").json
    parts = sorted(frame()["partition"].value_counts()["count"].to_list())
    shares = [parts[0], (400 - parts[0]) // 2, (400 - parts[0] + 1) // 2]
    assert (said["records"], said["equal"], said["stateful"]) == (400, True, False)
    assert said["again"] | {"seconds": 0} == {
        "batch_rows": 64,
        "batches": sum(-(-rows // 64) for rows in shares),
        "records": 400,
        "differing": 0,
        "largest": 0.0,
        "first": None,
        "seconds": 0,
    }
    assert [asked["batch_rows"] for asked in said["sizes"]] == [1, 7, shares[2]]

    centred = ask("centred", "--json")
    assert centred.exit_code == 1
    assert "version centred: its answers depend on the size of batches (they differ for 1, 7," in centred.stderr
    assert "compute each row from that row alone" in centred.stderr
    assert centred.json["again"]["differing"] == 0
    assert centred.json["sizes"][0]["first"]["now"] == 0.0

    hides = ask("hides")
    assert hides.exit_code == 1
    assert f"version hides answers {ROWS} of {ROWS} records otherwise when it is asked again" in hides.stderr
    assert f"partition 0 offset 0: prediction 0.0, in batches of 64 {float(ROWS)}" in hides.stdout

    counts = ask("counts")
    assert counts.exit_code == 0, counts.stderr
    assert "it keeps state, and was begun anew each time" in counts.stdout

    picky = ask("picky")
    assert picky.exit_code == 1
    assert "predict raised ValueError: not with these" in picky.stderr
    refusing = ask("refusing", "--json")
    assert refusing.exit_code == 0, refusing.stderr
    assert refusing.json["equal"] is True

"""A run of versions from git revisions: each is what was committed, and the record says which commit that was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlstream import open_run, run
from mlstream.cli.main import run as cli
from mlstream.errors import VersionLoadError
from mlstream.runs.removing import remove_run
from mlstream.runs.unused import find_unused, remove_unused
from mlstream.versions.checkouts import revisions_root
from tests.runs.conftest import ROWS, Shop
from tests.versions.repository import new_repo

pytestmark = pytest.mark.broker


def test_a_version_of_three_commits_runs_side_by_side(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    (shop.root / "shop" / "table.json").write_text('{"factor": 1.0}')
    repo = new_repo(shop.root)
    first = repo.git("rev-parse", "HEAD")
    repo.write("shop/table.json", '{"factor": 2.0}')
    repo.git("tag", "--annotate", "--message", "two", "doubled", repo.commit("twice"))
    repo.write("shop/table.json", '{"factor": 3.0}')
    read = {"model": "shop/table.py:Table", "parameters": {"file": "shop/table.json"}, "files": ["shop/table.json"]}
    config = shop.config(
        {"one": {**read, "git": "main~1"}, "two": {**read, "git": "doubled"}, "three": read}, task="regression"
    )
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert done.status == "complete"
    for version, answer in {"one": 1.0, "two": 2.0, "three": 3.0}.items():
        found = done.predictions(version).collect()
        assert found.height == ROWS
        assert found["prediction"].unique().to_list() == [answer]

    again = open_run(done.id, home=shop.home)
    head = repo.git("rev-parse", "HEAD")
    said = {name: outcome.described["git"] for name, outcome in again.versions.items()}
    assert said["one"] == {"commit": first, "revision": "main~1", "changed": [], "diff_digest": None, "ignored": []}
    assert said["two"] == {"commit": head, "revision": "doubled", "changed": [], "diff_digest": None, "ignored": []}
    assert (said["three"]["commit"], said["three"]["changed"]) == (head, ["shop/table.json"])
    assert len({outcome.digest for outcome in again.versions.values()}) == 3

    capsys.readouterr()
    assert cli(["--home", str(shop.home.path), "run", "show", done.id]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"revision    one: main~1, commit {first[:12]}" in shown
    assert f"changed     three: shop/table.json; not as in commit {head[:12]}" in shown

    clean = config.model_copy(update={"dirty": "refuse"})
    with pytest.raises(VersionLoadError, match=r"three: shop/table\.json differ from the commit"):
        run(clean, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)

    # what is the same by its digest is not computed again, wherever it is taken from
    repo.commit("three times")
    config = shop.config({"one": {**read, "git": first}, "three": {**read, "git": "HEAD"}}, task="regression")
    later = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert [outcome.reused for outcome in later.versions.values()] == [done.id, done.id]

    # a checkout stays in the cache as long as a run of it is kept, however long it was not used
    checkouts = [path for path in revisions_root().iterdir() if path.is_dir()]
    for path in checkouts:
        os.utime(path, (0, 0))
    stays = {kept.identity: kept.stays for kept in find_unused(shop.home, unused_days=1)}
    last = repo.git("rev-parse", "HEAD")  # nothing was computed from it: the earlier run had the same version
    assert stays == {first: f"run {later.id[:12]}", head: f"run {done.id[:12]}", last: None}
    for kept in (later, done):
        remove_run(kept, connection=shop.connection)
    removed = remove_unused(shop.home, unused_days=1)
    assert [kept.stays for kept in removed] == [None, None, None]
    assert not any(path.exists() for path in checkouts)

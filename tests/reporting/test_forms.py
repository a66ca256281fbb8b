"""`mlstream compare show`, `ls` and `--sync`: comparisons that were kept, in every form; no broker."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlstream.comparison.result import Comparison
from mlstream.home import Home
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.kept import keep, list_unsent, mark_pending
from tests.reporting.examples import digest, example_comparison, example_run

Call = Callable[..., Any]


@pytest.fixture
def kept(home: Home) -> list[Comparison]:
    """Two comparisons, the second kept later."""
    found = [example_comparison(), example_comparison(id=digest("later"), snapshot_name="flights-q1")]
    for number, comparison in enumerate(found):
        keep(comparison, home)
        os.utime(home.comparisons / f"{comparison.id}.json", (1000 + number, 1000 + number))
    return found


def test_a_kept_comparison_is_shown_as_it_was(bare_cli: Call, kept: list[Comparison]) -> None:
    done = bare_cli("compare", "show", kept[0].id[:8])
    assert done.exit_code == 0, done.stderr
    assert "  v3 is better than v1 on all 6 metrics" in done.stdout.splitlines()
    assert f"comparison {kept[0].id[:12]}" in done.stdout
    assert kept[1].id[:12] in bare_cli("compare", "show").stdout


def test_the_page_is_written_beside_any_form(bare_cli: Call, kept: list[Comparison], tmp_path: Path) -> None:
    for form in ([], ["--json"], ["--markdown"]):
        page = tmp_path / f"page{len(form)}.html"
        done = bare_cli("compare", "show", "--html", page, *form)
        assert done.exit_code == 0, done.stderr
        assert done.stderr == f"wrote {page}\n"
        assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert kept[1].id in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_an_error_with_the_fix(
    bare_cli: Call, kept: list[Comparison], tmp_path: Path
) -> None:
    done = bare_cli("compare", "show", "--html", tmp_path / "nowhere" / "page.html")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the page cannot be written" in done.stderr
    assert "a folder that exists" in done.stderr


def test_markdown_is_all_that_goes_to_stdout(bare_cli: Call, kept: list[Comparison]) -> None:
    done = bare_cli("compare", "show", "--markdown")
    assert done.stdout.startswith("<!-- mlstream flights -->\n\n### v1 · v2 · v3 on flights-q1\n")
    assert done.stderr == ""


def test_two_forms_at_once_are_refused(bare_cli: Call, kept: list[Comparison]) -> None:
    done = bare_cli("compare", "show", "--markdown", "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--json and --markdown both print to stdout" in done.stderr


def test_comparisons_are_listed_the_newest_first(bare_cli: Call, kept: list[Comparison]) -> None:
    done = bare_cli("compare", "ls")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["comparison", "experiment", "snapshot", "run", "verdicts"]
    assert lines[1].startswith(kept[1].id[:12])
    assert lines[1].endswith("v2 ▲3 ≈1 ?2")
    assert lines[2].strip() == "v3 ▲6"
    assert max(map(len, lines)) <= 80
    assert bare_cli("compare", "ls", "-q").stdout.split() == [kept[1].id, kept[0].id]
    listed = bare_cli("compare", "ls", "--json").json["comparisons"]
    assert [found["id"] for found in listed] == [kept[1].id, kept[0].id]
    assert listed[0]["verdicts"]["v3"]["log_loss"] == "better"


def test_an_empty_home_says_how_to_begin(bare_cli: Call) -> None:
    done = bare_cli("compare", "ls")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "make one: mlstream compare" in done.stderr
    assert bare_cli("compare", "show").exit_code == 1


def test_what_mlflow_has_not_heard_of_is_sent_and_forgotten(bare_cli: Call, stocked: Home) -> None:
    comparison = example_comparison()
    keep(comparison, stocked)
    mark_pending(comparison, example_run(), stocked)
    mark_pending(replace(comparison, id=digest("removed since")), example_run(), stocked)
    done = bare_cli("compare", "--sync")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{comparison.id[:12]}  ")
    assert list_unsent(stocked) == []
    again = bare_cli("compare", "sync", "--json")
    assert again.json == {"sent": {}, "unsent": []}


def test_a_dead_server_leaves_everything_to_be_sent(
    bare_cli: Call, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = example_comparison()
    keep(comparison, home)
    mark_pending(comparison, example_run(), home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = bare_cli("compare", "--sync")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "does not answer" in done.stderr
    assert list_unsent(home) == [comparison.id]


def test_what_is_noted_for_sending_survives_as_it_was() -> None:
    facts = example_run()
    assert RunFacts.from_dict(facts.to_dict()) == facts


def test_what_figures_need_to_be_read_with_is_in_every_form(bare_cli: Call, home: Home, tmp_path: Path) -> None:
    found = example_comparison()
    bounds = {("v1", "roc_auc"): 1.21e-6, ("v3", "roc_auc"): 2e-5}
    metrics = tuple(replace(it, error_bound=bounds.get((it.version, it.metric), 0.0)) for it in found.metrics)
    own = {"profit": {"value": "1", "of": "whole"}, "cost": {"value": "1"}}
    blocks = {"count": 92, "length_s": 3600.0, "chosen": "given"}
    ranking = {"group": "search_id", "k": 5}
    settings = {**found.settings, "custom_metrics": own, "whole_blocks": blocks, "ranking": ranking}
    keep(replace(found, metrics=metrics, settings=settings), home)
    page = tmp_path / "page.html"
    for done in (bare_cli("compare", "show", "--html", page), bare_cli("compare", "show", "--markdown")):
        assert done.exit_code == 0, done.stderr
        for told in (
            "Scores are counted, not sorted: ROC AUC is off by at most 1.3e-06 (v1) and 2e-05 (v3)",
            "Of Profit the spread is that of a jackknife over 92 blocks of 1 h",
            "Ranked are the records with the same search_id; k is 5",
        ):
            assert told in " ".join(done.stdout.replace("\\", "").split())
            assert told in " ".join(page.read_text(encoding="utf-8").split())
    keep(found, home)
    assert "counted" not in bare_cli("compare", "show").stdout

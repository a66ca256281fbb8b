"""The comparison as a pull request's comment."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from mlstream.cli.main import run
from mlstream.comparison.result import MetricResult
from mlstream.config.measures import GateConfig
from mlstream.reporting.gates import check_gates
from mlstream.reporting.markdown import MAX_CHARACTERS, write_markdown
from mlstream.reporting.report import write_report
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import example_comparison, example_run


def test_the_verdict_comes_first_and_the_rest_is_folded() -> None:
    text = write_markdown(example_comparison(), example_run())
    order = ["<!-- mlstream flights -->", "### v1 · v2 · v3 on flights-q4", "- v3 is better than v1 on all 6 metrics."]
    order += ["| Log loss ↓ | 0.5188 |", "<summary>How</summary>", "<summary>Recompute</summary>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.count("<details>") == text.count("</details>") == 4
    assert text.index("<details>") > text.index("Average precision ↑")


def test_tables_have_as_many_cells_in_every_row() -> None:
    comparison = detailed_comparison()
    gates = check_gates(comparison, [GateConfig(metric="log_loss", better_by=0)])
    tables = re.findall(r"(?:^\|.*\|$\n?)+", write_markdown(comparison, example_run(), gates=gates), re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_gates_stand_before_the_figures() -> None:
    comparison = example_comparison()
    gates = check_gates(comparison, [GateConfig(metric="average_precision", no_worse_than=0.005)])
    text = write_markdown(comparison, example_run(), gates=gates)
    failed = "| ✗ **failed** | v2 | Average precision at most 0.005 worse than v1 | not shown: −0.0081"
    assert text.index(failed) < text.index("| Log loss ↓")


def test_slices_are_listed_with_those_that_were_found_first() -> None:
    text = write_markdown(detailed_comparison(), example_run())
    assert text.index("carrier = 'HA' and hour &lt; 10 | 214 |") < text.index("origin = 'JFK' | 27,310 |")


def test_text_of_users_stays_text() -> None:
    text = write_markdown(example_comparison(question="<b>|a|</b> *b*"), example_run())
    assert "&lt;b>\\|a\\|&lt;/b> \\*b\\*" in text


def test_a_comment_never_grows_past_what_a_comment_holds() -> None:
    names = tuple(f"metric_{number}" for number in range(3000))
    metrics = tuple(MetricResult("v1", name, 0.5, None, True) for name in names)
    text = write_markdown(example_comparison(versions=("v1",), metrics=metrics, deltas=()), example_run())
    assert len(text) <= MAX_CHARACTERS + 200
    assert "The rest did not fit here: `mlstream compare show " in text


def test_the_example_for_github_finds_its_comment_by_the_mark_and_calls_commands_that_there_are() -> None:
    workflow = yaml.safe_load((Path(__file__).parents[2] / "docs" / "github-actions.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["compare"]["steps"]
    script = "\n".join(step.get("run", "") for step in steps)
    mark = write_markdown(example_comparison(experiment=workflow["env"]["EXPERIMENT"]), example_run()).splitlines()[0]
    assert f'mark="{mark}"' == re.search(r'mark=".*"', script.replace("$EXPERIMENT", "flights"))[0]  # type: ignore[index]
    calls = re.findall(r"^mlstream (.+)$", script, re.MULTILINE)
    assert len(calls) == 3
    for call in calls:
        # An option that there is not is an error, --help or not.
        assert run([*shlex.split(call.split(">")[0]), "--help"]) == 0, call


def test_records_that_did_not_decode_are_told() -> None:
    found = example_comparison(settings={"confidence": 0.95, "left_out": ["v9"], "undecodable": 1_030})
    told = "v9 failed in the run, and is not compared; 1,030 more records did not decode, and no version was asked for "
    assert f"- {told}" in write_markdown(found, example_run())
    assert told in write_report(found, example_run())


def test_versions_that_failed_and_one_that_is_alone_are_told() -> None:
    settings = {"confidence": 0.95, "left_out": ["v2", "v3"]}
    metrics = tuple(metric for metric in example_comparison().metrics if metric.version == "v1")
    found = example_comparison(versions=("v1",), metrics=metrics, deltas=(), agreement={}, settings=settings)
    text = write_markdown(found, example_run())
    assert "- v1 alone: there is nothing to compare it with." in text
    assert "- v2 and v3 failed in the run, and are not compared" in text
    assert "v2 and v3 failed in the run, and are not compared" in write_report(found, example_run())

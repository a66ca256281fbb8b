"""Pages in a real browser: the report at both widths, in light and dark and on paper; MLflow's UI on a comparison.

Needs Chromium: `chromium` on the path, or CHROMIUM=/path. Without one these tests are skipped, but in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlstream.reporting.report import write_fragment, write_report
from tests.reporting.crowded import crowded_comparison, crowded_run
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import example_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.reporting.conftest import Recorded

# No sandbox for root in a container; no calls home.
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
SIZES = {"desktop": (1280, 900), "panel": (800, 900), "phone": (390, 844)}  # MLflow shows it in a panel
# The text that is hardest to read: its contrast by WCAG 2 against the nearest background that is not transparent.
WORST_CONTRAST = """() => {
  const light = part => { const s = part / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4 };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const scale = colour => colour.startsWith('color(') ? [255, 255, 255, 1] : [1, 1, 1, 1];  // a mix is from 0 to 1
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map((part, at) => part * scale(colour)[at]);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 99, text: '' };
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join('').trim();
    if (!text) continue;
    const style = getComputedStyle(element);
    const ink = parts(element instanceof SVGElement ? style.fill : style.color);
    const pair = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text };
  }
  return worst;
}"""

# Texts in tables and cards that are wider than what they stand in.
STICKS_OUT = """() => [...document.querySelectorAll('.metrics :is(td, tbody th), .gates td, .card p')].filter(it => {
  const range = document.createRange();
  range.selectNodeContents(it);
  const inside = range.getBoundingClientRect(), around = it.getBoundingClientRect();
  return inside.width > 0 && (inside.right > around.right + 1 || inside.left < around.left - 1);
}).map(it => it.textContent.trim())"""


def chromium() -> str:
    """The browser's path; without one the test is skipped, or fails in CI."""
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name is not None and (found := shutil.which(name)):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium: `apt-get install chromium`, or set CHROMIUM to its path")
    pytest.skip("no Chromium: `apt-get install chromium`, or set CHROMIUM to its path")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report on the example with everything."""
    gates = [{"metric": "log_loss", "better_by": 0}, {"metric": "brier_score", "better_by": 0, "require": "verdict"}]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(write_report(detailed_comparison(), example_run(config={"gates": gates})), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report on eight versions with long names and large numbers."""
    path = tmp_path_factory.mktemp("crowded") / "report.html"
    path.write_text(write_report(crowded_comparison(), crowded_run()), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_report_fits_and_can_be_read(browser: Browser, report: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    try:
        page.goto(report)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.locator("svg.interval").evaluate_all("found => found.map(it => it.getBoundingClientRect().width)")
        assert min(widths) >= 120
        worst = page.evaluate(WORST_CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        if scheme == "light":
            assert_accessible(page)
        assert said == []
        for heading in ("Metrics", "Slices", "Scores", "Disagreements", "Drift of the input", "Made of"):
            assert page.get_by_role("heading", name=heading, exact=True).is_visible()
        verdict = page.get_by_text("better", exact=False).first
        assert verdict.is_visible()
    finally:
        page.close()


def test_long_names_large_numbers_and_many_versions_leave_room_for_the_drawings(browser: Browser, crowded: str) -> None:
    page = browser.new_page()
    try:
        page.goto(crowded)
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = page.locator("svg.interval")
            widths = found.evaluate_all("found => found.map(it => it.getBoundingClientRect().width)")
            assert min(widths) >= 60
            assert page.evaluate(STICKS_OUT) == []
    finally:
        page.close()


@pytest.mark.parametrize(("background", "ink"), [("#ffffff", "#1f2328"), ("#111111", "#e6edf3")])
def test_a_notebook_shows_the_verdicts_in_its_own_colours(browser: Browser, background: str, ink: str) -> None:
    # What JupyterLab says of tables would lay columns over each other.
    styles = f"body {{ background: {background}; color: {ink}; font: 14px sans-serif }} table {{ table-layout: fixed }}"
    page = browser.new_page(viewport={"width": 860, "height": 900})
    try:
        page.set_content(f"<style>{styles}</style>{write_fragment(detailed_comparison())}")
        assert page.evaluate(STICKS_OUT) == []
        widths = page.locator("svg.interval").evaluate_all("found => found.map(it => it.getBoundingClientRect().width)")
        assert min(widths) >= 140
        worst = page.evaluate(WORST_CONTRAST)
        assert worst["ratio"] >= 4.5, worst
    finally:
        page.close()


def assert_accessible(page: Page) -> None:
    """Nothing that axe-core finds fault with: names, roles, headings, tables, contrast."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_versions_open_with_the_keyboard(browser: Browser, report: str) -> None:
    page = browser.new_page()
    try:
        page.goto(report)
        digest = page.get_by_text("models/flights-v3.skops")
        assert not digest.is_visible()
        page.locator("summary").last.focus()
        page.keyboard.press("Enter")
        assert digest.is_visible()
    finally:
        page.close()


def test_on_paper_the_report_is_light_and_whole(browser: Browser, report: str, tmp_path: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    try:
        page.goto(report)
        page.emulate_media(media="print")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"
        assert page.evaluate(WORST_CONTRAST)["ratio"] >= 4.5
        page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert len(re.findall(rb"/Type */Page\b", (tmp_path / "report.pdf").read_bytes())) >= 2
    finally:
        page.close()


@pytest.fixture(scope="module")
def ui(recorded: Recorded) -> Iterator[str]:
    """The address of the recorded comparison in a running `mlstream ui`."""
    chromium()
    with socket.socket() as free:  # not the default port: a server of somebody else's may begin to answer there
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = [sys.executable, "-m", "mlstream.cli.main", "--home", str(recorded.home.path)]
    command = [*program, "ui", "--no-open", "--port", port]
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=environ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith(f"http://127.0.0.1:{port}/")
            yield address
        finally:
            server.terminate()


def test_mlflow_shows_the_verdicts_the_chart_and_the_report(browser: Browser, ui: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    try:
        page.goto(ui)
        page.get_by_text("Description", exact=True).wait_for()
        page.get_by_text("v3 is better than v1 on all 6 metrics.").wait_for()
        close_panel(page)
        page.get_by_text("Show more", exact=True).click()
        page.wait_for_function(
            "[...document.querySelectorAll(\"img[src*='chart.svg']\")].some(it => it.complete && it.naturalWidth > 0)"
        )
        page.get_by_role("cell", name="Log loss ↓").wait_for()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("report.html", exact=True).click()
        inside = page.frame_locator("iframe").get_by_role("heading", name="Will this flight arrive more than 15")
        inside.wait_for()
        assert page.frame_locator("iframe").get_by_text("▲ better").first.is_visible()
    finally:
        page.close()


def close_panel(page: Page) -> None:
    """MLflow opens a side panel at the first visit, which may cover what is below."""
    panel = page.get_by_role("button", name="Close")
    page.wait_for_timeout(1000)
    if panel.count():
        panel.last.click()

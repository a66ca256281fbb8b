"""Take the pictures of the README and the docs, of MLflow's pages and of the report, from the comparisons of a home.

    python docs/screenshots.py [HOME]

Starts `mlstream ui` on the home (`.mlstream` when left out), opens the newest comparison in headless Chromium, writes
its page of HTML, and saves pictures in docs/images/. Needs Chromium (Debian: apt-get install chromium; another one:
CHROMIUM=/path) and the package playwright, which brings no browser of its own here.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 800
REPORT_WIDTH, REPORT_METRICS = 1120, 3  # as wide as the page gets, and so many metrics of it
MAX_BYTES = 300_000
# No sandbox for root in a container; no calls home.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def main() -> None:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ".mlstream").resolve()
    program = [sys.executable, "-m", "mlstream.cli.main", "--home", str(home)]
    command = [*program, "ui", "--no-open"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        subprocess.run([*program, "compare", "show", "--html", str(report)], check=True, stdout=subprocess.DEVNULL)
        take_report(report.as_uri())
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                sys.exit(f"mlstream ui does not start on {home}")
            take(url)
        finally:
            server.terminate()


def take_report(url: str) -> None:
    """The page of HTML, from its head to its first metrics."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": REPORT_WIDTH, "height": HEIGHT}, device_scale_factor=2)
        page.goto(url)
        last = page.locator("table.metrics tbody").nth(REPORT_METRICS - 1)
        height = last.evaluate("group => group.getBoundingClientRect().bottom")
        page.set_viewport_size({"width": REPORT_WIDTH, "height": int(height) + 8})
        save(page, "report.png")
        browser.close()


def take(url: str) -> None:
    """Open the comparison's page and its chart; save a picture of each."""
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            args=list(FLAGS),
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=2,
        )
        page = browser.pages[0]
        page.set_default_timeout(120_000)
        page.goto(url)
        page.get_by_text("Description", exact=True).wait_for()
        close_panel(page)
        page.get_by_text("Show more", exact=True).click()
        chart_drawn(page, "img[src*='chart.svg']")
        save(page, "mlflow-comparison.png")
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("chart.svg", exact=True).click()
        chart_drawn(page, "img[src*='chart.svg'], img[src^='blob:']")
        save(page, "mlflow-chart.png")
        browser.close()


def close_panel(page: Page) -> None:
    """MLflow opens a side panel at the first visit, and keeps a button for it that covers what is below."""
    page.wait_for_timeout(2000)
    panel = page.get_by_role("button", name="Close")
    if panel.count():
        panel.last.click()
    # The address of a local artifact is a path of this machine.
    page.add_style_tag(content="[data-assistant-ui], [title^='file:///'] { visibility: hidden }")


def chart_drawn(page: Page, image: str) -> None:
    """Wait until the picture is there, and has been laid out."""
    page.wait_for_function(
        "image => [...document.querySelectorAll(image)].some(it => it.complete && it.naturalWidth > 0)", arg=image
    )
    page.wait_for_timeout(1000)


def save(page: Page, name: str) -> None:
    """The page as a PNG of 256 colours, at half the resolution where it would be too large."""
    IMAGES.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        for parts in (1, 2):
            size = picture.width // parts, picture.height // parts
            sized = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            data = io.BytesIO()
            sized.quantize(256, method=Image.Quantize.MEDIANCUT).save(data, "PNG", optimize=True)
            if data.tell() <= MAX_BYTES:
                break
        else:
            sys.exit(f"{name}: {data.tell():,} bytes are more than {MAX_BYTES:,}")
    (IMAGES / name).write_bytes(data.getvalue())
    print(f"{IMAGES / name}: {sized.width} × {sized.height}, {data.tell():,} bytes")


def chromium() -> str:
    """The browser: CHROMIUM, else the first that is on the path."""
    for name in (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        if name is not None and (found := shutil.which(name)):
            return found
    sys.exit("no Chromium: install one, or set CHROMIUM to its path")


if __name__ == "__main__":
    main()

"""Take the pictures of the MLflow pages that the README and the docs show, from the comparisons of a home.

    python docs/screenshots.py [HOME]

Starts `mlstream ui` on the home (`.mlstream` when left out), opens the newest comparison in headless Chromium, and
writes docs/images/. Needs Chromium (Debian: apt-get install chromium; another one: CHROMIUM=/path) and the package
playwright, which brings no browser of its own here.
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
    command = [sys.executable, "-m", "mlstream.cli.main", "--home", str(home), "ui", "--no-open"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                sys.exit(f"mlstream ui does not start on {home}")
            take(url)
        finally:
            server.terminate()


def take(url: str) -> None:
    """Open the comparison's page, its chart and its report; save a picture of each."""
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
        page.get_by_text("report.html", exact=True).click()
        page.frame_locator("iframe").get_by_role("heading", name="Metrics").wait_for()
        page.wait_for_timeout(1000)
        save(page, "mlflow-report.png")
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
        for scale in (2, 1):
            sized = picture.convert("RGB").resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.LANCZOS)
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

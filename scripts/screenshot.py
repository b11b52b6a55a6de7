"""Draw docs/page.jpg: the page of `lookalike serve` after a search, in Debian's Chromium.

    python scripts/screenshot.py

The images are photographs in the public domain or CC0 that come with scikit-image.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from lookalike import Gallery, demo
from lookalike.images import read_rgb

OUT = Path(__file__).resolve().parent.parent / "docs/page.jpg"
CHROMIUM = "/usr/bin/chromium"
SUBJECTS = ("chelsea", "coffee", "astronaut", "rocket", "hubble", "retina", "grass", "brick")
ADDRESS = re.compile(r"http://\S+?(?=/? )")
RUN = "from lookalike.cli import main; main()"


def write_photographs(folder: Path) -> Path:
    """Each subject with the demo's alterations; a query that is not among them."""
    for subject in SUBJECTS:
        photograph = demo._locate(*demo.PHOTOGRAPHS[subject])
        assert photograph is not None, "pip install 'lookalike[demo]'"
        demo._write(photograph, folder / subject, demo.IN_GALLERY)
        if subject == "chelsea":
            query = folder.parent / "query.jpg"
            demo.rotate(20)(read_rgb(photograph, longest_side=400)).save(query, quality=90)
    return query


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "photographs"
        query = write_photographs(folder)
        Gallery.open(folder).update()
        command = [sys.executable, "-c", RUN, "serve", os.fspath(folder), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            try:
                shoot(next(filter(None, map(ADDRESS.search, server.stderr)))[0], query)
            finally:
                server.terminate()


def shoot(address: str, query: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.goto(address)
        page.set_input_files("#choose", query)
        page.get_by_role("list", name="Hits").get_by_role("link").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=OUT, type="jpeg", quality=85)
        browser.close()


if __name__ == "__main__":
    main()

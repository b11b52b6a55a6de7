"""How soon does the page show images?

    python benchmarks/first_paint.py GALLERY [--rounds 5] [--chromium FILE] [--json OUT]

Opens the page of all images in Chromium (`pip install playwright`), whose cache is empty each
time, and reports milliseconds from the beginning of the navigation until the first content (`first
paint`), the first thumbnail, and all thumbnails in view were drawn; medians and the slowest of
ROUNDS. `cold`: the server has just been started and there is no thumbnail: the folder `thumbnails`
of the gallery is removed. `warm`: the second visit, some seconds later. Server and browser share
the machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from serve import serving

from lookalike.gallery import Gallery

VIEWPORTS = {"desktop": (1280, 800), "phone": (360, 780)}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SETTLING = 4.0
"""Seconds in which the server loads what the first search will need."""
NOTE = """
window.drawn = [];
document.addEventListener("load", async ({target}) => {
  if (!(target instanceof HTMLImageElement) || !target.closest(".tiles")) return;
  await target.decode();
  requestAnimationFrame(() => setTimeout(() => window.drawn.push([target, performance.now()])));
}, true);
"""
"""An image counts as drawn in the task that follows the frame that it is in."""
SEEN = """() => {
  const seen = [...document.querySelectorAll(".tiles img")].filter((image) => {
    const {top, bottom} = image.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
  const times = new Map(window.drawn);
  if (!seen.length || !seen.every((image) => times.has(image))) return null;
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const drawn = seen.map((image) => times.get(image)).sort((a, b) => a - b);
  return [paint.startTime, drawn[0], drawn.at(-1), seen.length];
}"""


def visit(browser: Browser, address: str, viewport: tuple[int, int]) -> list[float]:
    """Milliseconds until first paint, first thumbnail, all in view; how many these are."""
    width, height = viewport
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        page = context.new_page()
        page.add_init_script(NOTE)
        page.goto(address)
        milliseconds: list[float] = page.wait_for_function(SEEN).json_value()
        return milliseconds
    finally:
        context.close()


def rounds(gallery: Path, count: int, chromium: str) -> Iterator[tuple[str, list[float]]]:
    thumbnails = Gallery.open(gallery).directory / "thumbnails"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        browser.new_page().goto("about:blank")  # its own start is not the page's
        for _ in range(count):
            for name, viewport in VIEWPORTS.items():
                shutil.rmtree(thumbnails, ignore_errors=True)
                with serving(gallery) as (host, port):
                    address = f"http://{host}:{port}/"
                    yield f"{name}, cold", visit(browser, address, viewport)
                    time.sleep(SETTLING)
                    yield f"{name}, warm", visit(browser, address, viewport)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[str, list[list[float]]] = {}
    for name, milliseconds in rounds(options.gallery, options.rounds, options.chromium):
        times.setdefault(name, []).append(milliseconds)
    result: dict[str, Any] = {"images": len(Gallery.open(options.gallery))}
    for name, found in times.items():
        middle, slowest = np.median(found, axis=0), np.max(found, axis=0)
        parts = ("first paint", "first thumbnail", "all in view")
        result[name] = {
            part: {"median": round(float(middle[i])), "slowest": round(float(slowest[i]))}
            for i, part in enumerate(parts)
        } | {"thumbnails in view": int(middle[3])}
    for name, value in result.items():
        print(f"{name:14} {json.dumps(value)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

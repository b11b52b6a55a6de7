"""Images in terminals that can show them, by the protocols of kitty and iTerm, or as sixels."""

from __future__ import annotations

import base64
import io
import os
import select
import sys
import time
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from PIL import Image

SIDE = 240
"""Pixels."""
CHUNK = 4096
"""Of base64, as kitty takes it."""
TERMINALS = {
    "kitty": ("kitty", "ghostty", "konsole"),
    "iterm": ("iterm", "wezterm", "mintty", "vscode"),
    "sixel": ("foot", "mlterm", "contour"),
}
"""Protocol -> parts of the names of terminals that have it."""
PATIENCE = 0.3
"""Seconds in which a terminal says what it is."""
SIXELS = "4"
"""Among the attributes in its answer."""
COLOURS = 256
BAND = 6
"""Rows of pixels in one row of sixels."""


@cache
def _protocol() -> str | None:
    """Known by what such terminals put into the environment, else the terminal is asked."""
    names = " ".join(os.environ.get(name, "") for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL"))
    if "KITTY_WINDOW_ID" in os.environ:
        return "kitty"
    for protocol, known in TERMINALS.items():
        if any(name in names.lower() for name in known):
            return protocol
    return "sixel" if SIXELS in _attributes() else None


def _attributes() -> list[str]:
    """What the terminal of standard input and output answers to DA1, the question which terminal
    it is; nothing if there is none."""
    try:
        import termios
        import tty

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (ImportError, OSError, ValueError, termios.error):
        return []
    answer = b""
    try:
        tty.setcbreak(terminal)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        end = time.monotonic() + PATIENCE
        while not answer.endswith(b"c") and (left := end - time.monotonic()) > 0:
            if select.select([terminal], [], [], left)[0]:
                answer += os.read(terminal, 1)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    return answer.decode("ascii", "replace").rpartition("?")[2].rstrip("c").split(";")


def shows_images() -> bool:
    """Whether standard output is a terminal with one of the protocols."""
    return sys.stdout.isatty() and _protocol() is not None


def print_image(file: Path) -> None:
    """A small version of it on a line of its own; nothing if it cannot be read."""
    from lookalike.sheet import thumbnail

    image = thumbnail(file, SIDE)
    if image is None:
        return
    if _protocol() == "sixel":
        click.echo(sixels(image))
        return
    out = io.BytesIO()
    image.save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    if _protocol() == "iterm":
        size = len(out.getvalue())
        click.echo(f"\x1b]1337;File=inline=1;size={size};width={image.width}px:{data}\x07")
        return
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    for number, chunk in enumerate(chunks, 1):
        first = "a=T,f=100," if number == 1 else ""
        click.echo(f"\x1b_G{first}m={int(number < len(chunks))};{chunk}\x1b\\", nl=False)
    click.echo()


def sixels(image: Image.Image) -> str:
    """An image as a terminal of the VT340's kind takes it, in 256 colours of its own."""
    import numpy as np

    reduced = image.convert("RGB").quantize(COLOURS)
    colours = np.array(reduced.getpalette("RGB"), np.float64).reshape(-1, 3)
    parts = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    for number, percent in enumerate(np.rint(colours / 2.55).astype(int).tolist()):
        parts.append("#{};2;{};{};{}".format(number, *percent))
    pixels = np.asarray(reduced)
    for top in range(0, len(pixels), BAND):
        band = pixels[top : top + BAND]
        weights = 1 << np.arange(len(band))
        rows = [
            f"#{colour}" + _run_lengths((weights @ (band == colour)).tolist())
            for colour in np.unique(band)
        ]
        parts += ["-" if top else "", "$".join(rows)]
    return "".join(parts) + "\x1b\\"


def _run_lengths(values: list[int]) -> str:
    """Characters for six pixels below each other; of more than three equal ones their number."""
    runs = ((chr(63 + value), len(list(equal))) for value, equal in groupby(values))
    return "".join(f"!{count}{char}" if count > 3 else char * count for char, count in runs)

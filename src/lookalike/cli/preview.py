"""Images in terminals that can show them."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import click

SIDE = 240
"""Pixels."""
CHUNK = 4096
"""Of base64, as kitty takes it."""
KITTY = ("kitty", "ghostty", "konsole")
ITERM = ("iterm", "wezterm", "mintty", "vscode")


def _protocol() -> str | None:
    """Known by what such terminals put into the environment; nothing is asked of the terminal."""
    names = " ".join(os.environ.get(name, "") for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL"))
    if "KITTY_WINDOW_ID" in os.environ or any(name in names.lower() for name in KITTY):
        return "kitty"
    return "iterm" if any(name in names.lower() for name in ITERM) else None


def shows_images() -> bool:
    """Whether standard output is a terminal with kitty's or iTerm's protocol."""
    return sys.stdout.isatty() and _protocol() is not None


def print_image(file: Path) -> None:
    """A small version of it on a line of its own; nothing if it cannot be read."""
    from lookalike.sheet import thumbnail

    image = thumbnail(file, SIDE)
    if image is None:
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

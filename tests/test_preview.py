"""Images in terminals, by the protocols of kitty and iTerm, and as sixels."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_photo
from PIL import Image

from lookalike.cli import preview

NAMES = ("KITTY_WINDOW_ID", "TERM", "TERM_PROGRAM", "LC_TERMINAL")


@pytest.fixture(autouse=True)
def unknown_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    preview._protocol.cache_clear()
    yield
    preview._protocol.cache_clear()


def decoded(text: str) -> np.ndarray[Any, Any]:
    """The image, uint8 (height, width, 3), that a terminal draws of sixels: written from the
    manual of the VT340, where no pixel may be set twice or be left out."""
    found = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    drawn = np.full((-(-height // 6) * 6, width, 3), -1.0)
    colours: dict[int, list[float]] = {}
    colour, column, top = 0, 0, 0
    token = re.compile(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])")
    end = 0
    for part in token.finditer(found[3]):
        assert part.start() == end, "nothing else is between them"
        end = part.end()
        number, *percent, count, repeated, single, move = part.groups()
        if number is not None:
            colour = int(number)
            if percent[0] is not None:
                colours[colour] = [2.55 * float(value) for value in percent]
        elif move is not None:
            column = 0
            top += 6 if move == "-" else 0
        else:
            bits = ord(repeated or single) - 63
            after = column + int(count or 1)
            for row in range(6):
                if bits >> row & 1:
                    assert (drawn[top + row, column:after] == -1).all()
                    drawn[top + row, column:after] = colours[colour]
            column = after
    assert end == len(found[3])
    assert (drawn[:height] >= 0).all() and (drawn[height:] == -1).all()
    return drawn[:height]


@pytest.mark.parametrize("protocol", ["kitty", "iterm"])
def test_a_small_image_is_printed_as_the_terminal_takes_it(
    protocol: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not preview.shows_images()
    preview._protocol.cache_clear()
    monkeypatch.setenv("TERM_PROGRAM", {"kitty": "ghostty", "iterm": "iTerm.app"}[protocol])
    preview.print_image(write_photo(tmp_path / "wide.png", 5, width=960, height=480))
    out = capsys.readouterr().out
    if protocol == "kitty":
        chunks = re.findall(r"\x1b_G(?:a=T,f=100,)?m=([01]);([^\x1b]*)\x1b\\", out)
        assert [more for more, _ in chunks] == ["1"] * (len(chunks) - 1) + ["0"]
        assert max(len(data) for _, data in chunks) <= 4096
        data = "".join(data for _, data in chunks)
    else:
        found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);width=240px:(.*)\x07\n", out)
        assert found is not None and int(found[1]) == len(base64.b64decode(found[2]))
        data = found[2]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (240, 120)
    preview.print_image(tmp_path / "gone.png")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("size", [(240, 160), (31, 7), (1, 1), (5, 12)])
def test_sixels_draw_the_image(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    smooth = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    reduced = np.asarray(smooth.quantize(256).convert("RGB"), np.float64)
    # Colours are given in percent.
    assert np.abs(decoded(preview.sixels(smooth)) - reduced).max() <= 2.55 / 2 + 1e-9
    few = Image.fromarray(noise).resize(size, Image.Resampling.NEAREST)
    assert np.abs(decoded(preview.sixels(few)) - np.asarray(few)).max() <= 2.55 / 2 + 1e-9


@pytest.mark.parametrize(
    ("reply", "shown"),
    [(b"\x1b[?62;4;22c", True), (b"\x1b[?62;22;14c", False), (b"\x1b[?64", False), (b"", False)],
)
def test_an_unknown_terminal_is_asked_for_sixels_and_is_as_before(
    reply: bytes, shown: bool
) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, its = pty.openpty()
    try:
        before = termios.tcgetattr(its)
        program = "from lookalike.cli import preview; print(preview.shows_images())"
        environment = {name: value for name, value in os.environ.items() if name not in NAMES}
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=its, stdout=its, env=environment
        )
        said = b""
        while not said.endswith(b"\x1b[c"):
            said += os.read(ours, 1)
        os.write(ours, reply)
        assert process.wait() == 0
        assert os.read(ours, 100).strip().endswith(str(shown).encode())
        assert termios.tcgetattr(its) == before
    finally:
        os.close(ours)
        os.close(its)

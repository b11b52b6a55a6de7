"""Images in terminals, by the protocols of kitty and iTerm."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from fakes import write_photo
from PIL import Image

from lookalike.cli import preview


@pytest.mark.parametrize("protocol", ["kitty", "iterm"])
def test_a_small_image_is_printed_as_the_terminal_takes_it(
    protocol: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("KITTY_WINDOW_ID", "TERM", "TERM_PROGRAM", "LC_TERMINAL"):
        monkeypatch.delenv(name, raising=False)
    assert not preview.shows_images()
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

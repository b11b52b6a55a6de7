"""What a folder becomes in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from reproduction.collection import Collection


def test_a_collection_has_the_name_of_its_folder_however_that_is_given(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corel1k").symlink_to(textures)
    monkeypatch.chdir(textures / "cells")
    assert Collection.read(Path("..")).name == "textures"
    assert Collection.read(tmp_path / "corel1k").name == "corel1k"
    monkeypatch.chdir(textures)
    assert Collection.read(Path(".")).name == "textures"
    assert Collection.read(Path("."), "other").name == "other"

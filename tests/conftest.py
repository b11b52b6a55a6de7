from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import write_model, write_photos

from lookalike.cluster.connect import IMPATIENT
from lookalike.gallery import Gallery
from lookalike.images import DecodedImage, SkippedImageError, Source
from lookalike.images.decoder import Decoder

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for the tests that import onnxruntime themselves
# OpenVINO, where it is installed, takes most of a second to open and rounds otherwise.
os.environ["LOOKALIKE_RUNTIME"] = "onnxruntime"
# Ray reads it once, when it is imported, which may be before anything here joins it.
os.environ.update(IMPATIENT)
logging.getLogger("lookalike.lsh.compiled").disabled = True  # who compiles first is chance
LONGEST = "served page_axe ray reproduce streams documents demo interruption"


# A shell that runs the tests in the background has them and what they start ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow are tests in a browser, of all drawings, and of commands in processes of their own.

    The files with the longest runs come first, so that parallel workers end together.
    """
    for item in items:
        ends = item.path.parent.name == "e2e" and item.path.name != "test_commands.py"
        if ends or {"browser", "drawn"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    place = {f"test_{name}": at for at, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_torch() -> None:
    """Small tensors gain nothing from more, and on a busy machine threads wait for each other."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "pooled.onnx")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "coarse.onnx", "coarse", cells=2)


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows words."""
    from towers import adopt_towers

    return adopt_towers(tmp_path_factory.mktemp("towers"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve images, a/000.png, b/001.png, c/002.png, a/003.png and so on."""
    folder = tmp_path / "photos"
    write_photos(folder, 12)
    return folder


@pytest.fixture
def trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's trash, for as long as the test."""
    from send2trash import plat_other  # which reads the environment when it is imported

    monkeypatch.setattr(plat_other, "XDG_DATA_HOME", os.fsencode(tmp_path / "data"))
    monkeypatch.setattr(plat_other, "HOMETRASH_B", os.fsencode(tmp_path / "data/Trash"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data/Trash/files"


@pytest.fixture
def gallery(photos: Path, model: Path) -> Gallery:
    """The gallery of `photos`, up to date."""
    opened = Gallery.open(photos, model=model)
    opened.update()
    return opened


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that have been decoded, in order, since the test began."""
    names: list[str] = []

    read_one, read_some = Decoder.read_image, Decoder.read_images

    def note_one(self: Decoder, source: Source, size: int) -> DecodedImage:
        assert isinstance(source, bytes | os.PathLike)
        names.append(os.path.basename(os.fsdecode(source)))
        return read_one(self, source, size)

    def note_some(
        self: Decoder, paths: Sequence[bytes], size: int, *, keep_small: bool = False
    ) -> list[DecodedImage | SkippedImageError]:
        names.extend(os.path.basename(os.fsdecode(path)) for path in paths)
        return read_some(self, paths, size, keep_small=keep_small)

    monkeypatch.setattr(Decoder, "read_image", note_one)
    monkeypatch.setattr(Decoder, "read_images", note_some)
    return names

"""Camera raw files and films: what is taken of them, and what is said without the libraries."""

from __future__ import annotations

import io
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hostile import HEIC, encode, photo
from numpy.typing import NDArray
from PIL import Image

from lookalike.gallery import Gallery, Kind
from lookalike.images import Note, SkippedImageError, SkipReason, containers, read_image, read_rgb
from lookalike.images.containers import extensions
from lookalike.images.exif import read_exif

FIELDS = {1: "B", 3: "H", 4: "I", 5: "I", 10: "i"}


Entries = dict[int, tuple[int, list[int] | bytes]]
"""Tag -> type, values."""


def directory(entries: Entries, at: int) -> bytes:
    """A TIFF directory that begins at this place in the file, with its values behind it."""
    head, tail = struct.pack("<H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        data, count = values, len(values)
        if not isinstance(data, bytes):
            data = struct.pack(f"<{count}{FIELDS[kind]}", *data)
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack("<I", at + 6 + 12 * len(entries) + len(tail))
            tail += data + b"\0" * (len(data) % 2)
        head += struct.pack("<HHI", tag, kind, count // 2 if kind in (5, 10) else count) + value
    return head + bytes(4) + tail


def dng(preview: bytes, size: tuple[int, int], orientation: int = 1) -> bytes:
    """A DNG of a preview (JPEG of that width and height) and a sensor of 64 x 48 pixels."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 4096, (48, 64)).astype("<u2").tobytes()
    preview += b"\0" * (len(preview) % 2)
    at = 8 + len(raw)
    sub_at = at + len(preview)
    sensor: Entries = {254: (4, [0]), 256: (4, [64]), 257: (4, [48]), 258: (3, [16])}
    sensor |= {259: (3, [1]), 262: (3, [32803]), 273: (4, [8]), 277: (3, [1]), 278: (4, [48])}
    sensor |= {279: (4, [len(raw)]), 33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2])}
    sensor |= {50717: (4, [4095])}
    sub = directory(sensor, sub_at)
    first: Entries = {254: (4, [1]), 256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [8] * 3)}
    first |= {259: (3, [7]), 262: (3, [6]), 271: (2, b"Test\0"), 272: (2, b"Camera\0")}
    first |= {273: (4, [at]), 274: (3, [orientation]), 277: (3, [3]), 278: (4, [size[1]])}
    first |= {279: (4, [len(preview)]), 330: (4, [sub_at]), 50706: (1, [1, 4, 0, 0])}
    first |= {50708: (2, b"Test Camera\0"), 50728: (5, [1] * 6)}
    first |= {50721: (10, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1])}
    end = sub_at + len(sub)
    return struct.pack("<2sHI", b"II", 42, end) + raw + preview + sub + directory(first, end)


def bare_dng(
    light: NDArray[np.uint16], icon: NDArray[np.uint8] | None = None, orientation: int = 1
) -> bytes:
    """A DNG without a preview, of a sensor of this light, 12 bits, taken on 4 March 2022; with or
    without an icon, as raw RGB."""
    raw, height, width = light.astype("<u2").tobytes(), *light.shape
    sensor: Entries = {254: (4, [0]), 256: (4, [width]), 257: (4, [height]), 258: (3, [16])}
    sensor |= {259: (3, [1]), 262: (3, [32803]), 273: (4, [8]), 277: (3, [1]), 278: (4, [height])}
    sensor |= {279: (4, [len(raw)]), 33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2])}
    sensor |= {50717: (4, [4095])}
    camera: Entries = {271: (2, b"Test\0"), 272: (2, b"Phone\0"), 274: (3, [orientation])}
    camera |= {306: (2, b"2022:03:04 05:06:07\0"), 50706: (1, [1, 4, 0, 0])}
    camera |= {50708: (2, b"Test Phone\0"), 50728: (5, [1] * 6)}
    camera |= {50721: (10, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1])}
    body = raw
    if icon is not None:
        at, sub_at = 8 + len(raw), 8 + len(raw) + icon.nbytes
        body += icon.tobytes() + directory(sensor, sub_at)
        sensor = {254: (4, [1]), 256: (4, [icon.shape[1]]), 257: (4, [icon.shape[0]])}
        sensor |= {258: (3, [8] * 3), 259: (3, [1]), 262: (3, [2]), 273: (4, [at]), 277: (3, [3])}
        sensor |= {278: (4, [icon.shape[0]]), 279: (4, [icon.nbytes]), 330: (4, [sub_at])}
    end = 8 + len(body)
    return struct.pack("<2sHI", b"II", 42, end) + body + directory(sensor | camera, end)


def film(frames: list[NDArray[np.uint8]], container: str = "mp4") -> bytes:
    """Each frame a key frame, nearly without loss."""
    av = pytest.importorskip("av")
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream("mjpeg" if container == "avi" else "mpeg4", rate=Fraction(5))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if container == "avi" else "yuv420p"
        stream.options = {"qscale": "1"}
        stream.gop_size = 1
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()


SMOOTH = np.dstack(np.meshgrid(np.arange(64) * 3, np.arange(48) * 4)).astype(np.uint8)
SMOOTH = np.dstack([SMOOTH, SMOOTH[..., 0]])


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_of_a_raw_file_the_preview_is_read_upright(orientation: int, turns: int) -> None:
    pytest.importorskip("rawpy")
    preview = encode(SMOOTH, "JPEG", quality=95)
    content = io.BytesIO(dng(preview, (64, 48), orientation))
    expected = np.rot90(SMOOTH, turns)
    assert np.abs(np.asarray(read_rgb(content), int) - expected).mean() < 3
    made = read_image(content, 16)
    assert (made.height, made.width) == expected.shape[:2]
    assert (made.format, made.note) == ("RAW", Note.PREVIEW)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, 3), (8, 1)])
@pytest.mark.parametrize("has_icon", [False, True])
def test_a_raw_file_without_a_preview_is_developed(
    orientation: int, turns: int, has_icon: bool
) -> None:
    pytest.importorskip("rawpy")
    light = np.tile(np.arange(128, dtype=np.uint16) ** 2 // 4, (64, 1))  # brighter to the right
    icon = np.zeros((12, 16, 3), np.uint8) if has_icon else None
    content = io.BytesIO(bare_dng(light, icon, orientation))
    seen = np.rot90(np.asarray(read_rgb(content), float).mean(2), -turns)
    assert seen.shape == (32, 64)
    assert (np.diff(seen.mean(0)[2:-2]) > 0).all()
    assert seen.std(0).max() < 2  # of a column
    made = read_image(content, 16)
    assert (made.format, made.note) == ("RAW", Note.PREVIEW)
    assert made.taken == 1_646_370_367  # date -u -d "2022-03-04 05:06:07" +%s
    found = read_exif(content, max_pixels=10**6)
    assert found == {"camera": "Test Phone", "taken": "2022-03-04T05:06:07"}
    with pytest.raises(SkippedImageError, match="128 x 64 = 8,192 pixels, the limit is 8,000"):
        read_image(content, 16, max_pixels=8000)


def test_of_a_raw_file_that_is_not_a_tiff_the_preview_says_what_the_camera_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RAF, CR3, ORF, RW2: LibRaw gives a preview its EXIF where the camera did not."""
    exif = Image.Exif()
    exif[271] = "Test"
    preview = encode(SMOOTH, "JPEG", exif=exif.tobytes())
    monkeypatch.setattr(containers, "_preview", lambda *_: preview)
    found = read_exif(io.BytesIO(b"FUJIFILMCCD-RAW " + bytes(100)), max_pixels=10**6)
    assert found == {"camera": "Test"}


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_of_a_film_the_first_frame_that_shows_something_is_read(container: str) -> None:
    content = io.BytesIO(film([np.zeros_like(SMOOTH), SMOOTH, SMOOTH[:, ::-1]], container))
    assert np.abs(np.asarray(read_rgb(content), int) - SMOOTH).mean() < 6
    made = read_image(content, 16)
    assert (made.format, made.note) == ("VIDEO", Note.FRAMES)
    assert (made.width, made.height) == (64, 48)


@pytest.mark.parametrize(
    ("library", "content"),
    [
        ("rawpy", dng(encode(SMOOTH, "JPEG"), (64, 48))),
        ("av", b"\x1a\x45\xdf\xa3" + bytes(100)),
        ("pi_heif", HEIC),
    ],
)
def test_without_the_library_the_command_that_installs_it_is_named(
    library: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SkippedImageError) as raised:
        read_image(io.BytesIO(content), 16)
    assert raised.value.reason is SkipReason.NEEDS_EXTRA
    assert raised.value.remedy.startswith("pip install ")
    assert library.replace("_", "-") in raised.value.remedy


def test_damaged_containers_are_skipped_with_a_reason() -> None:
    pytest.importorskip("rawpy")
    pytest.importorskip("av")
    raw, moving = dng(encode(SMOOTH, "JPEG"), (64, 48)), film([SMOOTH])
    for whole in (raw, moving):
        for cut in (70, len(whole) // 2):
            with pytest.raises(SkippedImageError):
                read_image(io.BytesIO(whole[:cut]), 16)
    bare = bare_dng(np.zeros((64, 128), np.uint16))
    place = struct.pack("<HHI", 273, 4, 1)
    starved = bare.replace(place + struct.pack("<I", 8), place + struct.pack("<I", len(bare) - 99))
    with pytest.raises(SkippedImageError, match=f"truncated: .* at {len(bare):,} bytes"):
        read_image(io.BytesIO(starved), 16)
    with pytest.raises(SkippedImageError, match="the limit is 1,000"):
        read_image(io.BytesIO(moving), 16, max_pixels=1000)


def test_a_gallery_takes_them_in_and_never_calls_them_copies(tmp_path: Path, model: Path) -> None:
    if len(extensions()) < 17:
        pytest.skip("needs rawpy and av")
    pixels = photo(5, 48, 64)
    jpeg = encode(pixels, "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "a.DNG").write_bytes(dng(jpeg, (64, 48)))
    (tmp_path / "b.mp4").write_bytes(film([pixels]))
    gallery = Gallery.open(tmp_path, model=model)
    report = gallery.update()
    assert (report.images, report.skipped) == (3, 0)
    assert {image.path: image.format for image in gallery} == {
        "a.jpg": "JPEG",
        "a.DNG": "RAW",
        "b.mp4": "VIDEO",
    }
    assert gallery.search("a.DNG", 1, exclude_self=True)[0].path == "a.jpg"
    assert gallery.duplicates(kinds=set(Kind)) == []

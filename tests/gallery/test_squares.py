"""What the updating process does to pixels: the same as if Pillow and NumPy had done it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from fakes import assert_holds, updated, vectors_of
from hostile import encode, photo
from PIL import Image

from lookalike.gallery.squares import enlarge, enlarged, is_as_pillow, levels, scale
from lookalike.images import DecodedImage, Note, SkippedImageError, SkipReason
from lookalike.images.decoder import Decoder
from lookalike.runtimes import Scaling

BILINEAR = Image.Resampling.BILINEAR


@pytest.mark.parametrize("size", [1, 2, 3, 16, 101, 224, 256])
def test_enlarged_pixels_are_pillows_to_the_bit(size: int) -> None:
    rng = np.random.default_rng(size)
    drawn = rng.integers(1, size + 1, (20, 2)).tolist()
    for height, width in ((1, 1), (1, size), (size, 1), (size, size), *drawn):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[: height // 2] = np.where(pixels[: height // 2] > 127, 255, 0)
        expected = Image.fromarray(pixels).resize((size, size), BILINEAR)
        np.testing.assert_array_equal(enlarge(pixels, size), np.asarray(expected))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 101, 224, 256, 384])
def test_levels_for_the_hash_are_pillows_to_the_bit(size: int) -> None:
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    for pixels in (noise, np.where(noise < 128, 0, 255).astype(np.uint8), photo(1, size, size)):
        grey = Image.fromarray(pixels).convert("L")
        expected = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(levels(pixels), expected)


def test_pixels_are_scaled_to_the_bit_wherever_they_lie_in_memory() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 65, 65, 3), np.uint8)
    images = np.stack([*images, images[0, :, ::-1]])
    scaling = Scaling((127.5, 110.3, 90.0), (50.7, 60.0, 31.1))
    expected = scaling.batch(images)
    exact = (images - np.array((127.5, 110.3, 90.0))) / (50.7, 60.0, 31.1)
    np.testing.assert_allclose(expected, exact.transpose(0, 3, 1, 2), atol=1e-5)
    scaling.scale = scale
    np.testing.assert_array_equal(scaling.batch(images), expected)
    np.testing.assert_array_equal(scaling.batch(images[..., ::-1])[0, 1], expected[0, 1])


@pytest.mark.parametrize("method", ["resize", "convert"])
def test_a_pillow_that_gives_other_pixels_is_noticed(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_as_pillow()
    real = getattr(Image.Image, method)

    def other(image: Image.Image, *given: Any) -> Image.Image:
        made: Image.Image = real(image, *given)
        return made.point(lambda level: min(255, level + 1))

    monkeypatch.setattr(Image.Image, method, other)
    assert not is_as_pillow()


def make_files(folder: Path) -> list[Path]:
    """Good files of all kinds, and some whose pixels are close to a limit."""
    files = hostile.make_good_files(folder)
    spike = np.full((20, 30, 3), 100, np.uint8)
    spike[7, 9] = 116  # enlarged, its spread lies on either side of a blank one's
    others: dict[str, bytes] = {
        "blank.png": encode(np.full((20, 30, 3), 7, np.uint8), "PNG"),
        "nearly blank.png": encode(
            np.full((20, 30, 3), 7, np.uint8) + photo(1, 20, 30) // 32, "PNG"
        ),
        "spike.png": encode(spike, "PNG"),
        "one pixel.png": encode(photo(2, 1, 1), "PNG"),
        "row.png": encode(photo(3, 1, 64), "PNG"),
        "square.png": encode(photo(4, 64, 64), "PNG"),
        "high.jpg": encode(photo(5, 65, 10), "JPEG"),
        "key colour of three.png": encode(photo(6), "PNG", transparency=(1, 2, 3)),
    }
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        others[f"turned {turn}.jpg"] = encode(photo(10 + turn, 40, 64), "JPEG", exif=exif.tobytes())
    for name, data in others.items():
        (folder / name).write_bytes(data)
    (folder / "cut.jpg").write_bytes(encode(photo(20), "JPEG")[:-300])
    return [*files, *(folder / name for name in others), folder / "cut.jpg"]


@pytest.mark.parametrize("size", [64, 256, 300])
def test_files_of_every_kind_give_the_same_whether_they_are_enlarged_here_or_there(
    tmp_path: Path, size: int
) -> None:
    paths = make_files(tmp_path)
    with Decoder() as decoder:
        there = decoder.read_images(paths, size)
        kept = decoder.read_images(paths, size, keep_small=True)
    small = 0
    for path, expected, image in zip(paths, there, kept, strict=True):
        if isinstance(expected, SkippedImageError):
            assert isinstance(image, SkippedImageError), path
            assert image.reason is expected.reason is SkipReason.TRUNCATED
            continue
        assert isinstance(image, DecodedImage), path
        small += image.pixels.shape != expected.pixels.shape
        made = enlarged(image, size)
        np.testing.assert_array_equal(made.pixels, expected.pixels, err_msg=path.name)
        assert described(made) == described(expected), path
    # Above 256 pixels a smaller copy says whether an image is blank, so that none is kept.
    assert (small > 10) == (size <= 256)


def described(image: DecodedImage) -> dict[str, Any]:
    return vars(replace(image, pixels=np.empty(0, np.uint8))) | {"pixels": None}


class AtOnce(ThreadPoolExecutor):
    """What is submitted has been done."""

    def submit(self, *work: Any, **options: Any) -> Any:
        done = super().submit(*work, **options)
        done.result()
        return done


def test_a_gallery_is_the_same_whether_its_images_are_enlarged_here_or_there(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(encode(photo(number, 5 + number, 11), "PNG"))
    read, kept = Decoder.read_images, set[bool]()

    def noted(self: Decoder, paths: Any, size: int, *, keep_small: bool) -> Any:
        kept.add(keep_small)
        return read(self, paths, size, keep_small=keep_small)

    monkeypatch.setattr(Decoder, "read_images", noted)
    monkeypatch.setattr("lookalike.gallery.update.ThreadPoolExecutor", AtOnce)
    found = []
    for is_same in (True, False):
        monkeypatch.setattr("lookalike.gallery.squares.is_as_pillow", lambda same=is_same: same)
        kept.clear()
        gallery = updated(folder, model=model, directory=tmp_path / str(is_same))
        assert kept == {is_same}
        assert_holds(gallery, folder)
        with gallery._files.reading() as store:
            found.append((list(store.indexed()), vectors_of(gallery)))
    (rows, vectors), (other_rows, other_vectors) = found
    assert rows == other_rows
    np.testing.assert_equal(vectors, other_vectors)


def test_an_image_is_blank_by_its_pixels_once_enlarged() -> None:
    spread = np.full((10, 10, 3), 50, np.uint8)
    spread[2, 3, 1] = 58
    image = DecodedImage(spread, 10, 10, "PNG", Note.FRAMES)
    assert enlarged(image, 16).note is Note.BLANK
    spread[2, 3, 1] = 255
    assert enlarged(image, 16).note is Note.FRAMES

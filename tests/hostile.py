"""Files that a folder of photographs may hold: unreadable ones, and readable ones of odd kinds."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.images import SkipReason

HAS_HEIF = importlib.util.find_spec("pi_heif") is not None

# 32 x 24 pixels of R = 8x, G = 10y, B = 4(x + y), with and without a quarter turn (orientation 6)
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAWptZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABjgABAAAAAAAAAIIAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABo"
    "dmMxAAAAAA5waXRtAAAAAAABAAAA6mlwcnAAAADLaXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEA"
    "F0ABDAH//wQIAAADAJ44AAADAAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VXTXNwENBgQAAADAZAAAAMA"
    "EIBiAAEACEQBwXMYMBiQAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAACAAAAABAAAAGAAAAAH////gAAAAAv//"
    "/9gAAAACAAAAEHBpeGkAAAAAAwgICAAAABdpcG1hAAAAAAAAAAEAAQSBAgSDAAAAim1kYXQAAAB+KAGvCchsLjY97I7w"
    "rgP+xunwEGQTMUXHPFESjE5jM92bjwchj85Dqb8q8xBLBExwu+uj7wglPc/g6dwSXxVVJbTyIeMve+NmR+2OM4DGrmun"
    "WURtMbHtD/S/dhiQwHgXvHRFzmDY/oDL0LrHMnqAHdGHp3AvoMrR7fbVH++A"
)
HEIC_TURNED = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAbVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB2QABAAAAAAAAAIIAAgAAAAACWwABAAAAAAAAACQAAAA4aWluZgAAAAAA"
    "AgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA9GlwcnAAAADU"
    "aXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAADAAAeugJAYQABACpC"
    "AQEECAAAAwCeOAAAAwAAHpAEECCy3VXTXNwENBgQAAADAZAAAAMAEIBiAAEACEQBwXMYMBiQAAAAFGlzcGUAAAAAAAAA"
    "QAAAAEAAAAAoY2xhcAAAACAAAAABAAAAGAAAAAH////gAAAAAv///9gAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90"
    "AwAAABhpcG1hAAAAAAAAAAEAAQWBAgSDhQAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAAArm1kYXQAAAB+KAGvCchs"
    "LjY97I7wrgP+xunwEGQTMUXHPFESjE5jM92bjwchj85Dqb8q8xBLBExwu+uj7wglPc/g6dwSXxVVJbTyIeMve+NmR+2O"
    "M4DGrmunWURtMbHtD/S/dhiQwHgXvHRFzmDY/oDL0LrHMnqAHdGHp3AvoMrR7fbVH++AAAAABkV4aWYAAE1NACoAAAAI"
    "AAEBEgADAAAAAQAGAAAAAAAA"
)


def photo(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """(height, width, 3) of smooth random colours: compresses like a photograph, no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(smooth)


def encode(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """The bytes of a file of this format."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    with io.BytesIO() as stream:
        image.save(stream, kind, **options)
        return stream.getvalue()


def png(
    size: tuple[int, int],
    depth: int,
    colour: int,
    rows: Sequence[bytes],
    *chunks: tuple[bytes, bytes],
) -> bytes:
    """A PNG made by hand: kinds that Pillow does not write, and headers that lie about `rows`."""
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    result = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        result += struct.pack(">I", len(body)) + kind + body + crc
    return result


def tiff(size: tuple[int, int], bits: int, samples: int, photometric: int, strip: bytes) -> bytes:
    """A little-endian, uncompressed TIFF of one strip, made by hand."""
    width, height = size
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1)]
    entries += [(262, 3, photometric), (273, 4, 0), (277, 3, samples), (278, 4, height)]
    entries += [(279, 4, len(strip))]
    after = 8 + 2 + 12 * len(entries) + 4
    body = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        if tag == 258:
            body += struct.pack("<HHII", tag, kind, samples, after)
        else:
            offset = after + 2 * samples
            body += struct.pack("<HHII", tag, kind, 1, offset if tag == 273 else value)
    depths = struct.pack(f"<{samples}H", *[bits] * samples)
    return b"II*\0" + struct.pack("<I", 8) + body + b"\0" * 4 + depths + strip


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG of few bytes and much work: its last scan repeated."""
    jpeg = encode(Image.new("RGB", (side, side), "grey"), "JPEG", progressive=True)
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[at:-2] * scans + b"\xff\xd9"


def make_hostile_files(folder: Path) -> dict[Path, SkipReason]:
    """Files whose names promise an image and which give none, each with the reason expected.

    Among them a directory, a pipe and links to nothing: `path.is_file()` distinguishes those.
    """
    expected: dict[Path, SkipReason] = {}

    def put(name: str, data: bytes, reason: SkipReason) -> None:
        (folder / name).write_bytes(data)
        expected[folder / name] = reason

    rgb = photo(1)
    whole = {
        "jpeg.jpg": encode(rgb, "JPEG"),
        "progressive.jpg": encode(rgb, "JPEG", progressive=True),
        "png.png": encode(rgb, "PNG"),
        "lossy.webp": encode(rgb, "WEBP"),
        "lossless.webp": encode(rgb, "WEBP", lossless=True),
        "avif.avif": encode(rgb, "AVIF"),
        "gif.gif": encode(rgb, "GIF"),
        "bmp.bmp": encode(rgb, "BMP"),
        "raw.tif": encode(rgb, "TIFF"),
        "lzw.tiff": encode(rgb, "TIFF", compression="tiff_lzw"),
        "jpeg-in.tiff": encode(rgb, "TIFF", compression="jpeg"),
    }
    if HAS_HEIF:
        whole["heic.heic"] = HEIC
    for name, data in whole.items():
        put(f"half of {name}", data[: len(data) // 2], SkipReason.TRUNCATED)
    put("only a marker.jpg", b"\xff\xd8\xff", SkipReason.TRUNCATED)
    put("only a signature.png", b"\x89PNG\r\n\x1a\n", SkipReason.TRUNCATED)
    jpeg = whole["jpeg.jpg"]
    half = len(jpeg) // 2
    put("second half zeros.jpg", jpeg[:half] + bytes(half), SkipReason.TRUNCATED)
    put("empty.jpg", b"", SkipReason.EMPTY)

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("readme.txt", "hello")
    mp4 = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp41")
    for name, data in {
        "text.jpg": b"These are not the pixels you are looking for.\n",
        "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "archive.jpg": archive.getvalue(),
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "document.tif": b"%PDF-1.7\n",
        "sound.webp": b"RIFF" + struct.pack("<I", 40) + b"WAVEfmt " + b"\0" * 32,
        "one byte.gif": b"G",
        "zeros.bmp": bytes(4096),
        "noise.avif": np.random.default_rng(2).bytes(4096),
        "line\nbreak.jpg": b"plain text",
    }.items():
        put(name, data, SkipReason.NOT_AN_IMAGE)
    has_films = importlib.util.find_spec("av") is not None
    film = SkipReason.DAMAGED if has_films else SkipReason.NEEDS_EXTRA
    put("film.heic", mp4 + b"\0" * 64, film)

    frame = bytearray(encode(rgb, "JPEG"))
    start = frame.index(b"\xff\xc0") + 5
    frame[start : start + 4] = struct.pack(">HH", 65000, 65000)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xfe\x3f\0" * 2
    bitmap = bytearray(encode(rgb, "BMP"))
    bitmap[18:26] = struct.pack("<ii", 30000, 30000)
    animation = bytearray(encode(rgb, "GIF"))
    animation[6:10] = struct.pack("<HH", 65535, 65535)
    bomb = zlib.compress(bytes(64 << 20), 9)
    for name, data in {
        "60000 square.png": png((60000, 60000), 8, 2, [b"\0" * 9]),
        "65000 square.jpg": bytes(frame),
        "16383 square.webp": b"RIFF" + struct.pack("<I", 22) + b"WEBP" + vp8x,
        "30000 square.bmp": bytes(bitmap),
        "65535 square.gif": bytes(animation),
        "50000 square.tif": tiff((50000, 50000), 8, 3, 2, b"\0" * 9),
        "text bomb.png": png((1, 1), 8, 0, [b"\0"], (b"zTXt", b"x\0\0" + bomb)),
        "profile bomb.png": png((1, 1), 8, 0, [b"\0"], (b"iCCP", b"x\0\0" + bomb)),
    }.items():
        put(name, data, SkipReason.TOO_LARGE)

    broken = bytearray(encode(rgb, "PNG"))
    middle = broken.index(b"IDAT") + 40
    broken[middle : middle + 40] = b"\xff" * 40
    put("overwritten.png", bytes(broken), SkipReason.DAMAGED)
    if HAS_HEIF:  # this byte made pi_heif 1.4 end the process
        crash = HEIC_TURNED.replace(b"Exif", b"\x8bxif", 1)
        put("item type that is not text.heic", crash, SkipReason.DAMAGED)
    lzw = whole["lzw.tiff"]
    at = lzw.index(struct.pack("<HHI", 259, 3, 1)) + 8  # its compression
    for name, number in {"webp in.tif": 50001, "jpeg xl in.tif": 50002, "7777.tif": 7777}.items():
        put(name, lzw[:at] + struct.pack("<I", number) + lzw[at + 4 :], SkipReason.UNSUPPORTED)
    if HAS_HEIF:
        for codec in (b"avc1", b"j2k1", b"vvc1"):
            put(f"{codec.decode()}.heic", HEIC.replace(b"hvc1", codec, 1), SkipReason.UNSUPPORTED)
        boxes = HEIC[:28] + struct.pack(">I4s", 8, b"free") * 100_000
        put("boxes without end.heic", boxes + HEIC[28:], SkipReason.DAMAGED)
        # each of these names, if taken for what it says it is, goes on to the end
        names = (struct.pack(">I", 0x7F7F7F7F) + b"infe\2aaa") * 300_000
        meta = struct.pack(">I4sI", 12 + len(names), b"meta", 0) + names
        put("names within names.heic", HEIC[:28] + meta + HEIC[-138:], SkipReason.DAMAGED)
    put("lab.tif", encode(Image.new("LAB", (8, 8)), "TIFF"), SkipReason.UNSUPPORTED)
    put("5 bits.tif", tiff((8, 8), 5, 1, 1, bytes(64)), SkipReason.UNSUPPORTED)

    (folder / "directory.jpg").mkdir()
    expected[folder / "directory.jpg"] = SkipReason.UNREADABLE
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        expected[folder / "pipe.jpg"] = SkipReason.UNREADABLE
    for name, target, reason in (
        ("dangling.jpg", "nowhere.jpg", SkipReason.VANISHED),
        ("circle.jpg", "circle.jpg", SkipReason.UNREADABLE),
    ):
        try:
            (folder / name).symlink_to(target)
        except OSError:  # Windows without the privilege
            continue
        expected[folder / name] = reason
    return expected


def make_good_files(folder: Path) -> list[Path]:
    """One readable file, all different images, of each format, odd mode and odd name."""
    made: list[Path] = []

    def put(name: str | bytes, encoder: Callable[[NDArray[np.uint8]], bytes]) -> None:
        path = folder / os.fsdecode(name)
        try:
            path.write_bytes(encoder(photo(100 + len(made))))
        except OSError:  # a name that this file system cannot hold
            return
        made.append(path)

    def of(kind: str, mode: str = "RGB", **options: Any) -> Callable[[NDArray[np.uint8]], bytes]:
        return lambda rgb: encode(Image.fromarray(rgb).convert(mode), kind, **options)

    def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return rgb[..., 0]

    def frames(kind: str) -> Callable[[NDArray[np.uint8]], bytes]:
        return lambda rgb: encode(
            rgb, kind, save_all=True, append_images=[Image.fromarray(255 - rgb)]
        )

    def seen_through(rgb: NDArray[np.uint8]) -> Image.Image:
        alpha = np.broadcast_to(np.arange(rgb.shape[1], dtype=np.uint8) * 4, rgb.shape[:2])
        return Image.fromarray(np.dstack([rgb, alpha]))

    turned = Image.Exif()
    turned[0x0112] = 6
    put("rgb.jpg", of("JPEG"))
    put("grey.jpg", of("JPEG", "L"))
    put("cmyk.jpg", of("JPEG", "CMYK"))
    put("progressive.jpeg", of("JPEG", progressive=True))
    put("turned.jpg", of("JPEG", exif=turned.tobytes()))
    put("stereo.mpo", frames("MPO"))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        put(f"{mode}.png", of("PNG", mode))
    put("key colour.png", of("PNG", "L", transparency=128))
    put("palette with holes.png", of("PNG", "P", transparency=bytes(range(0, 256, 2))))
    put("16 bits.png", lambda rgb: encode(grey(rgb).astype(np.uint16) * 257, "PNG"))
    put("animated.png", frames("PNG"))
    put("lossy.webp", of("WEBP"))
    put("lossless.webp", of("WEBP", lossless=True))
    put("alpha.webp", lambda rgb: encode(seen_through(rgb), "WEBP"))
    put("animated.webp", frames("WEBP"))
    put("rgb.avif", of("AVIF"))
    put("alpha.avif", lambda rgb: encode(seen_through(rgb), "AVIF"))
    put("still.gif", of("GIF"))
    put("animated.gif", frames("GIF"))
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        put(f"{compression}.tif", of("TIFF", compression=compression))
    put("pages.tiff", frames("TIFF"))
    put("cmyk.tiff", of("TIFF", "CMYK"))
    put("16 bits.tiff", lambda rgb: encode(grey(rgb).astype(np.uint16) * 257, "TIFF"))
    put("float.tiff", lambda rgb: encode(grey(rgb).astype(np.float32) / 255, "TIFF"))
    put("rgb.bmp", of("BMP"))
    put("palette.bmp", of("BMP", "P"))
    if HAS_HEIF:
        put("photo.heic", lambda _: HEIC)
        put("PHOTO.HIF", lambda _: HEIC_TURNED)
    put("really a png.jpg", of("PNG"))
    put("UPPER CASE.JPG", of("JPEG"))
    put('it\'s "quoted" & $(odd) 100%.jpg', of("JPEG"))
    put("-rf.jpg", of("JPEG"))
    put("new\nline.jpg", of("JPEG"))
    put("caf\u00e9.jpg", of("JPEG"))  # NFC
    put("cafe\u0301.jpg", of("JPEG"))  # NFD
    put("\u5199\u771f \U0001f4f7.jpg", of("JPEG"))
    put(b"not utf-8 \xff\xfe.jpg", of("JPEG"))
    return made

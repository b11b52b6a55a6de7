"""Files that hold an image besides something else: camera raw files and films.

Of a raw file the preview is taken that the camera has made, or else what the sensor saw, of a film
an early frame. Both come from libraries that are extras; what they return is then decoded like any
other file.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

from PIL import Image, ImageStat

from lookalike.errors import install_command
from lookalike.images.formats import Reader, check_pixels
from lookalike.images.outcome import Note, SkippedImageError, SkipReason

RAW_NAMES = "arw cr2 cr3 dng nef nrw orf pef raf rw2 srw"
VIDEO_NAMES = "avi m4v mkv mov mp4 webm"
FRAMES = 8
"""Key frames of a film that are looked at, for one that is not of one colour."""
_FILMS = {b"M4V ", b"qt  "} | set(
    b"isom iso2 iso3 iso4 iso5 iso6 mp41 mp42 mp71 avc1 3gp4 3gp5 3gp6 3g2a MSNV dash".split()
)
PLAIN = 4.0
"""Standard deviation of the levels of a frame that shows nothing."""
DNG_VERSION, MAKE, DATE_TIME, SUB_IFDS = 50706, 271, 306, 330
TURNS = {3: 3, 5: 8, 6: 6}
"""LibRaw's flip as EXIF orientation."""


def extensions() -> tuple[bytes, ...]:
    """Of files that the installed libraries read."""
    names = RAW_NAMES.split() if find_spec("rawpy") else []
    names += VIDEO_NAMES.split() if find_spec("av") else []
    return tuple(f".{name}".encode() for name in names)


def unpack(stream: Reader, max_pixels: int) -> tuple[bytes, str, Note] | None:
    """The image that a container holds, as a file; what it is called, and why it is not the whole.

    None for other files, by their content.

    Raises:
        SkippedImageError: it needs a library that is not installed, or holds no image.
    """
    stream.seek(0)
    head = stream.read(64)
    if _is_raw(head, stream):
        return _preview(stream, max_pixels), "RAW", Note.PREVIEW
    if (demuxer := _demuxer(head)) is not None:
        return _early_frame(stream, demuxer, max_pixels), "VIDEO", Note.FRAMES
    return None


def _is_raw(head: bytes, stream: Reader) -> bool:
    if head.startswith((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")):
        return True
    if head[4:12] == b"ftypcrx " or (head[:4] == b"II*\0" and head[8:10] == b"CR"):
        return True
    return head.startswith((b"II*\0", b"MM\0*")) and _is_raw_tiff(head, stream)


def _is_raw_tiff(head: bytes, stream: Reader) -> bool:
    """By tags of the first directory: DNG's own, or a camera's name beside further directories."""
    order: Any = "little" if head.startswith(b"II") else "big"
    stream.seek(int.from_bytes(head[4:8], order))
    count = int.from_bytes(stream.read(2), order)
    entries = stream.read(12 * count)
    stream.starved = False
    tags = {int.from_bytes(entries[at : at + 2], order) for at in range(0, len(entries), 12)}
    return DNG_VERSION in tags or {MAKE, SUB_IFDS} <= tags


def _demuxer(head: bytes) -> str | None:
    """FFmpeg's name of it. It is never left to guess: some of its formats open other files."""
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    return "mov" if head[4:8] == b"ftyp" and head[8:12] in _FILMS else None


def _preview(stream: Reader, max_pixels: int) -> bytes:
    """The JPEG that the camera made; without one, or with an icon only, as many phones and
    converters write them, the sensor's image at half its width and height."""
    try:
        import rawpy
    except ImportError as error:
        raise SkippedImageError(
            SkipReason.NEEDS_EXTRA, "a camera's raw file needs rawpy", install_command("raw")
        ) from error
    stream.seek(0)
    try:
        with rawpy.imread(io.BytesIO(stream.read())) as raw:
            try:  # before all else: LibRaw 0.22 crashes if it reads an icon later
                found = raw.extract_thumb().data
            except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
                found = None
            if isinstance(found, bytes):
                return _turned(found, TURNS.get(raw.sizes.flip, 1))
            check_pixels((raw.sizes.width, raw.sizes.height), max_pixels)
            exif, taken = Image.Exif(), raw.other.timestamp
            if taken.year > 1970:  # not 0
                exif[DATE_TIME] = f"{taken:%Y:%m:%d %H:%M:%S}"
            developed = raw.postprocess(half_size=True, use_camera_wb=True)
            return _png(Image.fromarray(developed), exif)
    except rawpy.LibRawIOError as error:
        detail = f"the image goes on after the end of the file at {stream.length:,} bytes"
        raise SkippedImageError(SkipReason.TRUNCATED, detail) from error
    except rawpy.LibRawError as error:
        said = error.args[0].decode() if error.args else type(error).__name__
        detail = f"LibRaw finds no preview in it and cannot develop it ({said})"
        raise SkippedImageError(SkipReason.UNSUPPORTED, detail) from error


def _turned(jpeg: bytes, orientation: int) -> bytes:
    """With this EXIF orientation, unless it has one of its own."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if orientation == 1 or 0x0112 in image.getexif():
            return jpeg
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block + jpeg[2:]


def _early_frame(stream: Reader, demuxer: str, max_pixels: int) -> bytes:
    try:
        import av
    except ImportError as error:
        raise SkippedImageError(
            SkipReason.NEEDS_EXTRA, "a film needs PyAV", install_command("video")
        ) from error
    stream.seek(0)
    raw: Any = stream.raw  # unbuffered: FFmpeg has a buffer of its own
    raw.seek(0)
    image: Image.Image | None = None
    try:
        with av.open(raw, "r", format=demuxer) as container:
            video = container.streams.video[0]
            check_pixels((video.width, video.height), max_pixels)
            video.thread_type, video.codec_context.skip_frame = "NONE", "NONKEY"
            for frame, _ in zip(container.decode(video), range(FRAMES), strict=False):
                image = frame.to_image().rotate(frame.rotation, expand=True)
                if max(ImageStat.Stat(image).stddev) > PLAIN:
                    break
    except (av.FFmpegError, IndexError) as error:
        if image is None:
            why = getattr(error, "strerror", None) or error
            detail = f"no frame of the film can be decoded: {why}"
            raise SkippedImageError(SkipReason.DAMAGED, detail) from error
    if image is None:
        raise SkippedImageError(SkipReason.DAMAGED, "the film has no frame")
    return _png(image)


def _png(image: Image.Image, exif: Image.Exif | None = None) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1, exif=exif)
    return out.getvalue()

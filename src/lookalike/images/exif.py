"""What a camera wrote into a file: when, with what, where. Untrusted, as all of the file."""

from __future__ import annotations

import calendar
import io
import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from lookalike.images.containers import unpack
from lookalike.images.formats import explain, open_source, pillow_kept_quiet, plugin_of
from lookalike.images.outcome import SkippedImageError, Source

LONGEST = 100
MOMENT = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
Exif = ExifTags.Base


def read_exif(source: Source, *, max_pixels: int) -> dict[str, Any]:
    """Whatever of these the file has: ``taken`` (ISO 8601, the camera's own time), ``camera``,
    ``lens``, ``seconds`` of exposure, ``f_number``, ``iso``, ``focal_length`` (mm), ``latitude``,
    ``longitude`` (degrees).

    Raises SkippedImageError.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(source))
        stack.enter_context(pillow_kept_quiet())
        try:
            exif = Image.Exif()
            stream.seek(0)
            if stream.read(4) in (b"II*\0", b"MM\0*"):  # of raw files Pillow opens only some
                stream.seek(0)
                exif.load_from_fp(stream)
            else:
                if inner := unpack(stream, max_pixels):
                    stream = stack.enter_context(open_source(io.BytesIO(inner[0])))
                exif = plugin_of(stream, max_pixels)(stream).getexif()
            photo = exif.get_ifd(ExifTags.IFD.Exif)
            place = exif.get_ifd(ExifTags.IFD.GPSInfo)
        except SkippedImageError:
            raise
        except Exception as error:  # as `pixels._decode`
            raise explain(error, stream, None) from error
    found = {
        "taken": _moment(photo.get(Exif.DateTimeOriginal) or exif.get(Exif.DateTime)),
        "camera": _camera(_text(exif.get(Exif.Make)), _text(exif.get(Exif.Model))),
        "lens": _text(photo.get(Exif.LensModel)),
        "seconds": _number(photo.get(Exif.ExposureTime)),
        "f_number": _number(photo.get(Exif.FNumber)),
        "iso": _number(photo.get(Exif.ISOSpeedRatings)),
        "focal_length": _number(photo.get(Exif.FocalLength)),
        **_place(place),
    }
    return {name: value for name, value in found.items() if value is not None}


def taken_of(image: Image.Image) -> int:
    """When an opened file was taken: seconds of the camera's own clock, as if that were UTC; 0 if
    the file does not say."""
    try:
        exif = image.getexif()
        found = exif.get_ifd(ExifTags.IFD.Exif).get(Exif.DateTimeOriginal)
        moment = _moment(found or exif.get(Exif.DateTime))
        return 0 if moment is None else calendar.timegm(datetime.fromisoformat(moment).timetuple())
    except Exception:  # damaged metadata do not spoil the pixels
        return 0


def shot_of(image: Image.Image) -> list[str]:
    """What distinguishes a shot of a camera, and copies keep: camera, moment, fraction of its
    second, seconds of exposure; "" for what an opened file does not say."""
    try:
        exif = image.getexif()
        photo = exif.get_ifd(ExifTags.IFD.Exif)
        camera = _camera(_text(exif.get(Exif.Make)), _text(exif.get(Exif.Model)))
        exposure = _number(photo.get(Exif.ExposureTime))
        return [
            camera or "",
            _moment(photo.get(Exif.DateTimeOriginal)) or "",
            (_text(photo.get(Exif.SubsecTimeOriginal)) or "").rstrip("0"),
            "" if exposure is None else f"{exposure:.2g}",
        ]
    except Exception:  # as above
        return [""] * 4


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    text = "".join(char for char in value if char.isprintable()).strip()
    return text[:LONGEST] or None


def _camera(make: str | None, model: str | None) -> str | None:
    """Most models begin with their maker's name."""
    if make and model and not model.lower().startswith(make.split()[0].lower()):
        return f"{make} {model}"
    return model or make


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _moment(value: object) -> str | None:
    found = MOMENT.fullmatch(value.strip("\0 ")) if isinstance(value, str) else None
    return None if found is None else f"{found[1]}-{found[2]}-{found[3]}T{found[4]}"


def _place(tags: Mapping[int, Any]) -> dict[str, float]:
    latitude = _degrees(tags.get(2), tags.get(1), "S", 90)
    longitude = _degrees(tags.get(4), tags.get(3), "W", 180)
    if latitude is None or longitude is None:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _degrees(value: Any, side: object, negative: str, limit: int) -> float | None:
    """Of degrees, minutes and seconds."""
    try:
        degrees, minutes, seconds = map(float, value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    number = degrees + minutes / 60 + seconds / 3600
    if not 0 <= number <= limit:  # NaN as well
        return None
    return round(-number if side == negative else number, 6)

"""What runs in a process of its own: bytes that nobody vouches for, made into pixels.

Such bytes may make a decoder crash, or work for hours. Here they take nothing with them: the
process has no more memory than it was given, cannot write files, and may be killed at any moment.

Request and answer are each a head and a payload: two big-endian lengths (4 and 8 bytes), JSON,
bytes.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from lookalike.imagefile import SkippedImageError
from lookalike.images import content_hash, read_picture, read_rgb

__all__ = ["main", "read_message", "write_message"]

LENGTHS = struct.Struct(">IQ")


def write_message(stream: BinaryIO, head: dict[str, Any], payload: bytes = b"") -> None:
    text = json.dumps(head).encode()
    stream.write(LENGTHS.pack(len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """EOFError if the other side is gone."""
    text, payload = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    return json.loads(_exactly(stream, text)), _exactly(stream, payload)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other process is gone")
    return data


def main(memory: int) -> None:
    """Answer requests until there are no more; ``memory``: bytes of address space."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints
    _limit(memory)
    while True:
        try:
            head, content = read_message(requests)
        except EOFError:
            return
        try:
            answer, payload = _answer(head, io.BytesIO(content))
        except SkippedImageError as error:
            answer = {"reason": error.reason, "detail": error.detail, "remedy": error.remedy}
            payload = b""
        except MemoryError:
            detail = "there is not enough memory to decode it"
            answer, payload = {"reason": "too-large", "detail": detail, "remedy": ""}, b""
        write_message(answers, answer, payload)


def _answer(head: dict[str, Any], source: io.BytesIO) -> tuple[dict[str, Any], bytes]:
    """``picture``: pixels for the encoder, then an upright RGB image. ``webp``: a small picture."""
    limits = {"max_pixels": head["max_pixels"]}
    if head["task"] == "webp":
        image = read_rgb(source, longest_side=head["side"], **limits)
        with io.BytesIO() as out:
            image.save(out, "WEBP", quality=head["quality"], method=2)
            return {}, out.getvalue()
    answer: dict[str, Any] = {"hash": content_hash(source).hex()}
    payload = b""
    if head["size"]:
        picture = read_picture(source, head["size"], **limits)
        answer |= {"width": picture.width, "height": picture.height, "format": picture.format}
        payload = picture.pixels.tobytes()
    if head["side"]:
        image = read_rgb(source, longest_side=head["side"], **limits)
        answer["image"] = list(image.size)
        payload += image.tobytes()
    return answer, payload


def _limit(memory: int) -> None:
    with suppress(ImportError):  # not on Windows
        import resource

        for what, limit in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            with suppress(ValueError, OSError):  # macOS knows no bounds of memory
                resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]))

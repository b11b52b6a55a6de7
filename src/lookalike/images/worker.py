"""What runs in a process of its own: untrusted image files, made into pixels.

Such files may make a decoder crash, or work for hours, or take all memory. Here they take nothing
with them: the process has no more memory and processor time than its requests say, cannot write
files, prints nowhere, and may be killed at any moment. It ends when the other side of its socket is
closed.

Request and answer are each a head and a payload: two big-endian lengths (4 and 8 bytes), JSON,
bytes. The first answer, before any request, says that the process is ready. A request is for one
content, its payload, or for the files of several paths; the answer holds one entry for each, or for
the first of them. Before each file a byte goes to standard error: it shows which one was being
decoded when the process ended.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image

from lookalike.images.exif import read_exif
from lookalike.images.formats import memory_limit
from lookalike.images.outcome import (
    LENGTHS,
    MEMORY_REMEDY,
    SkippedImageError,
    SkipReason,
    Source,
    message,
)
from lookalike.images.pixels import content_hash, look_at, read_rgb, squeeze

GROUP_SECONDS = 0.1
"""After so long, what is left of a request is for another one."""


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there are several processes
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    begun = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # for whatever else prints
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    _forbid_files()
    _write(answers, {}, [])
    while True:
        try:
            head, content = _read(requests)
        except EOFError:
            return
        sources: list[Source] = head["paths"] or [io.BytesIO(content)]
        made: list[tuple[dict[str, Any], bytes]] = []
        ends = time.monotonic() + GROUP_SECONDS
        for source in sources:
            os.write(begun, b".")
            _allow(head["memory"], head["seconds"])
            made.append(_answer_or_reason(head, source))
            # After too large an image this process is replaced: its memory may be in pieces.
            if made[-1][0].get("reason") == SkipReason.TOO_LARGE or time.monotonic() > ends:
                break
        _allow(head["memory"], 0)
        entries = [{**answer, "length": len(payload)} for answer, payload in made]
        _write(answers, {"answers": entries}, [payload for _, payload in made])


def _answer_or_reason(head: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
    try:
        return _answer(head, source)
    except SkippedImageError as error:
        return {"reason": error.reason, "detail": error.detail, "remedy": error.remedy}, b""
    except MemoryError:
        detail = f"it cannot be decoded within {head['memory'] / 2**30:.1f} GiB of memory"
        return {"reason": SkipReason.TOO_LARGE, "detail": detail, "remedy": MEMORY_REMEDY}, b""


def _answer(head: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
    """``squeeze``: pixels for the encoder; ``keep_small`` as there. ``rgb``: an upright image.
    ``webp``: a file of it. ``exif``: what the camera wrote. ``digest``: of all pixels.
    ``both``: the content's hash, and whichever of the first two are wanted."""
    task, limits = head["task"], {"max_pixels": head["max_pixels"]}
    Image.MAX_IMAGE_PIXELS = (head["max_pixels"] + 1) // 2  # plugins refuse more than twice it
    if task == "webp":
        image = read_rgb(source, longest_side=head["side"], **limits)
        with io.BytesIO() as out:
            image.save(out, "WEBP", quality=head["quality"], method=2)
            return {}, out.getvalue()
    if task == "exif":
        return {"exif": read_exif(source, **limits)}, b""
    if task == "digest":
        image = read_rgb(source, **limits)
        return {}, hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    answer: dict[str, Any] = {}
    payload = b""
    if task == "both":
        answer["hash"] = content_hash(source).hex()
    if task == "squeeze" or (task == "both" and head["size"]):
        made = squeeze(source, head["size"], keep_small=head.get("keep_small", False), **limits)
        answer |= {"width": made.width, "height": made.height, "format": made.format}
        answer |= {"note": made.note, "taken": made.taken, "sides": made.image.size}
        payload = made.image.tobytes()
    if task == "rgb" or (task == "both" and head["side"]):
        look = look_at(source, longest_side=head["side"], **limits)
        answer |= {"image": list(look.image.size), "shot": look.shot}
        payload += look.image.tobytes()
    return answer, payload


def _read(stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    text, payload = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    return json.loads(_exactly(stream, text)), _exactly(stream, payload)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other process is gone")
    return data


def _write(stream: BinaryIO, head: dict[str, Any], payloads: list[bytes]) -> None:
    stream.write(message(head, sum(map(len, payloads))))
    for payload in payloads:
        stream.write(payload)
    stream.flush()


def _forbid_files() -> None:
    with suppress(ImportError):  # Windows
        import resource

        for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            with suppress(ValueError, OSError):
                resource.setrlimit(what, (0, 0))


def _allow(memory: int, seconds: float) -> None:
    """Bytes to allocate, and processor time until the kernel ends this process; 0: no end.

    Processor time, not the clock's: a busy machine makes no file too slow.
    """
    with suppress(ImportError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if memory_limit() != memory:
            with suppress(ValueError, OSError):  # macOS does not bound memory
                resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the parent is gone
        main()
    sys.exit()

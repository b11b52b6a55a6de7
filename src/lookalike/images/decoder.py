"""Decoding in processes that may be ended, so that one file cannot take everything.

The processes serve all who decode in this one: galleries, the server, contact sheets. They are
started when first needed, replaced after one was lost, and wait for the next file meanwhile.
"""

from __future__ import annotations

import atexit
import io
import math
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from lookalike.errors import DecoderError
from lookalike.images.outcome import (
    DEFAULT_MAX_PIXELS,
    MEMORY_REMEDY,
    DecodedImage,
    Look,
    Note,
    SkippedImageError,
    SkipReason,
    Source,
)
from lookalike.images.process import Answer, Process, start_process
from lookalike.threads import cores

if TYPE_CHECKING:
    from PIL import Image

PATIENCE = 6
"""Seconds by the clock for each second of processor time, for slow disks and busy machines."""
PREPARED = 4
"""Processes started before the first file comes; others when a thread needs one."""
KEPT = 2
"""Idle processes that stay when a decoder is closed."""
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
MOST_MEMORY, MOST_SECONDS = 1 << 62, 1e6
"""What system calls take."""


@dataclass(frozen=True)
class Limits:
    """What one file may take. ValueError for values that are not positive, TypeError for others."""

    max_pixels: int = DEFAULT_MAX_PIXELS
    max_seconds: float = 10.0
    """Of processor time."""

    def __post_init__(self) -> None:
        if isinstance(self.max_pixels, bool) or not isinstance(self.max_pixels, int):
            raise TypeError(f"max_pixels is {self.max_pixels!r}; it must be a whole number")
        if not isinstance(self.max_seconds, int | float):
            raise TypeError(f"max_seconds is {self.max_seconds!r}; it must be a number")
        if not 0 < self.max_seconds < math.inf:
            raise ValueError(
                f"max_seconds must be a positive number, not {self.max_seconds!r}: use a large one "
                "for no limit"
            )

    @property
    def memory(self) -> int:
        """Bytes: 1 GiB, or 5 for each of `max_pixels` if that is more.

        Pillow keeps RGB in 4 bytes a pixel. JPEG is decoded at a fraction of its size; WebP, AVIF
        and HEIF take up to 12 bytes a pixel, so that their limit is about 85 million pixels.
        """
        return min(max(1 << 30, 5 * self.max_pixels), MOST_MEMORY)


class _Idle:
    """The processes that wait, of all decoders of this process."""

    def __init__(self) -> None:
        self._waiting: list[Process] = []
        self._changing = threading.Lock()
        self._registered = False

    def take(self) -> Process:
        """One that waits, or another. Raises DecoderError."""
        with self._changing:
            while self._waiting:
                process = self._waiting.pop()
                if process.is_running():
                    return process
                process.let_go()
            if not self._registered:
                atexit.register(self.trim, 0)
                self._registered = True
        return start_process()

    def give(self, process: Process) -> None:
        with self._changing:
            self._waiting.append(process)

    def trim(self, kept: int) -> None:
        """End all but so many."""
        with self._changing:
            self._waiting, surplus = self._waiting[:kept], self._waiting[kept:]
        for process in surplus:
            process.let_go()


_idle = _Idle()


class Decoder:
    """Reads image files in other processes. Any number of threads may use one at once.

    Each thread that reads has a process to itself while it does.
    """

    def __init__(self, limits: Limits = Limits(), *, patience: float = PATIENCE) -> None:
        """``patience``: seconds by the clock for each second of processor time."""
        self.limits = limits
        self._patience = patience
        self._at_work: set[Process] = set()
        self._changing = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, files: int = 1) -> None:
        """Start processes for so many files, a few at most, to be ready when the first comes."""
        with suppress(DecoderError):  # reported when it is needed
            waiting = [_idle.take() for _ in range(min(files, cores(), PREPARED))]
            for process in waiting:
                _idle.give(process)

    def read_image(self, source: Source, size: int) -> DecodedImage:
        """As `images.read_image`. Also raises DecoderError if no process can be started."""
        return _image(self.ask({"task": "squeeze", "size": size}, source))

    def read_hashed(self, source: Source, size: int) -> tuple[bytes, DecodedImage]:
        """`content_hash` and `read_image`, of one reading of the file."""
        answer = self.ask({"task": "both", "size": size, "side": None}, source)
        return bytes.fromhex(answer[0]["hash"]), _image(answer)

    def read_images(
        self, sources: Sequence[Source], size: int, *, keep_small: bool = False
    ) -> list[DecodedImage | SkippedImageError]:
        """`read_image` of each, or why there is none. Raises DecoderError.

        ``keep_small``: as in `pixels.squeeze`.

        Small files take less time together: every request wakes another process, which stops what
        runs on its core. Contents are decoded one by one.
        """
        given = list(map(_given, sources))
        are_files = all(isinstance(one, str) for one in given)
        groups = [given] if are_files else [[one] for one in given]
        task = {"task": "squeeze", "size": size, "keep_small": keep_small}
        answers = [answer for group in groups for answer in self._ask_all(task, group)]
        return [
            answer if isinstance(answer, SkippedImageError) else _image(answer)
            for answer in answers
        ]

    def read_rgb(self, source: Source, *, longest_side: int | None = None) -> Image.Image:
        """As `images.read_rgb`. Also raises DecoderError if no process can be started."""
        return self.look_at(source, longest_side=longest_side).image

    def look_at(self, source: Source, *, longest_side: int | None = None) -> Look:
        """As `read_rgb`."""
        from PIL import Image

        answer, payload = self.ask({"task": "rgb", "side": longest_side}, source)
        image = Image.frombytes("RGB", tuple(answer["image"]), payload)
        return Look(image, answer["shot"])

    def pixel_digest(self, source: Source) -> bytes:
        """Of all pixels of the upright RGB image. Raises as `read_rgb`."""
        return bytes(self.ask({"task": "digest"}, source)[1])

    def ask(self, task: dict[str, Any], source: Source) -> Answer:
        """The answer of `worker` to a task.

        Raises:
            SkippedImageError: the file gives no image within the limits.
            DecoderError: no process can be started, or the decoder was closed meanwhile.
        """
        (answer,) = self._ask_all(task, [_given(source)])
        if isinstance(answer, SkippedImageError):
            raise answer
        return answer

    def _ask_all(
        self, task: dict[str, Any], sources: Sequence[str | bytes]
    ) -> list[Answer | SkippedImageError]:
        """``sources``: any number of paths, or one content."""
        limits = self.limits
        head = {
            **task,
            "max_pixels": limits.max_pixels,
            "memory": limits.memory,
            "seconds": min(limits.max_seconds, MOST_SECONDS),
        }
        answers: list[Answer | SkippedImageError] = []
        while len(answers) < len(sources):
            answers += self._ask_first(head, sources[len(answers) :])
        return answers

    def _ask_first(
        self, head: dict[str, Any], sources: Sequence[str | bytes]
    ) -> list[Answer | SkippedImageError]:
        """The answers for the first of ``sources``.

        None at all if another process must be asked, because an earlier file may have ended this
        one.
        """
        contents = [source for source in sources if isinstance(source, bytes)]
        head = {**head, "paths": [source for source in sources if isinstance(source, str)]}
        process = self._take()
        try:
            answers = process.ask(head, b"".join(contents), self._patience * head["seconds"])
        except BaseException as error:
            with self._changing:
                self._at_work.discard(process)
                closed = self._closed
            died = isinstance(error, EOFError | TimeoutError)
            begun = process.begun() if died else 0
            status = process.end()
            if closed:
                raise DecoderError("decoding was ended") from error
            if not died:
                raise
            late = isinstance(error, TimeoutError) or status == -getattr(signal, "SIGPROF", 0)
            if begun > 1:
                # The answers to those before the last one are lost.
                earlier = self._ask_each(head, sources[: begun - 1])
                last = sources[begun - 1 : begun]
                return earlier + (
                    [self._explained(late, status)] if late else self._ask_each(head, last)
                )
            if process.is_used and not late:
                return []
            return [self._explained(late, status)]
        with self._changing:
            self._at_work.discard(process)
        process.is_used = True
        if answers[-1][0].get("reason") == SkipReason.TOO_LARGE:
            process.end()  # its memory may be in pieces
        else:
            _idle.give(process)
        return [_skipped(answer) if "reason" in answer[0] else answer for answer in answers]

    def _ask_each(
        self, head: dict[str, Any], sources: Sequence[str | bytes]
    ) -> list[Answer | SkippedImageError]:
        return [answer for source in sources for answer in self._ask_all(head, [source])]

    def close(self) -> None:
        """End what is being read; the caller that waits for it gets a DecoderError."""
        with self._changing:
            self._closed = True
            for process in self._at_work:
                process.kill()
        _idle.trim(KEPT)

    def _take(self) -> Process:
        process = _idle.take()
        with self._changing:
            if not self._closed:
                self._at_work.add(process)
                return process
        _idle.give(process)
        raise DecoderError("decoding was ended")

    def _explained(self, late: bool, status: int) -> SkippedImageError:
        if late:
            detail = f"decoding it takes more than {self.limits.max_seconds:g} seconds"
            return SkippedImageError(SkipReason.TOO_SLOW, detail)
        if status == -getattr(signal, "SIGKILL", 0):
            detail = "the system ended its decoding, probably for want of memory"
            return SkippedImageError(SkipReason.TOO_LARGE, detail, MEMORY_REMEDY)
        return SkippedImageError(SkipReason.DAMAGED, "its data make the decoder fail")


def _skipped(answer: Answer) -> SkippedImageError:
    said = answer[0]
    return SkippedImageError(SkipReason(said["reason"]), said["detail"], said["remedy"])


def _image(answer: Answer) -> DecodedImage:
    import numpy as np

    made, payload = answer
    width, height = made["sides"]
    return DecodedImage(
        np.frombuffer(payload, np.uint8).reshape(height, width, 3),
        made["width"],
        made["height"],
        made["format"],
        None if made["note"] is None else Note(made["note"]),
        made["taken"],
    )


def _given(source: Source) -> str | bytes:
    """Content, or an absolute path: the process may have been started in another folder."""
    if isinstance(source, io.BytesIO):
        return source.getvalue()
    path = os.fsdecode(source)
    with suppress(OSError):  # there is no current folder
        return os.path.abspath(path)
    return path

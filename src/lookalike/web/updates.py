"""One update of the gallery at a time, in a thread, with its progress for all clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lookalike.errors import LookalikeError
from lookalike.gallery import Progress, UpdateReport
from lookalike.gallery.protocol import ImageGallery
from lookalike.web.errors import ApiError, explained, internal_error

__all__ = ["UpdateState", "Updates"]

COUNTS = ("added", "changed", "moved", "dropped", "reused", "images", "skipped", "removed")


@dataclass(frozen=True)
class UpdateState:
    """How far an update is, or how the last one ended.

    Attributes:
        version: rises with each change.
        done, total: files read of those to read; None: not known yet.
        report: counts of what was done, and ``seconds``.
    """

    version: int = 0
    updating: bool = False
    done: int = 0
    total: int | None = None
    report: dict[str, Any] | None = None
    error: ApiError | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `UpdateAnswer`."""
        error = self.error
        problem = error and {"code": error.code, "message": error.message, "remedy": error.remedy}
        return {
            "updating": self.updating,
            "done": self.done,
            "total": self.total,
            "report": self.report,
            "error": problem,
        }


class _StoppedError(LookalikeError):
    """The server is stopping."""


class Updates:
    """Starts updates and reports their state, to any thread."""

    def __init__(self, gallery: ImageGallery, finished: Callable[[], None] = lambda: None) -> None:
        """``finished`` is called after each, in its thread."""
        self._gallery = gallery
        self._finished = finished
        self._state = UpdateState()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def state(self) -> UpdateState:
        return self._state

    def start(self) -> None:
        """ApiError conflict if one is running."""
        with self._changing:
            if self._state.updating or self._stopping:
                raise ApiError("conflict", "an update is running already", "wait until it is done")
            self._state = UpdateState(self._state.version + 1, updating=True)
            self._thread = threading.Thread(target=self._run, name="lookalike-update", daemon=True)
            self._thread.start()

    def stop(self, seconds: float = 30.0) -> None:
        """End a running update; what it has encoded is kept, and the next one goes on from it.

        If that takes longer than ``seconds``, what was committed is kept.
        """
        with self._changing:
            self._stopping = True
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        try:
            report = self._gallery.update(self._note)
            ended: dict[str, Any] = {"report": _counts(report)}
        except _StoppedError:
            message = "the update was stopped with the server"
            ended = {"error": ApiError("busy", message, "start it again")}
        except LookalikeError as error:
            ended = {"error": explained(error)}
        except Exception as error:
            ended = {"error": internal_error(error)}
        self._change(updating=False, **ended)
        self._finished()

    def _note(self, progress: Progress) -> None:
        if self._stopping:
            raise _StoppedError("the server is stopping")
        self._change(done=progress.done, total=progress.total)

    def _change(self, **values: Any) -> None:
        with self._changing:
            self._state = replace(self._state, version=self._state.version + 1, **values)


def _counts(report: UpdateReport) -> dict[str, Any]:
    return {
        **{name: getattr(report, name) for name in COUNTS},
        "unlisted": len(report.unlisted),
        "missing": sum(absence.files for absence in report.absent),
        "missing_why": "; ".join(dict.fromkeys(absence.why for absence in report.absent)),
        "seconds": round(report.seconds, 3),
    }

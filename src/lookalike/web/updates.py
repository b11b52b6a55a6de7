"""One update of the gallery at a time, in a thread, with its progress for all clients."""

from __future__ import annotations

import threading
from typing import Any

from lookalike.gallery import Progress
from lookalike.gallery.protocol import ImageGallery
from lookalike.web.answers import UpdateAnswer, UpdateCounts
from lookalike.web.errors import ApiError, explained


class Updates:
    """Starts updates and reports their state, to any thread."""

    def __init__(self, gallery: ImageGallery) -> None:
        self.state = UpdateAnswer()
        """Another object after each change."""
        self._gallery = gallery
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """ApiError conflict if one is running."""
        with self._changing:
            if self.state.updating or self._stopping:
                raise ApiError("conflict", "an update is running already", "wait until it is done")
            self.state = UpdateAnswer(updating=True)
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
        report = error = None
        try:
            report = UpdateCounts.of(self._gallery.update(self._note))
        except Exception as raised:
            error = explained(raised)
        self._change(updating=False, report=report, error=error and error.content)

    def _note(self, progress: Progress) -> None:
        if self._stopping:
            raise ApiError("busy", "the update was stopped with the server", "start it again")
        self._change(done=progress.done, total=progress.total)

    def _change(self, **values: Any) -> None:
        with self._changing:
            self.state = UpdateAnswer(**{**dict(self.state), **values})

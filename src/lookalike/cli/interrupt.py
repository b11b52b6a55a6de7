"""Ctrl-C that does not get lost.

KeyboardInterrupt is raised wherever the main thread happens to be, also where it vanishes: in a
destructor, or in a callback from C. So one that is dropped before anything was ended by it is
raised again. While a module is imported it waits: a native one that is left half made catches it,
makes an ImportError of it, or crashes the process later.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
import types

SOON = 0.05
"""Seconds until it is raised again, in which what dropped it, or an import, may end."""
IMPORTING = "<frozen importlib._bootstrap>"
"""The file of the frames that import."""

_is_pending = False


class Interrupt(KeyboardInterrupt):
    def __del__(self) -> None:
        if _is_pending and not sys.is_finalizing():
            _press_soon()


def catch_interrupts() -> None:
    """Have SIGINT raise `Interrupt`, unless it is ignored, as by nohup."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _raise)


def end_at_once() -> None:
    """Have SIGINT end the process, whose work is done; one that was caught does not come again."""
    acknowledge()
    if signal.getsignal(signal.SIGINT) is _raise:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _raise(number: int, frame: types.FrameType | None) -> None:
    """Objects that it leaves half made print nothing when they are deleted."""
    global _is_pending
    _is_pending = True
    sys.unraisablehook = lambda _: None
    if _is_importing(frame):
        _press_soon()
    else:
        raise Interrupt


def _is_importing(frame: types.FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != IMPORTING:
        frame = frame.f_back
    return frame is not None


def _press_soon() -> None:
    _thread.start_new_thread(_press_later, ())  # takes no lock that the main thread may hold


def _press_later() -> None:
    time.sleep(SOON)
    if not _is_pending:
        return
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # which also ends what it waits for
    else:  # Windows
        _thread.interrupt_main()


def acknowledge() -> None:
    """Ctrl-C, if it was pressed, is not raised again."""
    global _is_pending
    _is_pending = False

"""Ctrl-C that does not get lost.

KeyboardInterrupt is raised wherever the main thread happens to be, also where it vanishes: in a
destructor, in a callback from C, or in a native module that catches everything while it is
imported, or makes an ImportError of it. So one that is dropped before anything was ended by it is
raised again.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import types

SOON = 0.05
"""Seconds until it is raised again, in which what dropped it is left."""

_is_pending = False


class Interrupt(KeyboardInterrupt):
    def __del__(self) -> None:
        if _is_pending and not sys.is_finalizing():
            again = threading.Timer(SOON, _press)
            again.daemon = True
            again.start()


def catch_interrupts() -> None:
    """Have SIGINT raise `Interrupt`, unless it is ignored (as by nohup) or handled already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raise)


def _raise(number: int, frame: types.FrameType | None) -> None:
    """Objects that it leaves half made print nothing when they are deleted."""
    global _is_pending
    _is_pending = True
    sys.unraisablehook = lambda _: None
    raise Interrupt


def _press() -> None:
    if not _is_pending:
        return
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # which also ends what it waits for
    else:  # Windows
        _thread.interrupt_main()


def acknowledge() -> bool:
    """Whether Ctrl-C was pressed; it is not raised again."""
    global _is_pending
    was_pending, _is_pending = _is_pending, False
    return was_pending


def hidden_by(error: BaseException | None) -> bool:
    """Whether Ctrl-C was pressed and may have become the ImportError that ``error`` comes from."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__
    return _is_pending and error is not None

"""Entry of the command, `main`: small, since Ctrl-C while Python imports it shows a traceback."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command; until it takes over, Ctrl-C ends the process without a word, status 130."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from lookalike.cli import main

    main()


if __name__ == "__main__":
    main()

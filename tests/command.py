"""Commands, run in this process as `main` runs them, or as users start them (`COMMAND`)."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile
from typing import Any

import click
import pytest

from lookalike.cli import commands, run_command
from lookalike.errors import LookalikeWarning

__all__ = ["COMMAND", "Done", "lookalike", "run"]

COMMAND = [sys.executable, "-c", "from lookalike.cli import main; main()"]
Done = CompletedProcess[Any]


def run(
    command: click.Command,
    *arguments: str | bytes | Path,
    status: int = 0,
    cwd: Path | None = None,
    stdin: bytes = b"",
    text: bool = True,
) -> Done:
    """Run it and check its exit status; stdout and stderr are str, or bytes without ``text``."""
    words = [os.fsdecode(word) for word in arguments]
    on_interrupt = signal.getsignal(signal.SIGINT)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always", LookalikeWarning)
        streams: list[Any] = []
        for name in ("stdin", "stdout", "stderr"):
            streams.append(stack.enter_context(TemporaryFile("w+", encoding="utf-8")))
            patch.setattr(sys, name, streams[-1])
        streams[0].buffer.write(stdin)
        streams[0].seek(0)
        patch.setattr(sys, "argv", ["lookalike", *words])
        if cwd is not None:
            patch.chdir(cwd)
        try:
            with pytest.raises(SystemExit) as end:
                run_command(command)
            sys.stderr.flush()
        finally:
            if signal.getsignal(signal.SIGINT) is not on_interrupt:
                signal.signal(signal.SIGINT, on_interrupt)
        done = Done(words, int(end.value.code or 0))
        for name, stream in zip(("stdout", "stderr"), streams[1:], strict=True):
            stream.seek(0)
            printed = stream.buffer.read()
            setattr(done, name, printed.decode() if text else printed)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in str(done.stderr), done.stderr
    return done


lookalike = partial(run, commands)

"""The command ``lookalike``: data to stdout, progress and warnings to stderr.

Exit status 0: done. 1: done, but nothing was found, files were skipped, measurements were left out,
or damage was found. 2: bad usage, or an error that stopped the command. 130: interrupted. Only here
anything is printed or the process ended, and each command imports the heavy modules that it needs,
when it needs them.
"""

from __future__ import annotations

import io
import os
import sys

import click

from lookalike import __version__
from lookalike.cli.clustering import cluster
from lookalike.cli.datasets import data
from lookalike.cli.demo import demo
from lookalike.cli.evaluating import evaluate
from lookalike.cli.indexing import index
from lookalike.cli.model import model
from lookalike.cli.output import FAILED, INTERRUPTED, say, visible
from lookalike.cli.reproducing import reproduce
from lookalike.cli.searching import duplicates, search
from lookalike.cli.serving import serve
from lookalike.cli.training import augment, train
from lookalike.cli.tuning import tune
from lookalike.cli.upkeep import info, remove, verify
from lookalike.errors import LookalikeError

__all__ = ["commands", "main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def commands() -> None:
    """Find images that look alike: index a folder once, then search it with any picture."""


for _command in (index, search, duplicates, info, verify, remove, tune, demo):
    commands.add_command(_command)
for _command in (train, augment, model, evaluate, data, reproduce, serve, cluster):
    commands.add_command(_command)
commands.add_command(index, "update")


def main() -> None:
    """Entry point of the command."""
    # Names of files need not be UTF-8: print the bytes that they are.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        status = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _run() -> int:
    """The exit status of the command, after telling any error."""
    try:
        return commands.main(standalone_mode=False) or 0
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        say(text.getvalue().rstrip("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("lookalike: interrupted; everything committed is kept, run it again to go on")
        return INTERRUPTED
    except LookalikeError as error:
        say(f"lookalike: {visible(str(error))}")
    except BrokenPipeError:
        raise
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        say(f"lookalike: {name}{error.strerror or error}")
    return FAILED

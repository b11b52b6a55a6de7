"""The command ``lookalike``: data to stdout, progress and warnings to stderr.

Exit status 0: done. 1: done, but nothing was found, files were skipped, measurements were left out,
or damage was found. 2: bad usage, or an error that stopped the command. 130: interrupted. Only here
anything is printed or the process ended, and each command imports the heavy modules that it needs,
when it needs them.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import sys
import warnings
from typing import Any, NoReturn

import click

from lookalike import __version__
from lookalike.cli.cluster import cluster
from lookalike.cli.demo import demo
from lookalike.cli.duplicates import duplicates
from lookalike.cli.evaluate import data, evaluate
from lookalike.cli.index import index, watch
from lookalike.cli.interrupt import catch_interrupts, end_at_once
from lookalike.cli.model import model
from lookalike.cli.output import (
    FAILED,
    FOUND_NOTHING,
    INTERRUPTED,
    NO_FOLDER,
    STDOUT,
    current_folder,
    discard,
    prepare_streams,
    say,
    visible,
)
from lookalike.cli.search import groups, search
from lookalike.cli.serve import serve
from lookalike.cli.train import augment, train
from lookalike.cli.upkeep import info, remove, tune, verify
from lookalike.errors import LookalikeError, LookalikeWarning

__all__ = ["commands", "main", "run_command"]


SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Find images": {
        "index": ("index a folder, or update its gallery", "index ~/Pictures"),
        "search": ("find what looks like an image", "search query.jpg -k 20"),
        "groups": ("show themes, and images that are alone", "groups --smallest 20"),
        "duplicates": (
            "find copies; move, trash or link them",
            "duplicates --move-to ~/duplicates",
        ),
        "serve": ("a web page to search by looking, and an API", "serve ~/Pictures"),
        "demo": ("index real photographs and draw what is found", "demo --folder ~/Pictures"),
    },
    "Care for a gallery": {
        "info": ("what a gallery holds, and what it skipped", "info --skipped"),
        "remove": ("take images out and keep them out", "remove holiday/blurred.jpg"),
        "watch": ("update whenever the folder changes", "watch --gallery ~/Pictures"),
        "verify": ("look for damage, and repair it", "verify --repair"),
        "tune": ("choose the index's settings by measuring", "tune --recall 0.98"),
    },
    "Models": {
        "train": ("train a model on folders of your classes", "train classes/ --out mine.onnx"),
        "augment": ("show how training alters an image", "augment photo.jpg --out augmented.html"),
        "model": ("download a better model, or describe or make one", "model get dinov2-small"),
        "evaluate": ("measure a model on your classes", "evaluate classes/ --model mine.onnx"),
        "data": (
            "check and lay out the paper's datasets",
            "data corel1k --from corel/ --out out/",
        ),
    },
    "Beyond one machine": {
        "cluster": ("embed and search on many machines", "cluster start parts/ --name photos"),
    },
}
"""Commands, each with what it does in a few words and an example."""


class _Commands(click.Group):
    """Lists its commands in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, short) for name, (short, _) in commands.items()])


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(__version__)
def commands() -> None:
    """Find images that look alike: index a folder once, then search it with any image."""


_ALL = (index, search, groups, duplicates, serve, demo, info, remove, watch, verify, tune)
for _command in (*_ALL, train, augment, model, evaluate, data, cluster):
    commands.add_command(_command)
for _name, (_, _example) in (pair for some in SECTIONS.values() for pair in some.items()):
    commands.commands[_name].epilog = f"Example:  lookalike {_example}"
commands.add_command(index, "update")


def main() -> None:
    """Entry point of the command."""
    run_command(commands)


def run_command(command: click.Command) -> NoReturn:
    """Run a command with the arguments of the process, print any error, and exit."""
    prepare_streams()
    warnings.showwarning = _show_warning
    compiler = logging.getLogger("lookalike.lsh.compiled")
    compiler.setLevel(logging.INFO)
    compiler.handlers = [_Notices()]
    catch_interrupts()
    # Or Python looks for unused objects when it ends: after Numba, for 0.3 s.
    atexit.register(gc.freeze)
    status = _run(command)
    end_at_once()
    sys.exit(status)


class _Notices(logging.Handler):
    """What takes a while, in a line."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


_usual_warning = warnings.showwarning


def _show_warning(
    message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    """One of lookalike's own in a line without the place in the source; others as usual."""
    if issubclass(category, LookalikeWarning):
        say(f"lookalike: {message}")
    else:
        _usual_warning(message, category, *where, **more)


def _run(command: click.Command) -> int:
    """The exit status of the command, after printing any error."""
    try:
        status = command.main(standalone_mode=False) or 0
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        say(text.getvalue().rstrip("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except LookalikeError as error:
        say(f"lookalike: {visible(str(error))}")
    except OSError as error:
        if error.filename == STDOUT:
            discard(sys.stdout)
            if isinstance(error, BrokenPipeError):  # the reader has seen enough
                return FOUND_NOTHING
        if error.filename is None and current_folder() is None:
            say(f"lookalike: {NO_FOLDER}")
        else:
            name = f"{error.filename}: " if error.filename else ""
            right = "; ask its owner for the right to it, or work as a user who has it"
            remedy = right if isinstance(error, PermissionError) else ""
            say(f"lookalike: {name}{error.strerror or error}{remedy}")
    return FAILED


def _interrupted() -> int:
    end_at_once()
    say("lookalike: interrupted; everything committed is kept, run it again to go on")
    return INTERRUPTED

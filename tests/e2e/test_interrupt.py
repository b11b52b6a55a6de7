"""Ctrl-C ends a command, also where an exception vanishes or must wait."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command import lookalike
from fakes import write_photos

from lookalike import __version__
from lookalike.gallery import Gallery

ROOT = Path(__file__).resolve().parents[2]
PRESS = """
import os, signal, sys

def press():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):  # a handler runs between two instructions
        pass

class Press:
    '''Ctrl-C while a module is imported.'''
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            sys.meta_path.remove(self)
            press()
"""
PRELUDE = f"""
{PRESS}
import ctypes, threading, click
from lookalike.cli import commands, run_command
"""
SWALLOWED = {
    "by what catches everything": "try: press()\n    except BaseException: pass",
    "in a destructor": "type('Half', (), {'__del__': lambda self: press()})()",
    "in a callback from C": "ctypes.CFUNCTYPE(None)(press)()",
}


def run(program: str, *words: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-c", PRELUDE + program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", SWALLOWED)
def test_an_interrupt_that_was_swallowed_comes_again(how: str) -> None:
    program = f"""
@click.command()
def command():
    {SWALLOWED[how]}
    threading.Event().wait(20)
    print("went on")

run_command(command)
"""
    status, out, err = run(program)
    assert (status, out) == (130, ""), err
    (line,) = filter(None, err.splitlines())
    assert line.startswith("lookalike: interrupted; ")


def test_an_interrupt_waits_for_an_import() -> None:
    """One that is left half made may crash the process when it ends."""
    program = """
@click.command()
def command():
    sys.meta_path.insert(0, Press("colorsys"))
    import colorsys
    print(colorsys.rgb_to_hsv(1, 1, 1), flush=True)
    threading.Event().wait(20)
    print("went on")

run_command(command)
"""
    status, out, err = run(program)
    assert (status, out) == (130, "(0.0, 0.0, 1)\n"), err


def test_an_interrupt_that_ended_something_does_not_come_again() -> None:
    """Though its exception lives no longer than what it ended."""
    program = """
from lookalike.cli.interrupt import acknowledge

@click.command()
def command():
    try: press()
    except KeyboardInterrupt: acknowledge()
    threading.Event().wait(0.5)
    print("stopped")

run_command(command)
"""
    assert run(program) == (0, "stopped\n", "")


@pytest.mark.parametrize("when", ["lookalike.cli", "click", "lookalike.cli.upkeep", "at exit"])
def test_an_interrupt_before_and_after_the_command_ends_it_without_a_word(when: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, function = scripts["lookalike"].partition(":")
    program = f"""
import atexit
atexit.register(press) if {when!r} == "at exit" else sys.meta_path.insert(0, Press({when!r}))
from {module} import {function}
{function}()
print("went on")
"""
    command = [sys.executable, "-c", PRESS + program, "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    printed = f"-c, version {__version__}\n" if when == "at exit" else ""
    assert (done.returncode, done.stdout, done.stderr) == (130, printed, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["numpy", "numba", "llvmlite.binding", "onnxruntime", "PIL._imaging"]
)
def test_an_interrupt_while_a_native_module_is_imported_ends_the_command(
    tmp_path: Path, model: Path, module: str
) -> None:
    write_photos(tmp_path, 12)
    program = f"sys.meta_path.insert(0, Press({module!r}))\nrun_command(commands)"
    status, _, err = run(program, "index", tmp_path, "--model", model)
    assert status == 130, err
    assert err.splitlines()[-1].startswith("lookalike: interrupted; ")
    lookalike("index", tmp_path, "--model", model)
    assert len(Gallery.open(tmp_path, create=False)) == 12

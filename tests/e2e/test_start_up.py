"""What a command must not load, since loading it costs more than the command itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes import write_photo

from lookalike import __version__

RUN = """
import sys
from lookalike.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""

HEAVY = {"onnxruntime", "openvino", "numba", "llvmlite", "torch", "rich"}
HEAVY |= {"skimage", "sklearn", "scipy"}
READERS = {"PIL.Image", "PIL.TiffImagePlugin", "PIL.AvifImagePlugin", "PIL.WebPImagePlugin"}


def loaded(cwd: Path, *words: str) -> set[str]:
    """Names of the modules that a command has loaded when it ends."""
    command = [sys.executable, "-c", RUN, *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_loads_nothing_but_click(photos: Path) -> None:
    modules = loaded(photos, "--help")
    assert not modules & (HEAVY | READERS | {"numpy", "sqlite3", "lookalike.gallery"})


@pytest.mark.usefixtures("gallery")
@pytest.mark.parametrize("words", ["info --skipped", "verify", "search a/000.png"])
def test_what_needs_none_loads_no_model_no_kernels_and_no_image_formats(
    photos: Path, words: str
) -> None:
    assert not loaded(photos, *words.split()) & (HEAVY | READERS)


@pytest.mark.usefixtures("gallery")
def test_a_search_loads_nothing_that_it_does_not_use(photos: Path, tmp_path: Path) -> None:
    outside = write_photo(tmp_path / "outside.png", 77)
    modules = loaded(photos, "search", str(outside))
    assert "onnxruntime" in modules
    assert not modules & ((HEAVY | READERS) - {"onnxruntime"})
    assert not modules & {"numpy.ma", "lookalike.lsh.kernels", "lookalike.lsh.coding"}
    assert not modules & {"lookalike.sheet", "lookalike.gallery.update"}


def test_python_does_not_look_for_unused_objects_when_a_command_ends() -> None:
    """It takes 0.3 s after Numba. One that only refers to itself stays as it is."""
    code = """
import gc
from lookalike.cli import main

class Kept:
    def __del__(self):
        print("found")

kept = Kept()
kept.itself = kept
main()
"""
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"-c, version {__version__}\n"

"""Packages that only some commands need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lookalike.errors import MissingExtraError, install_command

PACKAGES = {
    "train": ("torch", "onnx", "onnx_ir", "onnxscript"),
    "onnx": ("onnx",),
    "words": ("onnx", "tokenizers"),
    "web": ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "pydantic", "starlette"),
    "paper": (
        "torch",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "cv2",
        "markdown_it",
        "matplotlib",
        "scipy",
        "sklearn",
    ),
    "watch": ("watchfiles",),
    "cluster": ("fsspec", "pyarrow", "ray"),
}


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Imports inside it that fail for a package of the extra become a MissingExtraError."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES[extra]:
            raise
        raise MissingExtraError(
            f"this command needs {package}: {install_command(extra)}"
        ) from error

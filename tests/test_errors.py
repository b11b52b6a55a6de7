"""The command that installs what is missing."""

from __future__ import annotations

import importlib.metadata

import pytest

from lookalike.errors import install_command

DECLARED = [
    "numpy>=2.0",
    "fastapi>=0.1; extra == 'web'",
    'uvicorn[standard]>=0.3; extra == "web"',
    "lookalike[feedback,onnx]; extra == 'web'",
    "scikit-learn>=1.5; extra == 'feedback'",
    "onnx>=1.17; extra == 'onnx'",
]


def test_packages_of_an_extra_are_named_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """lookalike itself may be installed from a clone, and another package may have its name."""
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: DECLARED)
    assert install_command("feedback") == "pip install 'scikit-learn>=1.5'"
    assert install_command("web") == (
        "pip install 'fastapi>=0.1' 'uvicorn[standard]>=0.3' 'scikit-learn>=1.5' 'onnx>=1.17'"
    )
    assert install_command("unknown") == "pip install 'lookalike[unknown]'"

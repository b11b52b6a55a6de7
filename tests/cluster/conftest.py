"""A Ray cluster for all tests that need one, and the environment that nodes and drivers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rays import ENVIRONMENT


@pytest.fixture(scope="session", autouse=True)
def ray_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ENVIRONMENT.items():
            patch.setenv(variable, value)
        yield


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Of the parts."""
    return tmp_path / "parts"

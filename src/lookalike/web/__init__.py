"""The web page and its HTTP API (extra: web). Importing it imports none of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookalike.web.app import create_app
    from lookalike.web.settings import ServeSettings

__all__ = ["ServeSettings", "create_app"]

_HOMES = {"ServeSettings": "lookalike.web.settings", "create_app": "lookalike.web.app"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lookalike.web' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

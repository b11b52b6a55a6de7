"""The web page and its HTTP API (extra: web)."""

from lookalike.web.app import create_app
from lookalike.web.settings import ServeSettings

__all__ = ["ServeSettings", "create_app"]

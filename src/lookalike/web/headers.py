"""Headers of every answer, which limit what browsers may do with it."""

from __future__ import annotations

__all__ = ["CONTENT", "DEFAULTS", "EVERYWHERE", "PAGE"]

EVERYWHERE: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
]
"""Of every answer."""

PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: nothing inline, nothing from elsewhere."""

CONTENT = b"default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of everything else, images among it: nothing runs."""

DEFAULTS: list[tuple[bytes, bytes]] = [
    (b"content-security-policy", CONTENT),
    (b"cache-control", b"no-store"),
]
"""Of every answer that has none of its own: what is private stays in no cache."""

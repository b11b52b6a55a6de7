"""Who may ask: the right host name, the right origin, the right token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.types import Scope

from lookalike.web.errors import ApiError
from lookalike.web.settings import ServeSettings, is_loopback

__all__ = ["COOKIE", "Guard"]

COOKIE = "lookalike_token"
OPEN = ("/api/health", "/api/session")
"""Paths below /api that need no token."""
Headers = list[tuple[bytes, bytes]]


class Guard:
    """Looks at the head of a request before anything else does."""

    def __init__(self, settings: ServeSettings) -> None:
        self._token = settings.token
        self._local = is_loopback(settings.host)
        names = {"localhost", settings.host, *settings.allowed_hosts}
        self._names = {name.lower().rstrip(".") for name in names}

    def check(self, scope: Scope) -> None:
        """Raises ApiError forbidden or unauthorized."""
        headers: Headers = scope["headers"]
        host = self._check_host([value for name, value in headers if name == b"host"])
        self._check_origin(scope, headers, host)
        if self._token is not None and _needs_token(scope["path"]):
            self._check_token(headers)

    def is_token(self, given: str) -> bool:
        """Compared in a time that tells nothing about it. True if none is needed."""
        if self._token is None:
            return True
        return hmac.compare_digest(_digest(given), _digest(self._token))

    def _check_host(self, hosts: list[bytes]) -> str:
        """A page of somebody else's whose name leads here (DNS rebinding) carries that name."""
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        name = _name_of(host)
        if name in self._names or (name and self._is_own_address(name)):
            return host
        raise ApiError(
            "forbidden",
            "this server does not answer to the host name of the request",
            "use the address that 'lookalike serve' has printed",
        )

    def _is_own_address(self, name: str) -> bool:
        """An address needs no name, so nobody can have made it lead here."""
        try:
            address = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return address.is_loopback or not self._local

    def _check_origin(self, scope: Scope, headers: Headers, host: str) -> None:
        """Pages of other sites may lead here, but neither ask nor embed."""
        origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        foreign = any(origin.partition("://")[2] != host for origin in origins)
        sites = {value for name, value in headers if name == b"sec-fetch-site"}
        if not sites <= {b"same-origin", b"none"}:
            foreign = foreign or scope["path"].startswith(("/api", "/metrics"))
        if foreign:
            raise ApiError(
                "forbidden",
                "the request comes from a page of another site",
                "open the page of this server itself",
            )

    def _check_token(self, headers: Headers) -> None:
        if not any(self.is_token(given) for given in _tokens(headers)):
            raise ApiError(
                "unauthorized",
                "this server wants its token",
                "send the header 'Authorization: Bearer TOKEN', or give it to the page",
            )


def _needs_token(path: str) -> bool:
    return path == "/metrics" or (path.startswith("/api") and path not in OPEN)


def _name_of(host: str) -> str:
    """Without the port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _tokens(headers: Headers) -> Iterable[str]:
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            yield value[7:].decode("latin-1").strip()
        elif name == b"cookie":
            cookie: SimpleCookie = SimpleCookie()
            try:
                cookie.load(value.decode("latin-1"))
            except CookieError:
                continue
            if COOKIE in cookie:
                yield cookie[COOKIE].value


def _digest(text: str) -> bytes:
    """Of one length whatever the text's, which a comparison would give away."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

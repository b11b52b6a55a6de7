"""Who may ask: the right host name, the right origin, the right token.

Starlette's TrustedHostMiddleware knows fixed names only: it would refuse the addresses of this
machine when all are listened on, takes the first of two Host headers, and answers in plain text.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from cachetools import LRUCache
from starlette.requests import cookie_parser
from starlette.types import Scope

from lookalike.web.errors import RETRY_SECONDS, STATUS, ApiError
from lookalike.web.settings import ServeSettings, is_loopback

COOKIE = "lookalike_token"
OPEN = ("/api/health", "/api/session")
"""Paths below /api that need no token."""
TOKENS = 2
"""Looked at in one request: a header and a cookie."""
GUESSES = 20
CLIENTS = 4096
Headers = list[tuple[bytes, bytes]]


class Guard:
    """Looks at the head of a request before anything else does."""

    def __init__(
        self, settings: ServeSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``clock``: seconds, for the guesses that a client has."""
        self._token = settings.token
        self._guesses = Guesses(clock)
        self._is_on_loopback = is_loopback(settings.host)
        self.is_local = self._is_on_loopback and not settings.allowed_hosts
        """Whether only this machine can reach the server, and no proxy leads others to it."""
        self._proxies = {name.lower().rstrip(".") for name in settings.allowed_hosts}
        names = {"localhost", settings.host, *settings.allowed_hosts}
        self._names = {name.lower().rstrip(".") for name in names}

    def check(self, scope: Scope) -> None:
        """Raises ApiError forbidden, unauthorized or too_many_guesses."""
        headers: Headers = scope["headers"]
        host = self._check_host([value for name, value in headers if name == b"host"])
        self._check_origin(scope, headers, host)
        if self._token is not None and _needs_token(scope["path"]):
            self._check_token(scope, headers)

    def is_token(self, scope: Scope, given: str) -> bool:
        """Compared in constant time. True if none is needed.

        Raises:
            ApiError: too_many_guesses, if the client of the request has none left.
        """
        if self._token is None:
            return True
        digest, client = _digest(given), _client_of(scope)
        if self._guesses.is_known(client, digest):
            return False
        if hmac.compare_digest(digest, _digest(self._token)):
            return True
        self._guesses.note(client, digest)
        return False

    def _check_host(self, hosts: list[bytes]) -> str:
        """A request from a foreign page whose name leads here (DNS rebinding) carries that name."""
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        name = _name_of(host)
        if name in self._names or (name and self._is_own_address(name)):
            return host
        raise ApiError(
            "forbidden",
            "this server does not answer to the host name of the request",
            "use the address that 'lookalike serve' has printed; for a proxy's name: serve --proxy",
        )

    def _is_own_address(self, name: str) -> bool:
        """An address is not looked up, so DNS rebinding cannot forge it."""
        try:
            address = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return address.is_loopback or not self._is_on_loopback

    def _check_origin(self, scope: Scope, headers: Headers, host: str) -> None:
        """Pages of other sites may lead here, but neither ask nor embed.

        The name of a proxy may stand for HTTPS, which the proxy has taken off.
        """
        origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        schemes = {scope["scheme"]} | ({"https"} if _name_of(host) in self._proxies else set())
        foreign = not {*origins} <= {_origin(scheme, host) for scheme in schemes}
        sites = {value for name, value in headers if name == b"sec-fetch-site"}
        if not sites <= {b"same-origin", b"none"}:
            foreign = foreign or scope["path"].startswith(("/api", "/metrics"))
        if foreign:
            raise ApiError(
                "forbidden",
                "the request comes from a page of another site",
                "open the page of this server itself",
            )

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        given = islice(_tokens(headers), TOKENS)
        if not any(self.is_token(scope, token) for token in given):
            raise ApiError(
                "unauthorized",
                "this server needs its token",
                "send the header 'Authorization: Bearer TOKEN', or give it to the page",
            )


class Guesses:
    """Wrong tokens of each client: GUESSES at once, and one more every few seconds.

    A client is an IPv4 address or an IPv6 network of 64 bits. A wrong token that comes again, the
    old cookie of a page say, is not another guess. Clients without a guess left are refused before
    the token is looked at, the right one too; the CLIENTS seen last are remembered.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._clients: LRUCache[str, _Client] = LRUCache(CLIENTS)

    def is_known(self, client: str, digest: bytes) -> bool:
        """Whether this one was wrong before. Raises ApiError too_many_guesses."""
        known = self._clients.get(client)
        if known is None:
            return False
        if digest in known.wrong:
            return True
        if known.used(self._clock()) > GUESSES - 1:
            raise ApiError(
                "too_many_guesses",
                "too many wrong tokens came from this address",
                "wait some seconds, then send the right one",
            )
        return False

    def note(self, client: str, digest: bytes) -> None:
        """That it was wrong."""
        known = self._clients.setdefault(client, _Client())
        now = self._clock()
        known.count, known.since = known.used(now) + 1, now
        known.wrong.append(digest)


@dataclass
class _Client:
    count: float = 0.0
    since: float = 0.0
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=GUESSES))

    def used(self, now: float) -> float:
        """Guesses that have not been forgiven yet."""
        return max(0.0, self.count - (now - self.since) / RETRY_SECONDS[STATUS["too_many_guesses"]])


def _client_of(scope: Scope) -> str:
    name: str = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _origin(scheme: str, host: str) -> str:
    """As browsers write it: without the port that belongs to the scheme."""
    return f"{scheme}://{host.removesuffix({'http': ':80', 'https': ':443'}.get(scheme, ''))}"


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
            cookies = cookie_parser(value.decode("latin-1"))
            if COOKIE in cookies:
                yield cookies[COOKIE]


def _digest(text: str) -> bytes:
    """Of one length whatever the text's, which a comparison would give away."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

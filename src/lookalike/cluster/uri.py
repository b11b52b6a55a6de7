"""valkey://host:port/name: where a gallery in a cluster is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from lookalike.errors import GalleryError

__all__ = ["ClusterURI", "is_cluster_uri", "joined"]

_SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PORT = 6379
_EXAMPLE = "valkey://user:password@host:6379,other-host:6379/name?parts=DIR"


def is_cluster_uri(text: object) -> bool:
    """Whether `text` is a string that begins as the URI of a gallery in a cluster does."""
    return isinstance(text, str) and text.partition("://")[0] in _SCHEMES and "://" in text


def joined(host: str, port: int) -> str:
    """host:port, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class ClusterURI:
    """The parts of a URI; `str` and `repr` leave the password out."""

    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    name: str
    parts: str | None = None
    """The folder or URI that holds the truth, if not where the collection says."""

    @classmethod
    def parse(cls, text: str) -> ClusterURI:
        """Parse `text`. User, password, name and `parts` may be percent-encoded.

        GalleryError, with an example and never with the password, for anything wrong.
        """
        if not is_cluster_uri(text):
            raise _refused(text, f"it does not begin with one of {', '.join(_SCHEMES)} and ://")
        try:
            url = urlsplit(text)
        except ValueError:  # brackets that do not match
            raise _refused(text, "its brackets do not match") from None
        query = "" if url.query.startswith("parts=") else url.query
        if "@" in url.path + query + url.fragment:
            raise _refused(text, "in user and password write %2F for /, %3F for ? and %23 for #")
        if url.fragment:
            raise _refused(text, "it has a #")
        login, _, hosts = url.netloc.rpartition("@")
        user, password = _login(text, login)
        return cls(
            tls=_SCHEMES[url.scheme],
            user=user,
            password=password,
            hosts=tuple(_host(text, host) for host in hosts.split(",")),
            name=_name(text, url.path),
            parts=_parts(text, url.query),
        )

    def __str__(self) -> str:
        login = f"{self.user or ''}:***@" if self.password else ""
        hosts = ",".join(joined(host, port) for host, port in self.hosts)
        parts = f"?parts={self.parts}" if self.parts else ""
        return f"{'valkeys' if self.tls else 'valkey'}://{login}{hosts}/{self.name}{parts}"


def _login(text: str, login: str) -> tuple[str | None, str | None]:
    user, _, password = login.partition(":")
    if login and not password:
        raise _refused(text, "it has a user without a password; write user:password@ or :password@")
    return unquote(user) or None, unquote(password) or None


def _host(text: str, host: str) -> tuple[str, int]:
    name, port = host, ""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        if port and not port.startswith(":"):
            raise _refused(text, "something other than :port follows ]")
        port = port[1:]
    elif host.count(":") > 1:
        raise _refused(text, "an IPv6 address wants brackets, as in [::1]:6379")
    else:
        name, _, port = host.partition(":")
    if not name:
        raise _refused(text, "a host is missing")
    try:
        name.encode("idna")
    except UnicodeError:
        raise _refused(text, "a host's name is none that could be looked up") from None
    if not port:
        return name, _PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise _refused(text, "a port must be a number from 1 to 65535")
    return name, int(port)


def _name(text: str, path: str) -> str:
    name = unquote(path[1:])
    if not name:
        raise _refused(text, "the name of a collection is missing after the hosts")
    if not _NAME.fullmatch(name):
        raise _refused(
            text,
            f"no collection can be called {name[:80]!r}: 1 to 64 of the letters A-Z a-z, "
            "digits and . _ -, the first a letter or digit",
        )
    return name


def _parts(text: str, query: str) -> str | None:
    options = parse_qsl(query, keep_blank_values=True)
    if unknown := [key for key, _ in options if key != "parts"]:
        raise _refused(text, f"it has the option {unknown[0][:40]!r}, and only parts=DIR is known")
    if len(options) > 1:
        raise _refused(text, "parts= is given twice")
    if options and not options[0][1]:
        raise _refused(text, "parts= is empty")
    return options[0][1] if options else None


def _refused(text: str, why: str) -> GalleryError:
    start, found, rest = text.partition("://")
    shown = f"{start}://{'***@' * ('@' in rest)}{rest.rpartition('@')[2]}" if found else text
    return GalleryError(f"{shown} is no address of a gallery: {why}. Example: {_EXAMPLE}")

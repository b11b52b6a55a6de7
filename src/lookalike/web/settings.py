"""How to serve a gallery: where, for whom, and within which limits."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, fields

_TOKEN = re.compile(r"[!#-+\--:<-\[\]-~]{8,200}")  # what a cookie can hold
_HOST = re.compile(r"[0-9A-Za-z_.:%-]{1,255}")


@dataclass(frozen=True)
class ServeSettings:
    """ValueError for what cannot be, or would open the gallery to a network without a token.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        token: what a client must show; needed unless ``host`` is a loopback address.
        allowed_hosts: further names by which browsers may call this server, a proxy's say.
        max_upload_bytes, max_upload_pixels: of an image to search with; checked before decoding.
        max_upload_memory: bytes of all uploads that are in memory at one time.
        upload_seconds: within which an upload must have arrived.
        decoders: processes that decode uploads, and as many for the gallery's own files.
        decode_seconds: after which a process that still decodes one image is ended.
        search_threads: how many searches run at once.
        waiting: requests that may wait for each of these; more are refused (503, Retry-After).
        answer_seconds: how long a request waits for its turn and its answer together.
        max_queries, query_seconds: images dropped on the page that are kept, and for how long.
        max_thumbnail_bytes: of all thumbnails kept on disk; those not used longest go first.
        max_connections: at one time; a new one takes the place of the one that has kept the server
            waiting longest, or is refused if all are being answered.
        header_seconds: within which a client must have sent the head of its request.
        stall_seconds: after which a client that does not take its answer is dropped.
        max_streams: clients that may watch an update.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    max_upload_bytes: int = 32 << 20
    max_upload_pixels: int = 50_000_000
    max_upload_memory: int = 256 << 20
    upload_seconds: float = 30.0
    decoders: int = 2
    decode_seconds: float = 10.0
    search_threads: int = 4
    waiting: int = 32
    answer_seconds: float = 30.0
    max_queries: int = 64
    query_seconds: float = 1800.0
    max_thumbnail_bytes: int = 1 << 30
    max_connections: int = 512
    header_seconds: float = 10.0
    stall_seconds: float = 30.0
    max_streams: int = 16

    def __post_init__(self) -> None:
        kinds = {"int": (int,), "float": (int, float)}
        for name, kind in ((field.name, str(field.type)) for field in fields(self)):
            value = getattr(self, name)
            if name == "port" or kind not in kinds:
                continue
            if type(value) not in kinds[kind] or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive {kind}, not {value!r}")
        if type(self.port) is not int or not 0 <= self.port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, not {self.port!r}")
        for host in (self.host, *self.allowed_hosts):
            if not isinstance(host, str) or not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a name or address of a host")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError(
                "the token must have 8 to 200 characters of ASCII without spaces, commas, "
                "semicolons, quotation marks and backslashes"
            )
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached by others, who would see every image: give a token "
                f"that they must know (--token), or listen on 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False

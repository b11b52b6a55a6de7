"""Connections to each server of a cluster, kept open between calls and shared by threads."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any

from valkey.cluster import ClusterParser
from valkey.connection import Connection, ConnectionPool, SSLConnection

from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.topology import Address

__all__ = ["Pools"]

_CONNECT_SECONDS = 2.0


class Pools:
    """One pool of connections per server."""

    def __init__(self, uri: ClusterURI) -> None:
        self._settings: dict[str, Any] = {
            "connection_class": SSLConnection if uri.tls else Connection,
            "username": uri.user,
            "password": uri.password,
            "parser_class": ClusterParser,
            "socket_timeout": _CONNECT_SECONDS,  # while connecting; `pipeline` sets its own then
            "socket_keepalive": True,
            "lib_name": None,  # else two more exchanges for every connection
            "lib_version": None,
        }
        if uri.tls:
            self._settings["ssl_check_hostname"] = True
        self._lock = Lock()
        self._pools: dict[Address, Any] = {}

    def of(self, address: Address) -> Any:
        """The pool (`valkey.ConnectionPool`) of the server at `address`."""
        pool = self._pools.get(address)
        if pool is None:
            with self._lock:
                host, port = address
                pool = self._pools.setdefault(
                    address, ConnectionPool(host=host, port=port, **self._settings)
                )
        return pool

    def keep(self, addresses: Iterable[Address]) -> None:
        """Close idle connections to all other servers."""
        with self._lock:
            for address in set(self._pools).difference(addresses):
                self._pools.pop(address).disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close idle connections; one in use is closed when its caller is done with it."""
        self.keep(())

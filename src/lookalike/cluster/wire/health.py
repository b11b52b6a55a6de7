"""Whether the servers that a URI names can hold a gallery, and what they say of their cluster."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterable
from typing import Any

from valkey.exceptions import AuthenticationError, NoPermissionError, ResponseError, ValkeyError

from lookalike.cluster.uri import ClusterURI, joined
from lookalike.cluster.wire.outcome import refusal
from lookalike.cluster.wire.pipeline import Piece, exchange, pack
from lookalike.cluster.wire.pools import Pools
from lookalike.cluster.wire.topology import Address, Command, Topology
from lookalike.errors import ClusterError

__all__ = ["ask", "first_view", "look_around"]

_ASK_SECONDS = 1.0
_OPEN_SECONDS = 5.0
_SLOTS = (b"CLUSTER", b"SLOTS")
_LEAST = {"valkey": (7, 2), "redis": (6, 2)}


def ask(pools: Pools, address: Address, command: Command, end: float) -> Any:
    """One server's reply to one command. ValkeyError or OSError if there is none, or an error."""
    piece = Piece(address, [0], [pack(command)])
    result = exchange(pools, [(piece, [])], end)[0]
    if isinstance(result, Exception):
        raise result
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


def look_around(
    uri: ClusterURI, pools: Pools, nodes: Iterable[Address], down: set[Address], end: float
) -> Topology | None:
    """The cluster as one of its servers sees it, or None if nobody says anything before `end`.

    Any server may be asked, in random order, since one that is cut off has an old view for a while.
    Those that are `down` come last.
    """
    known = [*{*nodes, *uri.hosts}]
    random.shuffle(known)
    for address in sorted(known, key=down.__contains__):
        now = time.monotonic()
        if now >= end:
            return None
        try:
            reply = ask(pools, address, _SLOTS, min(end, now + _ASK_SECONDS))
        except (ValkeyError, OSError):
            continue
        view = Topology.parse(reply, address)
        if view.primaries:
            pools.keep(view.nodes.union(uri.hosts))
            return view
    return None


def first_view(uri: ClusterURI, pools: Pools, end: float) -> Topology:
    """Check the servers in `uri` one after the other and return the view of the first that answers.

    ClusterError if none answers, or the first that does cannot hold a gallery; with the remedy.
    """
    silent: list[str] = []
    for address in uri.hosts:
        limit = min(end, time.monotonic() + _OPEN_SECONDS)
        try:
            facts = _facts(ask(pools, address, (b"INFO",), limit))
            _check(address, facts)
            view = Topology.parse(ask(pools, address, _SLOTS, limit), address)
        except (AuthenticationError, NoPermissionError) as error:
            raise _login(uri, address, error) from error
        except ResponseError as error:
            raise refusal(None, address, error) from error
        except (ValkeyError, OSError) as error:
            silent.append(f"{joined(*address)}: {_reason(uri, error)}")
        else:
            _check_slots(address, view)
            _check_reach(pools, view, address, end)
            return view
    host, port = uri.hosts[0]
    raise ClusterError(
        f"no server of {uri} answers ({'; '.join(silent)}). Is Valkey running there? Check with "
        f"`valkey-cli -h {host} -p {port} ping`"
    )


def _facts(info: bytes) -> dict[str, str]:
    """The lines key:value of INFO."""
    lines = info.decode("utf-8", "replace").splitlines()
    return {key: value for key, _, value in (line.partition(":") for line in lines)}


def _check(address: Address, facts: dict[str, str]) -> None:
    where = joined(*address)
    kind = "valkey" if "valkey_version" in facts else "redis"
    version = facts.get(f"{kind}_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _LEAST[kind]:
        raise ClusterError(
            f"{where} runs {kind} {version or 'of an unknown version'}; a gallery needs Valkey 7.2 "
            "or Redis 6.2, or later"
        )
    if facts.get("cluster_enabled") != "1":
        raise ClusterError(
            f"{where} is a single server (cluster_enabled:0), not part of a cluster; start servers "
            "with --cluster-enabled yes and join them with `valkey-cli --cluster create`"
        )


def _check_slots(address: Address, view: Topology) -> None:
    if view.unowned:
        raise ClusterError(
            f"the cluster of {joined(*address)} is not complete: {view.unowned} of 16384 slots "
            "have no server; join the servers with `valkey-cli --cluster create`, or assign the "
            f"slots with `valkey-cli --cluster fix {joined(*address)}`"
        )


def _check_reach(pools: Pools, view: Topology, asked: Address, end: float) -> None:
    """ClusterError if no primary can be reached at the address that it gives of itself."""
    silent: list[str] = []
    for address in view.primaries:
        try:
            ask(pools, address, (b"PING",), min(end, time.monotonic() + _OPEN_SECONDS))
        except (ValkeyError, OSError) as error:
            silent.append(f"{joined(*address)}: {error}")
        else:
            return
    raise ClusterError(
        f"{joined(*asked)} answers, but no primary does at the address it announces "
        f"({'; '.join(silent)}). If these addresses are not reachable from here, set "
        "cluster-announce-ip (or -hostname) on the servers"
    )


def _login(uri: ClusterURI, address: Address, error: Exception) -> ClusterError:
    where = joined(*address)
    if isinstance(error, NoPermissionError):
        return ClusterError(
            f"the user {uri.user or 'default'!r} of {where} may not do what a gallery needs "
            f"({error}); allow it with ACL SETUSER"
        )
    if "without any password" in str(error) or "no password is set" in str(error):
        return ClusterError(f"{where} wants no password; leave it out of the URI")
    if uri.password is None:
        return ClusterError(
            f"{where} wants a password; give it as in valkey://:password@host:port/name"
        )
    return refusal(None, address, error)


def _reason(uri: ClusterURI, error: Exception) -> str:
    """What went wrong while connecting, with a hint where TLS may be the cause."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return (
                f"{error}; put the certificate of its authority into a file and name that in the "
                "environment variable SSL_CERT_FILE"
            )
        seen = seen.__cause__ or seen.__context__
    if uri.tls:
        return f"{error}; if it does not speak TLS write valkey:// instead of valkeys://"
    if "closed by server" in str(error):
        return f"{error}; if it speaks TLS write valkeys:// instead of valkey://"
    return str(error)

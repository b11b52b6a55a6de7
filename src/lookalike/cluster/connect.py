"""Joining a Ray cluster, or an error within a minute that says why not.

Ray is imported here when it is needed, and by nothing else in this package at import.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lookalike.errors import ClusterError, extra_needed

NAMESPACE = "lookalike"
CONNECT_SECONDS = 3.0
# Else Ray tries for a quarter of an hour to reach a head that is not there.
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_gcs_server_request_timeout_seconds": "10"}
VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_joining = threading.Lock()


def join(address: str | None = None) -> Any:
    """The module ``ray``, connected; a connection that this process has already is used.

    Args:
        address: HOST:PORT of the head; None: RAY_ADDRESS, or the cluster that this machine started
            last.

    Raises:
        ClusterError: no Ray that this process could join answers. MissingExtraError.
    """
    with _joining:
        for name, value in IMPATIENT.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Of two replicas that were asked, one is listened to.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        with extra_needed("cluster", "this"):
            import ray
        if ray.is_initialized():
            return ray
        if address is not None and not is_listening(address):
            raise ClusterError(
                f"no Ray at {address}: nothing listens there; start one with: ray start --head "
                f"--port=PORT"
            )
        try:
            ray.init(
                address=address or os.environ.get("RAY_ADDRESS") or "auto",
                namespace=NAMESPACE,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:  # of several kinds, also bare ones
            raise ClusterError(_why(address or "the usual address", str(error))) from error
        return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """As `join`, and disconnected at the end unless it was connected before."""
    loaded = sys.modules.get("ray")
    before = loaded is not None and loaded.is_initialized()
    ray = join(address)
    try:
        yield ray
    finally:
        if not before:
            ray.shutdown()


def is_listening(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT.

    Raises:
        ClusterError: that is not a HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not re.fullmatch(r"\d{1,5}", port):
        raise ClusterError(
            f"{address!r} is not the address of a Ray cluster; give HOST:PORT of its head, such as "
            f"192.0.2.7:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _why(address: str, said: str) -> str:
    """Our message for Ray's."""
    versions = VERSIONS.findall(said)
    if "ersion mismatch" in said and len(versions) >= 2:
        (theirs, their_python), (ours, our_python) = versions[:2]
        return (
            f"Ray at {address} is Ray {theirs} on Python {their_python}, here is Ray {ours} on "
            f"Python {our_python}; all machines of the cluster must have the same versions of both"
        )
    if "No node info found" in said or "node that has matching IP" in said:
        return (
            f"this machine is not a node of the Ray cluster at {address}; make it one with: ray "
            f"start --address={address}, with --num-cpus=0 if it is not to work itself"
        )
    if "Could not find any running" in said:
        return (
            "no Ray cluster is known here; give the address of its head, set RAY_ADDRESS, or start "
            "one with: ray start --head --port=PORT"
        )
    if "imed out" in said or "Failed to connect" in said or "uthenticat" in said:
        return (
            f"Ray at {address} does not answer this process: what listens there is not Ray's head, "
            f"or it needs another token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or "
            f"RAY_AUTH_TOKEN_PATH as its nodes have them"
        )
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "no message")
    return f"cannot join the Ray cluster at {address}: {last.strip()}"

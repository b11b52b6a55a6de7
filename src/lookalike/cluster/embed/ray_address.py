"""Whether a Ray cluster answers at an address, found out within seconds.

Ray itself tries for a quarter of an hour to reach a head that is not there, inside a call that
nothing interrupts. So another process tries first, for at most half a minute.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

from lookalike.errors import ClusterError

__all__ = ["NO_REPORTS", "check_cluster", "listens"]

TRY_SECONDS = 30.0
CONNECT_SECONDS = 3.0
TRY = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_gcs_server_request_timeout_seconds": "8"}
NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Of what is used, to Ray's makers."""
VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def check_cluster(address: str) -> None:
    """Raises ClusterError: no Ray that this process could join answers at HOST:PORT."""
    if not listens(address):
        raise ClusterError(
            f"no Ray at {address}: nothing listens there; start one with: ray start --head "
            f"--port=PORT, or leave out --address to work in this process alone"
        )
    try:
        tried = subprocess.run(
            [sys.executable, "-c", TRY, address],
            env={**os.environ, **IMPATIENT, **NO_REPORTS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRY_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"no Ray at {address}: something listens there, but did not answer as Ray's head does "
            f"within {TRY_SECONDS:g} s; give the address that 'ray start --head' printed"
        ) from error
    if tried.returncode != 0:
        raise ClusterError(_why(address, tried.stderr))


def listens(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT.

    Raises:
        ClusterError: that is no HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not re.fullmatch(r"\d{1,5}", port):
        raise ClusterError(
            f"{address!r} is no address of a Ray cluster; give HOST:PORT of its head, such as "
            f"192.0.2.7:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _why(address: str, told: str) -> str:
    """Our message for what the attempt wrote to stderr."""
    versions = VERSIONS.findall(told)
    if "ersion mismatch" in told and len(versions) >= 2:
        (theirs, their_python), (ours, our_python) = versions[:2]
        return (
            f"Ray at {address} is Ray {theirs} on Python {their_python}, here is Ray {ours} on "
            f"Python {our_python}; all machines of the cluster must have the same versions of both"
        )
    if "AuthenticationError" in told or "InvalidAuthToken" in told:
        return (
            f"Ray at {address} wants another token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or "
            f"RAY_AUTH_TOKEN_PATH as its nodes have them"
        )
    if "No node info found" in told:
        return (
            f"this machine is no node of the Ray cluster at {address}; make it one with: ray start "
            f"--address={address}, with --num-cpus=0 if it is not to work itself"
        )
    if "imed out" in told or "GCS" in told:
        return (
            f"no Ray at {address}: something listens there, but does not answer as Ray's head "
            f"does; give the address that 'ray start --head' printed"
        )
    last = next((line for line in reversed(told.splitlines()) if line.strip()), "no message")
    return f"cannot join the Ray cluster at {address}: {last.strip()}"

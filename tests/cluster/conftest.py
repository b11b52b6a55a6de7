"""Six real servers for all tests of the cluster room."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from servers import Servers

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three masters and three replicas; whoever harms them calls `heal` afterwards."""
    started = Servers.start(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture
def name(servers: Servers) -> Iterator[str]:
    """A collection's name that nobody else has; its keys are deleted afterwards."""
    unique = f"test-{next(_numbers)}"
    yield unique
    for node in servers.masters():
        for pattern in (f"?:{unique}", f"?:{unique}:*"):
            for key in node.client.scan_iter(pattern, count=1000):
                node.client.unlink(key)

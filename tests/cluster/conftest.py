"""Six real servers for all tests of the cluster room, and the environment of Ray."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from rays import ENVIRONMENT
from served import serve
from servers import Servers

from lookalike.cluster.gallery import ClusterGallery

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def ray_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ENVIRONMENT.items():
            patch.setenv(variable, value)
        yield


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


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Of the parts."""
    return tmp_path / "parts"


@pytest.fixture
def uri(servers: Servers, name: str) -> str:
    return servers.uri(name)


@pytest.fixture
def served(photos: Path, where: Path, uri: str, model: Path) -> ClusterGallery:
    """The gallery of `photos` in the cluster."""
    return serve(photos, where, uri, model)

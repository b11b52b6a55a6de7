from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
from rays import wait_until

from lookalike.cluster.lease import Lease, is_unfinished
from lookalike.cluster.storage import Storage
from lookalike.errors import GalleryLockedError


@pytest.fixture(params=["path", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "memory":
        return Storage(f"memory://{uuid.uuid4().hex}/parts")
    return Storage(str(tmp_path / "parts"))


def leases(storage: Storage) -> list[str]:
    return [name for name in storage.names() if name.startswith("lease-")]


def test_one_writes_at_a_time_and_the_other_learns_who_or_waits(storage: Storage) -> None:
    first = Lease.acquire(storage)
    first.check()
    with pytest.raises(GalleryLockedError, match=r"is being written by process \d+ of .*--wait"):
        Lease.acquire(storage)
    timer = threading.Timer(0.2, first.__exit__, (None,))
    timer.start()
    with Lease.acquire(storage, wait=20.0) as second:
        second.check()
    timer.join()
    assert leases(storage) == ["lease-000000002.json"]


def test_a_lease_that_is_not_renewed_is_free_and_its_holder_may_not_write(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "_renew", lambda self: None)  # as if it were suspended
    first = Lease.acquire(storage, ttl=0.2)
    with pytest.raises(GalleryLockedError, match=r"free after 0 s"):
        Lease.acquire(storage)
    with Lease.acquire(storage, wait=20.0) as second:
        second.check()
        with pytest.raises(GalleryLockedError, match="has ended"):
            first.check()
        first.__exit__(None)  # and does not take it from the second
        second.check()
        with pytest.raises(GalleryLockedError):
            Lease.acquire(storage)


@pytest.mark.slow
def test_a_lease_is_renewed_while_it_is_held(storage: Storage) -> None:
    with Lease.acquire(storage, ttl=3.0):
        seen = set[bytes]()

        def is_renewed_twice() -> bool:
            seen.add(storage.read("lease-000000001.json"))
            return len(seen) == 3

        wait_until(is_renewed_twice, 120, "it is renewed")


def test_of_many_who_want_a_free_one_at_once_one_gets_it(tmp_path: Path) -> None:
    got: list[Lease] = []
    refused: list[GalleryLockedError] = []

    def take() -> None:
        try:
            got.append(Lease.acquire(Storage(str(tmp_path))))
        except GalleryLockedError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].__exit__(None)


def test_a_writer_that_failed_or_was_killed_counts_as_unfinished(storage: Storage) -> None:
    assert not is_unfinished(storage)
    with Lease.acquire(storage):
        assert is_unfinished(storage)
    assert not is_unfinished(storage)
    with pytest.raises(KeyboardInterrupt), Lease.acquire(storage):
        raise KeyboardInterrupt
    assert is_unfinished(storage)
    with Lease.acquire(storage):
        pass
    assert not is_unfinished(storage)


@pytest.mark.parametrize("damage", [b"", b"12", b'{"until": null}', b'{"holder": "x"}'])
def test_a_damaged_lease_is_free(storage: Storage, damage: bytes) -> None:
    storage.write("lease-000000007.json", damage)
    assert not is_unfinished(storage)
    with Lease.acquire(storage):
        assert leases(storage) == ["lease-000000008.json"]

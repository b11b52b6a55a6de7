"""Bounded threads with a bounded queue, and what is loaded when there is time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from lookalike.web.errors import ApiError
from lookalike.web.workers import WorkerPool


async def refusal(pool: WorkerPool, work: Callable[[float], object], seconds: float) -> str:
    with pytest.raises(ApiError) as caught:
        await pool.run(work, seconds)
    return caught.value.code


@pytest.mark.parametrize("abandon", [False, True])
def test_a_pool_frees_a_place_when_the_work_is_done_not_when_the_wait_is_over(
    abandon: bool,
) -> None:
    pool = WorkerPool("work", 1, 0, 0.05, abandon=abandon)
    release = threading.Event()

    async def run() -> None:
        assert await refusal(pool, release.wait, 60) == "timeout"
        assert await refusal(pool, time.sleep, 0) == "busy"
        release.set()
        while pool.taken:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    pool.close(wait=True)


@pytest.mark.parametrize("abandon", [False, True])
def test_a_pool_runs_so_many_at_once_in_order_and_nothing_once_it_is_closed(abandon: bool) -> None:
    pool = WorkerPool("work", 2, 10, 60.0, abandon=abandon)
    began: list[int] = []
    release = threading.Event()

    def work(number: int) -> int:
        began.append(number)
        assert release.wait(60)
        return number

    def fail() -> None:
        raise KeyError("of its own")

    async def run() -> None:
        tasks = [asyncio.create_task(pool.run(work, number)) for number in range(5)]
        while len(began) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert sorted(began) == [0, 1] and pool.taken == 5
        release.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        with pytest.raises(KeyError, match="of its own"):
            await pool.run(fail)
        pool.close()
        assert await refusal(pool, time.sleep, 0) == "busy"
        assert pool.taken == 0

    asyncio.run(run())


def test_closing_cancels_what_has_not_begun() -> None:
    pool = WorkerPool("work", 1, 10, 60.0, abandon=True)
    began: list[int] = []
    release = threading.Event()

    def work(number: int) -> None:
        began.append(number)
        release.wait(60)

    async def run() -> None:
        tasks = [asyncio.create_task(pool.run(work, number)) for number in range(2)]
        while not began:
            await asyncio.sleep(0.01)
        pool.close()
        release.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[0] is None and isinstance(done[1], asyncio.CancelledError)

    asyncio.run(run())
    assert began == [0]

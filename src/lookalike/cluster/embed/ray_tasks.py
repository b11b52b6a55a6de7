"""Chunks on their way through a Ray cluster: one task each, done again if its worker is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from lookalike.cluster.embed.chunk import Chunk, ChunkReport, embed_chunk
from lookalike.errors import ClusterError, LookalikeError

__all__ = ["RayTasks"]

TRIES = 10
"""Losses of a chunk's worker after which the chunk itself is taken for the cause."""
TASKS_PER_SLOT = 2
"""Submitted for each that can run at once, so that no worker waits for the driver."""


def _embed(where: str, chunk: Chunk, options: Mapping[str, Any]) -> ChunkReport:
    """What a worker does."""
    return embed_chunk(where, chunk, **options)


class RayTasks:
    """Tasks for the chunks of the job in ``where``.

    Args:
        ray: the module, connected.
        options: keyword arguments of `embed_chunk`.
        cpus, gpus: what each task reserves.
        tell: called with a line for people when a worker was lost.
    """

    def __init__(
        self,
        ray: ModuleType,
        where: str,
        options: Mapping[str, Any],
        *,
        cpus: int,
        gpus: float,
        tell: Callable[[str], None],
    ) -> None:
        self._ray, self._where, self._options = ray, where, dict(options)
        self._cpus, self._gpus, self._tell = cpus, gpus, tell
        self._running: dict[Any, Chunk] = {}
        self._again: deque[Chunk] = deque()
        self._losses: Counter[int] = Counter()
        # Not max_retries=-1: Ray would hand a chunk that kills its worker to others for ever.
        self._remote = ray.remote(_embed).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)

    def __len__(self) -> int:
        """How many are submitted and not known to be done."""
        return len(self._running)

    @property
    def reserved(self) -> str:
        """What a task reserves, for people."""
        gpus = f" and {self._gpus:g} GPU" if self._gpus else ""
        return f"{self._cpus} CPU{gpus}"

    def slots(self) -> int:
        """How many tasks the nodes that are alive now can run at once."""
        return sum(self._fit(node["Resources"]) for node in self._ray.nodes() if node["Alive"])

    def _fit(self, has: Mapping[str, float]) -> int:
        fit = has.get("CPU", 0) // self._cpus
        return int(min(fit, has.get("GPU", 0) / self._gpus) if self._gpus else fit)

    def submit(self, waiting: Iterator[Chunk], slots: int) -> None:
        """Submit chunks that were lost or come next, until there is enough for ``slots``."""
        while len(self._running) < TASKS_PER_SLOT * max(1, slots):
            chunk = self._again.popleft() if self._again else next(waiting, None)
            if chunk is None:
                return
            self._running[self._remote.remote(self._where, chunk, self._options)] = chunk

    def finished(self, seconds: float) -> Iterator[tuple[Chunk, ChunkReport]]:
        """A chunk that gets done within ``seconds``, if any does.

        Raises:
            ClusterError: the chunk has lost its worker too often, or failed there for a reason that
                is not ours. Also what `embed_chunk` raises.
        """
        for reference in self._ray.wait(list(self._running), timeout=seconds)[0]:
            chunk = self._running.pop(reference)
            report = self._report(reference, chunk)
            if report is not None:
                yield chunk, report

    def _report(self, reference: Any, chunk: Chunk) -> ChunkReport | None:
        """None if the worker was lost; the chunk is then to be submitted again."""
        errors = self._ray.exceptions
        try:
            report: ChunkReport = self._ray.get(reference)
            return report
        except errors.RayTaskError as error:
            if isinstance(error.cause, LookalikeError | OSError):
                raise error.cause from error
            raise ClusterError(
                f"chunk {chunk.number} failed on a worker: {error.cause!r}; check that all "
                f"machines of the cluster have the same lookalike installed"
            ) from error
        except errors.RayError as error:
            self._lost(chunk, error)
            return None

    def _lost(self, chunk: Chunk, error: Exception) -> None:
        self._losses[chunk.number] += 1
        self._again.append(chunk)
        why = type(error).__name__
        if self._losses[chunk.number] < TRIES:
            self._tell(f"chunk {chunk.number} has lost its worker ({why}); it is done again")
            return
        raise ClusterError(
            f"chunk {chunk.number}, from {chunk.items[0]!r} to {chunk.items[-1]!r}, has lost its "
            f"worker {TRIES} times ({why}); if one of its images needs too much memory, try a "
            f"smaller --max-pixels"
        ) from error

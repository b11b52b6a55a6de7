"""The actors that serve a gallery: started, found, counted, exchanged and stopped.

Which deployment a gallery's name means is kept in the key-value store of Ray's head, as one value
for all names, so that `switch` is one write.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from lookalike.cluster.actor import ShardActor
from lookalike.cluster.connect import NAMESPACE, join
from lookalike.cluster.parts import Parts
from lookalike.cluster.shard import Place, delete_cached
from lookalike.encoder import ModelInfo
from lookalike.errors import ClusterError, ClusterStoppedError

KEY = b"galleries"
QUEUE = 64
"""Questions that may wait at an actor: more are refused, see `ClusterBusyError`."""
CALLS = 16
"""Calls of Ray that an actor runs at once: `status`, and waiting for a commit."""
DRAIN_SECONDS = 2.0
"""From taking replicas out of the list to ending them: clients read the list once a second."""
POLL_SECONDS = 0.2
STATUS_SECONDS = 5.0
START_SECONDS = 60.0
"""In which one more actor must have started, if some have not; what it builds may take longer."""
CLEAR_SECONDS = 60.0
Show = Callable[[int, int], None]
"""Called with how many actors are ready, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a gallery is served.

    Attributes:
        replicas: of each shard.
        cpus, memory: what each actor reserves; memory in bytes, 0: nothing.
        threads: searches that an actor runs at once.
        cache: folder of the shards' files on each node; "": see `default_cache`.
    """

    shards: int = 1
    replicas: int = 1
    cpus: float = 1.0
    memory: int = 0
    threads: int = 2
    cache: str = ""

    def places(self) -> list[tuple[int, int]]:
        """All shards with all replicas."""
        return [(s, r) for r in range(self.replicas) for s in range(self.shards)]


@dataclass(frozen=True, kw_only=True)
class Deployment(Layout):
    """The actors that serve a gallery, or are being started.

    Attributes:
        id: of the actors, whose names are ID/SHARD/REPLICA.
        where: folder or URI of the parts.
        model: SHA-256 of the model; root: what paths are relative to.
    """

    id: str
    where: str
    model: dict[str, Any]
    root: str

    @cached_property
    def known_model(self) -> ModelInfo:
        """What the embeddings were made with."""
        return ModelInfo.from_dict(self.model)

    def actor(self, shard: int, replica: int) -> str:
        return f"{self.id}/{shard}/{replica}"


def deployments() -> dict[str, Deployment]:
    """All galleries of the cluster that this process is connected to, by name."""
    from ray.experimental import internal_kv

    found = internal_kv._internal_kv_get(KEY, namespace=NAMESPACE.encode())
    named = json.loads(found) if found else {}
    return {name: Deployment(**values) for name, values in named.items()}


def _keep(changes: Mapping[str, Deployment | None]) -> None:
    """Note what names mean from now on; None: nothing."""
    from ray.experimental import internal_kv

    named = {**deployments(), **changes}
    text = json.dumps({name: asdict(found) for name, found in named.items() if found is not None})
    internal_kv._internal_kv_put(KEY, text.encode(), True, namespace=NAMESPACE.encode())


def find(name: str, advice: str = "") -> Deployment:
    """Raises ClusterStoppedError: there is no gallery of that name."""
    named = deployments()
    if name not in named:
        raise ClusterStoppedError(
            f"this Ray cluster serves no gallery '{name}'; it serves "
            f"{', '.join(sorted(named)) or 'none'}{advice}"
        )
    return named[name]


# ---- commands ------------------------------------------------------------------------------------


def start(
    where: str,
    name: str,
    layout: Layout = Layout(),
    *,
    address: str | None = None,
    deadline: float = 3600.0,
    progress: Show = lambda done, total: None,
) -> Deployment:
    """Start S x R actors for the parts in ``where``, and wait until all answer.

    Given again it starts what is missing of the same gallery, also of one whose start was killed.

    Raises:
        GalleryError: no parts, or incomplete ones.
        ClusterError: another gallery has the name, or another name these shards; there is no room
            for the actors; or a shard cannot be built.
    """
    if not name or "/" in name or "@" in name:
        raise ClusterError(f"{name!r} is not a name of a gallery; leave out / and @")
    parts = Parts.open(where)
    parts.check_complete()
    ray = join(address)
    made = Deployment(
        **asdict(layout),
        id=f"{name}-{secrets.token_hex(4)}",
        where=parts.where,
        model=parts.job.model.as_dict(),
        root=parts.job.root,
    )
    named = deployments()
    served = {(known.where, known.shards): other for other, known in named.items()}
    if (other := served.get((made.where, made.shards), name)) != name:
        raise ClusterError(
            f"{made.where} is served in {made.shards} shards as '{other}' already; to serve it as "
            f"'{name}': lookalike cluster stop {other}, then start it"
        )
    if (known := named.get(name)) is not None:
        if (known.where, known.shards) != (made.where, made.shards):
            raise ClusterError(
                f"'{name}' is served from {known.where} in {known.shards} shards; start this one "
                f"under another name, then: lookalike cluster switch {name} OTHER"
            )
        made = replace(made, id=known.id, replicas=max(made.replicas, known.replicas))
    _grow(ray, name, made, known, deadline, progress)
    return made


def _grow(
    ray: Any,
    name: str,
    made: Deployment,
    before: Deployment | None,
    deadline: float,
    progress: Show,
) -> None:
    """Start the actors that ``before`` does not have; if they do not all answer, end them again."""
    if before is None:
        _keep({name: made})  # so that the actors are known if this process is killed
    _launch(ray, made)
    try:
        _wait(ray, made, deadline, progress)
    except BaseException:
        kept = set() if before is None else set(before.places())
        _end(ray, [made.actor(*place) for place in made.places() if place not in kept])
        _keep({name: before})
        raise
    _keep({name: made})


def _launch(ray: Any, made: Deployment) -> None:
    """Create the actors that do not exist; copies of a shard on different nodes, if there are."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) > 0]
    if not nodes:
        raise ClusterError("no node of the Ray cluster has CPUs; add one with: ray start --address")
    actor = ray.remote(max_concurrency=CALLS)(ShardActor)
    for shard, replica in made.places():
        actor.options(
            name=made.actor(shard, replica),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            enable_task_events=False,
            num_cpus=made.cpus,
            memory=made.memory or None,
            scheduling_strategy=strategy(nodes[(shard + replica) % len(nodes)], soft=True),
        ).remote(Place(made.where, shard, made.shards, replica, made.cache), made.threads, QUEUE)


def _wait(ray: Any, made: Deployment, deadline: float, progress: Show) -> None:
    places, end = made.places(), time.monotonic() + deadline
    most, grew = 0, time.monotonic()
    while True:
        found = call_all(made, places, "status", wait=STATUS_SECONDS)
        ready = sum(one is not None and one["ready"] for one in found)
        progress(ready, len(places))
        if ready == len(places):
            return
        for (shard, _), one in zip(places, found, strict=True):
            if one is not None and one["error"]:
                raise ClusterError(f"shard {shard} cannot be built: {one['error']}")
        absent = sum(one is None for one in found)
        if len(places) - absent > most:
            most, grew = len(places) - absent, time.monotonic()
        if time.monotonic() > end or (absent and time.monotonic() - grew > START_SECONDS):
            has = ray.available_resources().get("CPU", 0)
            raise ClusterError(
                f"{len(places) - ready} of {len(places)} actors are not ready: {absent} have not "
                f"started. Each reserves {made.cpus:g} CPU, and {has:g} are free; add nodes, or "
                f"reserve less with --cpus"
            )
        time.sleep(POLL_SECONDS)


def call_all(
    made: Deployment, places: Iterable[tuple[int, int]], method: str, *arguments: Any, wait: float
) -> list[Any]:
    """What a method of each actor returns; None if it does not answer within ``wait`` seconds."""
    import ray

    waiting: list[Any] = []
    for shard, replica in places:
        try:
            handle = ray.get_actor(made.actor(shard, replica), namespace=NAMESPACE)
            waiting.append(getattr(handle, method).remote(*arguments))
        except Exception:  # there is none, or no head
            waiting.append(None)
    there = [reference for reference in waiting if reference is not None]
    if there and wait:
        ray.wait(there, num_returns=len(there), timeout=wait)
    found: list[Any] = []
    for reference in waiting:
        try:
            found.append(ray.get(reference, timeout=0) if reference and wait else None)
        except ray.exceptions.RayError:
            found.append(None)
    return found


def names(address: str | None = None) -> list[str]:
    """Of all galleries that a Ray cluster serves."""
    join(address)
    return sorted(deployments())


def status(name: str, address: str | None = None) -> tuple[Deployment, list[dict[str, Any]]]:
    """The deployment, and of each actor its shard, replica and what it says of itself."""
    join(address)
    made = find(name)
    places = made.places()
    found = call_all(made, places, "status", wait=STATUS_SECONDS)
    return made, [
        {"shard": shard, "replica": replica, **(one or {"ready": False, "error": "no answer"})}
        for (shard, replica), one in zip(places, found, strict=True)
    ]


def stop(name: str, address: str | None = None, *, keep_cache: bool = False) -> Deployment:
    """End the actors of a gallery, and delete the shards' files on the nodes that answer.

    Args:
        keep_cache: leave the files there, so that the next start need not build the shards.
    """
    ray = join(address)
    made = find(name)
    _keep({name: None})
    found = ray.util.list_named_actors(all_namespaces=True)
    own = [actor["name"] for actor in found if actor["name"].startswith(f"{made.id}/")]
    _end(ray, own)  # also those that 'replicas' started before it was killed
    if not keep_cache:
        _clear_caches(ray, made, 0)
    return made


def _clear_caches(ray: Any, made: Deployment, kept: int) -> None:
    """Delete the files of replicas from number ``kept`` on."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(delete_cached)
    waiting = [
        task.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(
            made.cache, made.where, made.shards, kept
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    ray.wait(waiting, num_returns=len(waiting), timeout=CLEAR_SECONDS)


def _end(ray: Any, actors: Iterable[str]) -> None:
    for actor in actors:
        try:
            ray.kill(ray.get_actor(actor, namespace=NAMESPACE))
        except ValueError:  # it has ended
            continue


def replicas(
    name: str,
    number: int,
    address: str | None = None,
    deadline: float = 3600.0,
    progress: Show = lambda done, total: None,
) -> Deployment:
    """Serve every shard by so many actors; searches go on meanwhile."""
    ray = join(address)
    made = find(name)
    wanted = replace(made, replicas=number)
    if number > made.replicas:
        _grow(ray, name, wanted, made, deadline, progress)
    elif number < made.replicas:
        _keep({name: wanted})
        time.sleep(DRAIN_SECONDS)
        _end(ray, [made.actor(*place) for place in made.places() if place[1] >= number])
        _clear_caches(ray, made, number)
    return wanted


def switch(name: str, other: str, address: str | None = None) -> Deployment:
    """Exchange what two names mean, in one write; returns what ``name`` means now."""
    join(address)
    first, second = find(name), find(other)
    _keep({name: second, other: first})
    return second

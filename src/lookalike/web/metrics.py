"""Numbers for Prometheus, of one server."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """In a registry of their own, so that several servers may run in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry)
        seconds = partial(Histogram, buckets=SECONDS, registry=self._registry)
        by = ("method", "route", "status")
        self._requests = counter("lookalike_requests", "Requests answered", by)
        self._latency = seconds(
            "lookalike_request_seconds", "Time until the answer was sent", ("route",)
        )
        self.encode = seconds(
            "lookalike_encode_seconds", "Time in the model, of one image or several at once"
        )
        self.search = seconds("lookalike_search_seconds", "Time in the index")
        self.busy = counter("lookalike_busy", "Requests refused because too much was going on")
        self.images = gauge("lookalike_images", "Images of the gallery")
        self.updating = gauge("lookalike_updating", "1 while an update runs, else 0")

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered; ``route`` is a pattern, never an address."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        if status == 503:
            self.busy.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

"""The API does what its description says, whatever is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fakes import write_photos
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.python.asgi import shutdown_lifespans

from lookalike.gallery import Gallery
from lookalike.web import ServeSettings, create_app


@pytest.fixture
def described(tmp_path: Path, model: Path) -> Iterator[Any]:
    """The description of an application that lives as long as the test."""
    write_photos(tmp_path / "photos", 24)
    gallery = Gallery.open(tmp_path / "photos", model=model)
    gallery.update()
    app = create_app(gallery, ServeSettings(allowed_hosts=("testserver",)))
    config = schemathesis.Config.from_dict(CONFIG)
    yield schemathesis.openapi.from_asgi("/api/openapi.json", app, config=config)
    shutdown_lifespans()


ENDLESS = "/api/update/events"
CONFIG = {
    "generation": {"max-examples": 20, "deterministic": True, "mode": "all", "database": "none"},
    "phases": {"stateful": {"enabled": False}},
    # A description cannot say which bytes are an image, nor that a part lies within it.
    "checks": {"positive_data_acceptance": {"enabled": False}},
    "operations": [{"include-path": ENDLESS, "enabled": False}],
}
CHECKS = {
    "content_type_conformance",
    "negative_data_rejection",
    "not_a_server_error",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
}


@pytest.mark.slow
def test_every_answer_is_one_that_was_described(described: Any) -> None:
    """To requests that fit the description, to others, and to methods that are not in it."""
    checked: Counter[str] = Counter()
    failures = []
    for event in from_schema(described).execute():
        assert not isinstance(event, NonFatalError | FatalError), event
        if isinstance(event, ScenarioFinished):
            for checks in event.recorder.checks.values():
                for check in checks:
                    checked[check.name] += 1
                    if (failure := check.failure_info) is not None:
                        failures.append((check.name, str(failure.failure), failure.code_sample))
    assert not failures
    assert set(checked) >= CHECKS
    assert all(checked[name] > 500 for name in CHECKS)

"""The API does what its description says, whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fakes import write_photos
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lookalike.gallery import Gallery
from lookalike.web import ServeSettings, create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def described(tmp_path: Path, model: Path) -> Iterator[Any]:
    """The description of an application that lives as long as the test."""
    write_photos(tmp_path / "photos", 24)
    gallery = Gallery.open(tmp_path / "photos", model=model)
    gallery.update()
    app = create_app(gallery, ServeSettings(allowed_hosts=("testserver",)))
    yield schemathesis.openapi.from_asgi("/api/openapi.json", app)
    shutdown_lifespans()


SETTINGS = hypothesis.settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
ENDLESS = "/api/update/events"


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_every_answer_is_one_that_was_described(described: Any, mode: GenerationMode) -> None:
    """To requests that fit the description, and to others."""
    operations = [result.ok() for result in described.get_all_operations()]
    tried = 0
    for operation in operations:
        if operation.path == ENDLESS:
            continue

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            nonlocal tried
            case.call_and_validate(checks=CHECKS)
            tried += 1

        with suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong with no input
            check()
    assert tried > 80


def test_all_of_the_api_is_described(described: Any) -> None:
    paths = described.raw_schema["paths"]
    assert set(paths) == {
        "/api/duplicates",
        "/api/explain",
        "/api/feedback",
        "/api/health",
        "/api/images",
        "/api/images/{id}",
        "/api/images/{id}/info",
        "/api/images/{id}/thumbnail",
        "/api/queries",
        "/api/queries/{query}/image",
        "/api/search",
        "/api/session",
        "/api/skipped",
        "/api/stats",
        "/api/stats/measure",
        "/api/update",
        "/api/update/events",
    }
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            assert "422" not in operation["responses"] or "ErrorAnswer" in str(
                operation["responses"]["422"]
            )

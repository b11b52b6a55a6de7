"""A client that a public generator makes of the description works, and reads well."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest
from test_web_command import started

from lookalike.gallery import Gallery
from lookalike.web import create_app

GENERATOR = "openapi-python-client==0.29.1"
CONFIG = """
content_type_overrides:
  "image/webp": application/octet-stream
  "image/*": application/octet-stream
"""
USE = """
import io, sys
from client import Client
from client.api.gallery import health
from client.api.images import image_original, image_thumbnail, list_images
from client.api.search import search, search_upload
from client.models import SearchRequest, SearchUploadFilesBody
from client.types import File

api = Client(base_url=sys.argv[1].rstrip("/"), raise_on_unexpected_status=True)
assert health.sync(client=api).images == 31
images = list_images.sync(client=api, filter_="a/").images
first = next(image for image in images if image.path == "a/000.png")
hits = search.sync(client=api, body=SearchRequest(id=first.id, k=3, exclude_self=False)).hits
assert {hits[0].path, hits[1].path} == {"a/000.png", "copy of 000.png"}, hits
original = image_original.sync(client=api, id=first.id).payload.read()
assert original == open(sys.argv[2], "rb").read()
assert image_thumbnail.sync(client=api, id=first.id).payload.read()[:4] == b"RIFF"
image = File(payload=io.BytesIO(original), file_name="query.png", mime_type="image/png")
found = search_upload.sync(client=api, body=SearchUploadFilesBody(image=image), k=2)
assert {hit.path for hit in found.hits} == {"a/000.png", "copy of 000.png"}, found
again = search_upload.sync(client=api, body=File(payload=io.BytesIO(original)), k=2)
assert [hit.path for hit in again.hits] == [hit.path for hit in found.hits]
"""


@pytest.mark.slow
def test_a_generated_client_searches_by_id_and_by_upload_and_gets_images(
    served: Gallery, folder: Path, tmp_path: Path
) -> None:
    """The generator needs other versions of packages than the server: it has a place of its own."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    made = subprocess.run([python, "-m", "pip", "install", "-q", GENERATOR], capture_output=True)
    if made.returncode:
        pytest.skip("needs a package index")
    (tmp_path / "openapi.json").write_text(json.dumps(create_app(served).openapi()))
    (tmp_path / "config.yml").write_text(CONFIG)
    words = "generate --path openapi.json --config config.yml --output-path client --meta none"
    done = subprocess.run(
        [os.fspath(tmp_path / "venv/bin/openapi-python-client"), *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path / 'venv/bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stdout
    with started(served.root) as (_, address):
        command = [os.fspath(python), "-c", USE, address, os.fspath(folder / "a/000.png")]
        used = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert used.returncode == 0, used.stderr


def test_operations_have_short_names_of_their_own_and_a_tag(served: Gallery) -> None:
    paths = create_app(served).openapi()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {"search", "search_upload", "image_thumbnail", "list_images", "health"} <= set(names)
    assert {tag for operation in operations for tag in operation["tags"]} == {
        "search",
        "images",
        "gallery",
        "session",
    }

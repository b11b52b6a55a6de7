"""The page: groups of near duplicates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from pagetools import Visit
from playwright.sync_api import expect


@pytest.mark.slow
def test_duplicates_are_marked_and_exported_and_nothing_is_deleted(
    visit: Visit, images: Path
) -> None:
    page = visit.page
    before = sorted(file.stat().st_mtime_ns for file in images.glob("[!.]*/*"))
    groups = visit.api("/api/duplicates", {"threshold": 0.97})["groups"]
    visit.open("/duplicates?threshold=0.97")
    expect(page.get_by_text("Nothing is deleted here.")).to_be_visible()
    first = visit.role("region", re.compile("^Group 1:"))
    expect(first.get_by_role("listitem")).to_have_count(1 + len(groups[0]["others"]))
    keep, other = groups[0]["keep"], groups[0]["others"][0]
    assert other["kind"] != "another shot"
    assert first.get_by_role("checkbox", name=f"Keep {keep['path']}").is_checked()
    box = first.get_by_role("checkbox", name=f"Keep {other['path']}")
    assert not box.is_checked()
    box.check()
    page.reload()
    expect(box).to_be_checked()
    with page.expect_download() as download:
        visit.role("button", "Export marks as JSON").click()
    assert download.value.suggested_filename == "duplicates.json"
    exported = json.loads(Path(download.value.path()).read_text())

    def listed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: item[name] for name in ("id", "path", "bytes")} for item in items]

    def marked(group: dict[str, Any]) -> dict[str, Any]:
        """Other shots are kept, and what was just checked."""
        items = [group["keep"], *group["others"]]
        kept = [i for i in items if i["kind"] in (None, "another shot") or i is other]
        return {"keep": listed(kept), "could_go": listed([i for i in items if i not in kept])}

    assert {i["kind"] for g in groups for i in g["others"]} >= {"same picture", "another shot"}
    expected = [marked(group) for group in groups]
    assert exported == {
        "format": "lookalike duplicates",
        "version": 1,
        "threshold": 0.97,
        "groups": expected,
    }
    assert sorted(file.stat().st_mtime_ns for file in images.glob("[!.]*/*")) == before

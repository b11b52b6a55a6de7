"""The page: groups of near duplicates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from fakes import write_photos
from pagetools import Visit, serving, visit_of
from PIL import Image
from playwright.sync_api import Browser, expect

from lookalike.gallery import Gallery


def test_duplicates_are_marked_and_exported_and_nothing_is_deleted(
    visit: Visit, images: Path
) -> None:
    page = visit.page
    before = sorted(file.stat().st_mtime_ns for file in images.glob("[!.]*/*"))
    groups = visit.api("/api/duplicates", {"threshold": 0.97})["groups"]
    visit.open("/duplicates?threshold=0.97")
    expect(page.get_by_text("Nothing happens to a file until you confirm it")).to_be_visible()
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


@pytest.mark.usefixtures("trash")
@pytest.mark.parametrize("width", ["phone", "desktop"])
def test_of_the_kind_that_is_shown_alone_duplicates_go_to_the_trash_and_are_put_back(
    browser: Browser, tmp_path: Path, width: str
) -> None:
    folder = tmp_path / "images"
    write_photos(folder, 6)
    copy, first, other = (folder / name for name in ("twice.png", "a/000.png", "other.jpg"))
    copy.write_bytes(first.read_bytes())
    Image.open(first).save(other, quality=95)
    Gallery.open(folder).update()
    with serving(folder) as address:
        for visit in visit_of(browser, address, width):
            visit.open("/duplicates")
            kinds = visit.role("group", "Kinds")
            visit.role("button", "Move 2 images to the trash").wait_for()
            identical = kinds.get_by_role("button", name=re.compile("^identical"))
            identical.press("Enter")
            expect(identical).to_be_focused()
            group = visit.role("region", "Group 1: 2 images")
            expect(group.get_by_text("identical")).to_be_visible()
            expect(visit.page.get_by_text("1 group; 1 image of")).to_be_visible()
            kinds.get_by_role("button", name="Keep all identical").click()
            expect(visit.role("button", "Move to trash")).to_be_disabled()
            kinds.get_by_role("button", name="Let all identical go").click()
            group.get_by_role("button", name=re.compile("^Difference of ")).click()
            dialog = visit.role("dialog", "Difference: identical")
            dialog.get_by_role("slider").press("End")
            dialog.get_by_role("button", name="Blink").click()
            visit.page.keyboard.press("Escape")
            expect(visit.page.get_by_role("dialog")).to_have_count(0)
            visit.role("button", "Move 1 image to the trash").click()
            confirm = visit.role("dialog", "Move 1 image to the trash?")
            with visit.page.expect_request("**/api/duplicates/apply") as asked:
                confirm.get_by_role("button", name="Move to trash").click()
            gallery = visit.api("/api/images")["gallery"]
            assert gallery and gallery in (asked.value.post_data or "")
            visit.role("button", "Undo").wait_for()
            everything = kinds.get_by_role("button", name=re.compile("^All"))
            expect(everything).to_have_attribute("aria-pressed", "true")
            expect(visit.role("heading", "Duplicates", level=1)).to_be_focused()
            expect(identical).to_have_count(0)
            assert copy.exists() + first.exists() == 1 and other.exists()
            visit.role("button", "Undo").click()
            expect(identical).to_be_visible()
            assert copy.exists() and first.exists()

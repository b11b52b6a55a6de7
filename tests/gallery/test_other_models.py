from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import lookalike
from fakes import assert_holds, vectors_of, write_model, write_photo, write_photos
from killing import NOTING, killing

from lookalike.atomic import file_sha256
from lookalike.encoder import DEFAULT_MODEL, INT8_MODEL, Encoder, EncoderSettings
from lookalike.errors import ModelError, ModelMismatchError
from lookalike.gallery import Gallery


def test_another_model_is_refused_with_both_hashes_and_the_command(
    gallery: Gallery, photos: Path, tmp_path: Path, model: Path, other_model: Path
) -> None:
    alike = write_model(tmp_path / "alike.onnx", std=32.0)  # of equal name and shape
    made, *others = (Encoder.open(each).info.sha256[:12] for each in (model, other_model, alike))
    for path, used in zip((other_model, alike), others, strict=True):
        with pytest.raises(ModelMismatchError, match=f"{made}.*{used}.*index --rebuild"):
            Gallery.open(photos, model=path)
    with pytest.raises(ModelError, match=r"nope\.onnx \(No such file"):
        Gallery.open(photos, model="nope.onnx")
    opened = Gallery.open(photos, model=model)
    Gallery.rebuild(photos, model=other_model)
    with pytest.raises(ModelMismatchError):
        opened.search(write_photo(tmp_path / "outside.png", 99))
    with pytest.raises(ModelMismatchError):
        opened.update()


def test_a_rebuild_encodes_everything_with_the_other_model_under_new_ids(
    gallery: Gallery, photos: Path, other_model: Path, decoded: list[str]
) -> None:
    ids = {image.id for image in gallery}
    gallery.remove(["b/001.png"])
    rebuilt, report = Gallery.rebuild(photos, model=other_model)
    assert (report.added, report.images, len(decoded)) == (11, 11, 11)
    assert len(ids) == 12 and not ids & {image.id for image in rebuilt}
    assert rebuilt.info().model.name == "coarse"
    assert {row.path for row in rebuilt.skipped()} == {b"b/001.png"}  # what was removed stays out
    rebuilt.restore(["b/001.png"])
    assert Gallery.open(photos).update().added == 1  # the other model is remembered
    assert_holds(rebuilt, photos, cells=2)
    assert {path.name for path in photos.iterdir()} == {"a", "b", "c", ".lookalike"}


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [3, 20, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52])
def test_a_killed_rebuild_serves_the_old_gallery_and_resumes(
    tmp_path: Path, model: Path, other_model: Path, kill_at: int, decoded: list[str]
) -> None:
    photos, notes = tmp_path / "photos", tmp_path / "notes"
    write_photos(photos, 16)
    Gallery.open(photos, model=model).update()
    decoded.clear()
    code = killing(kill_at) + NOTING
    command = [sys.executable, "-c", code, str(notes), "4", "index", str(photos)]
    killed = subprocess.run(
        [*command, "--rebuild", "--model", str(other_model), "--batch-size", "2"],
        capture_output=True,
    )
    done = killed.returncode == 0
    assert done or killed.returncode == -signal.SIGKILL
    now = Gallery.open(photos, create=False)
    old = now.info().model.name == "pooled"
    assert_holds(now, photos, cells=4 if old else 2)
    assert now.search("a/000.png", 1)[0].path == "a/000.png"
    assert not (done and old)
    rebuilt, report = Gallery.rebuild(photos, model=other_model) if old else (now, now.update())
    assert report.images == 16
    if old:
        first = set(notes.read_text().split()) if notes.exists() else set()
        ahead = Encoder.open(other_model, EncoderSettings(batch_size=2)).lookahead
        assert len(decoded) <= 16 - len(first) + 4 + ahead  # what was not yet committed
    assert_holds(rebuilt, photos, cells=2)
    assert rebuilt.verify() == []
    assert {path.name for path in photos.iterdir()} == {"a", "b", "c", ".lookalike"}


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_rebuild_killed_while_it_takes_the_old_ones_place_is_ended_by_the_next_command(
    gallery: Gallery, photos: Path, other_model: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    class Killed(BaseException): ...

    real, calls = Path.rename, [0]

    def rename(self: Path, target: Path) -> Path:
        result = real(self, target)
        if self.name.startswith(".lookalike"):
            calls[0] += 1
            if calls[0] == renamed:
                raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            Gallery.rebuild(photos, model=other_model)
    assert (photos / ".lookalike").exists() == (renamed == 2)
    opened = Gallery.open(photos / ("." if renamed == 1 else ".lookalike"), create=False)
    assert_holds(opened, photos, cells=2)
    opened.update()
    assert {path.name for path in photos.iterdir()} == {"a", "b", "c", ".lookalike"}


def test_a_gallery_whose_model_file_is_gone_can_be_searched_by_its_own_images(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    temporary = tmp_path / "temporary.onnx"
    temporary.write_bytes(model.read_bytes())
    Gallery.open(photos, model=temporary).update()
    temporary.unlink()
    assert Gallery.open(photos).search("a/000.png", 1)[0].path == "a/000.png"
    assert len(vectors_of(Gallery.open(photos, model=model))) == 12


def test_a_gallery_of_an_earlier_default_model_goes_on_with_it_until_rebuilt(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = DEFAULT_MODEL.with_name("lookalike-general-2.onnx")
    outside = write_photo(tmp_path / "outside.png", 99)
    with monkeypatch.context() as patch:
        for module in ("encoder", "gallery.opening"):
            patch.setattr(f"lookalike.{module}.DEFAULT_MODEL", earlier)
        expected = Gallery.open(photos, create=True)
        expected.update()
        before = expected.search(outside)
    opened = Gallery.open(photos)
    assert [(hit.path, hit.cosine) for hit in opened.search(outside)] == [
        (hit.path, hit.cosine) for hit in before
    ]
    added = write_photo(photos / "a/added.png", 98)
    assert opened.update().added == 1
    assert opened.search(added)[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert (opened.info().model.version, opened.info().model.sha256) == ("2", file_sha256(earlier))
    rebuilt, _ = Gallery.rebuild(photos)
    assert rebuilt.info().model == Encoder.open().info
    assert opened.search(added)[0].cosine == pytest.approx(1.0, abs=1e-5)


def test_the_model_in_8_bits_is_chosen_by_name_and_is_not_mixed_with_the_default_one(
    photos: Path,
) -> None:
    lookalike("index", photos, "--model", INT8_MODEL.stem)
    info = Gallery.open(photos).info()
    assert Gallery.open(photos, model=INT8_MODEL.stem).info().model == info.model
    assert Encoder.open(INT8_MODEL.stem).info == info.model
    assert (info.model.name, info.model.version) == ("lookalike-general", "3-int8")
    assert info.model.sha256 == file_sha256(INT8_MODEL)
    refused = r"general 3-int8 .* is lookalike-general 3 .* --model lookalike-general-3$"
    with pytest.raises(ModelMismatchError, match=refused):
        Gallery.open(photos, model=DEFAULT_MODEL.stem)
    shown = lookalike("info", "--gallery", photos).stdout
    assert "lookalike-general 3-int8, 224 x 224 pixels" in shown and "better one" not in shown


def test_a_gallery_finds_a_model_that_comes_along_where_lookalike_is_now(
    photos: Path, tmp_path: Path
) -> None:
    before = tmp_path / INT8_MODEL.name
    before.write_bytes(INT8_MODEL.read_bytes())
    made = Gallery.open(photos, model=before)
    made.update()
    outside = write_photo(tmp_path / "outside.png", 99)
    expected = [(hit.path, hit.cosine) for hit in made.search(outside)]
    before.unlink()
    now = Gallery.open(photos)
    assert [(hit.path, hit.cosine) for hit in now.search(outside)] == expected

"""Copies of the datasets, made up and real: what is missing, other, damaged, half laid out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from fakes import listing

from lookalike.errors import LookalikeError
from lookalike.evaluation.datasets import DATASETS, Dataset, check, lay_out

ORDER = ["africans", "beaches", "buildings", "buses", "dinosaurs", "elephants", "flowers"]
ORDER += ["horses", "mountains", "food"]


def content(number: int) -> bytes:
    return b"image %d" % number


def hash_of(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


def made_up(name: str) -> Dataset:
    """The dataset, had it the files that `content` gives."""
    real = DATASETS[name]
    digests = {}
    for label in real.digests:
        lines = [
            f"{hash_of(int(image.split('/')[1][:-4]))}  {image}\n"
            for image in real.images()
            if image.startswith(label + "/")
        ]
        digests[label] = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    return dataclasses.replace(real, digests=digests)


COREL1K, COREL5K = made_up("corel1k"), made_up("corel5k")


def number_of(image: str) -> int:
    return int(image.partition("/")[2].removesuffix(".jpg"))


def write(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(number))
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Corel-1k in class folders."""
    for image in COREL1K.images():
        write(tmp_path / "copy" / image, number_of(image))
    return tmp_path / "copy"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Corel-1k as it is handed out."""
    for number in range(1000):
        write(tmp_path / "image.orig" / f"{number}.jpg", number)
    return tmp_path / "image.orig"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


WHOLE = {image: content(number_of(image)) for image in COREL1K.images()}


def test_the_datasets_load_no_pytorch_and_no_numpy() -> None:
    code = (
        "import sys, lookalike.evaluation.datasets\n"
        "assert not {'torch', 'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- check ---------------------------------------------------------------------------------------


def test_a_copy_is_verified_in_class_folders_and_in_the_original_numbering(
    classes: Path, flat: Path
) -> None:
    for folder in (classes, flat):
        copy = check(COREL1K, folder)
        assert copy.verified and copy.remarks() == []
        assert list(copy.files) == COREL1K.images()
        assert copy.hashes["buses/300.jpg"] == hash_of(300)
    hundreds = [COREL1K.class_of(number) for number in range(0, 1000, 100)]
    assert hundreds == ORDER == [COREL1K.class_of(number) for number in range(99, 1000, 100)]
    assert COREL1K.class_of(1000) is None


def test_flat_corel5k_is_read_by_the_number_of_the_cd(tmp_path: Path) -> None:
    for image in COREL5K.images():
        write(tmp_path / "all" / f"{number_of(image)}.jpeg", number_of(image))
    write(tmp_path / "all" / "2000.jpeg", 2000)  # of a CD that is not in the set
    copy = check(COREL5K, tmp_path / "all")
    assert copy.verified
    assert list(copy.files) == COREL5K.images()
    assert copy.passed_over == (tmp_path / "all" / "2000.jpeg",)
    lay_out(copy, tmp_path / "out")
    assert contents(tmp_path / "out") == {
        image: content(number_of(image)) for image in COREL5K.images()
    }


def test_what_differs_is_missing_or_too_much_is_named(classes: Path) -> None:
    (classes / "horses/777.jpg").write_bytes(b"another")
    for number in (300, 355):
        (classes / f"buses/{number}.jpg").unlink()
    shutil.rmtree(classes / "food")
    for name in ("buses/17.jpg", "buses/x.jpg", "beaches/0100.jpg", "cars/1.jpg", "flowers/.x.jpg"):
        write(classes / name, 0)
    copy = check(COREL1K, classes)
    assert copy.differing == ("buses", "horses", "food")
    assert copy.missing[:3] == ("buses/300.jpg", "buses/355.jpg", "food/900.jpg")
    assert copy.lost_classes() == ["food"]
    passed_over = ["beaches/0100.jpg", "buses/17.jpg", "buses/x.jpg", "cars"]
    assert [path.relative_to(classes).as_posix() for path in copy.passed_over] == passed_over
    remarks = " | ".join(copy.remarks())
    assert (
        "3 of 10 classes differ (buses, horses, food)" in remarks and "class beaches" not in remarks
    )
    assert "passed over, since no class of corel1k has them: " in remarks
    assert "class buses has 98 images of 100; missing: 300.jpg, 355.jpg" in remarks
    assert "missing: 900.jpg, 901.jpg, 902.jpg, 903.jpg, 904.jpg and 95 more" in remarks


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "copy does not exist: give the one that holds your copy"),
        (lambda folder: folder.write_bytes(b""), "copy is not a folder"),
        (lambda folder: folder.mkdir(), r"has no image of corel1k: .*0.jpg to 999.jpg.*Wang"),
        (lambda folder: write(folder / "in/0.jpg", 0), "the folder that directly holds"),
        (
            lambda folder: (write(folder / "0.jpg", 0), write(folder / "africans/0.jpg", 0)),
            "0.jpg and .*africans/0.jpg are both image africans/0.jpg: remove one",
        ),
    ],
)
def test_what_is_not_a_copy_is_an_error_with_a_remedy(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "copy")
    with pytest.raises(LookalikeError, match=message):
        check(COREL1K, tmp_path / "copy")


# ---- lay out -------------------------------------------------------------------------------------


def test_images_are_linked_into_class_folders_and_the_copy_stays_as_it_was(
    flat: Path, tmp_path: Path
) -> None:
    before = listing(flat)
    out = tmp_path / "new" / "out"
    made = lay_out(check(COREL1K, flat), out)
    assert (made.linked, made.copied, made.kept) == (1000, 0, 0)
    assert contents(out) == WHOLE
    assert (out / "beaches/100.jpg").samefile(flat / "100.jpg")
    assert listing(flat) == before
    write(out / ".lookalike" / "gallery.json", 0)  # of a gallery that was made of it
    again = lay_out(check(COREL1K, flat), out)
    assert (again.linked, again.copied, again.kept) == (0, 0, 1000)
    assert check(COREL1K, out).verified


def no_links(*_: object) -> None:
    raise OSError(18, "Invalid cross-device link")


def test_an_interrupted_copy_leaves_no_half_file_and_goes_on(
    flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed
    left = 500
    copy_all = shutil.copyfileobj

    def killed(source: BinaryIO, target: BinaryIO) -> None:
        nonlocal left
        if not left:
            target.write(b"ha")
            raise KeyboardInterrupt
        left -= 1
        copy_all(source, target)

    out = tmp_path / "out"
    monkeypatch.setattr(shutil, "copyfileobj", killed)
    with pytest.raises(KeyboardInterrupt):
        lay_out(check(COREL1K, flat), out)
    assert contents(out) == dict(list(WHOLE.items())[:500])
    (out / "elephants").mkdir(exist_ok=True)
    (out / "elephants/.500.jpg.tmp").write_bytes(b"ha")  # what kill -9 leaves
    monkeypatch.setattr(shutil, "copyfileobj", copy_all)
    made = lay_out(check(COREL1K, flat), out)
    assert (made.linked, made.copied, made.kept) == (0, 500, 500)
    assert contents(out) == WHOLE
    assert not (out / "beaches/100.jpg").samefile(flat / "100.jpg")


@pytest.mark.parametrize(
    ("out", "name", "message"),
    [
        ("out", "letter.txt", r"out holds something else, letter.txt: give a new folder"),
        ("out", "buses/notes.txt", r"something else, buses/notes.txt"),
        ("out", "buses/300.jpg", r"buses/300.jpg has other content than .*image.orig/300.jpg: rem"),
        ("out", "buses", r"something else, buses"),
        ("image.orig", "0.jpg", "which is only read"),
        ("link/sub", "0.jpg", "which is only read"),
        ("out/file", "file", "is a file: give a new folder"),
    ],
)
def test_nothing_is_written_into_the_copy_or_a_folder_that_holds_anything_else(
    flat: Path, tmp_path: Path, out: str, name: str, message: str
) -> None:
    (tmp_path / "link").symlink_to(flat)
    copy = check(COREL1K, flat)
    if out.startswith("out"):
        write(tmp_path / "out" / name, -1)
    before = contents(tmp_path)
    with pytest.raises(LookalikeError, match=message):
        lay_out(copy, tmp_path / out)
    assert contents(tmp_path) == before


def test_a_copy_without_some_class_is_not_laid_out(classes: Path, tmp_path: Path) -> None:
    shutil.rmtree(classes / "food")
    (classes / "buses/300.jpg").unlink()
    with pytest.raises(LookalikeError, match=r"copy has no image of 1 of the 10 .*\(food\): get"):
        lay_out(check(COREL1K, classes), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write(classes / "food/900.jpg", 900)  # a class that is not whole is: there is a warning
    assert lay_out(check(COREL1K, classes), tmp_path / "out").linked == 900

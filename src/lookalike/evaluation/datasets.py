"""Check a local copy of a dataset of the paper, and lay it out as FOLDER/CLASS/IMAGE.

A copy is a folder of class folders, or a flat folder in the original numbering, in which the number
implies the class. It is only read. An image `NUMBER.jpg` or `NUMBER.jpeg` is called
"CLASS/NUMBER.jpg" here. The images themselves are not ours to distribute: `datasets.sha256` has a
digest of each class of the files that this project's numbers were made with.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lookalike.atomic import atomic_writer, file_sha256
from lookalike.errors import LookalikeError, named

IN_A_CLASS = 100
_IMAGE = re.compile(r"(0|[1-9]\d{0,8})\.jpe?g", re.IGNORECASE)
_TEMPORARY = re.compile(r"\.\d+\.jpg\.tmp")


@dataclass(frozen=True)
class Dataset:
    """A set of images in classes, `NUMBER.jpg` each.

    Attributes:
        name: in commands.
        source: where to get it.
        classes: number // span -> name of the class, in the order of the numbers.
        span: numbers that a class may use; it does use the first IN_A_CLASS of them.
        digests: by class, the SHA-256 of its lines "HASH  CLASS/NUMBER.jpg\\n", sorted, where HASH
            is the SHA-256 of the file in hexadecimal.
        absent: numbers that the set does not have.
    """

    name: str
    source: str
    classes: Mapping[int, str]
    span: int
    digests: Mapping[str, str]
    absent: frozenset[int] = frozenset()

    def class_of(self, number: int) -> str | None:
        """The class of an image by its number; None if it is not in the set."""
        return self.classes.get(number // self.span)

    def images(self) -> list[str]:
        """CLASS/NUMBER.jpg of all images, class by class."""
        return [
            f"{label}/{number}.jpg"
            for place, label in self.classes.items()
            for number in range(place * self.span, place * self.span + IN_A_CLASS)
            if number not in self.absent
        ]


def _digests(name: str) -> dict[str, str]:
    """Class -> digest, in the order of the file."""
    lines = Path(__file__).with_name("datasets.sha256").read_text(encoding="ascii").splitlines()
    pairs = (line.split(f"  {name}/") for line in lines if f"  {name}/" in line)
    return {label: digest for digest, label in pairs}


_WANG, _COREL = _digests("corel1k"), _digests("corel5k")
DATASETS = {
    "corel1k": Dataset(
        "corel1k",
        "test1.tar of James Z. Wang, http://wang.ist.psu.edu/docs/related/",
        dict(enumerate(_WANG)),
        100,
        _WANG,
    ),
    "corel5k": Dataset(
        "corel5k",
        "50 CDs of Corel Stock Photos, as chosen by Duygulu et al., ECCV 2002",
        {int(label): label for label in _COREL},
        1000,
        _COREL,
        absent=frozenset({121060}),
    ),
}


@dataclass(frozen=True)
class Check:
    """What a copy holds.

    Attributes:
        folder: the copy.
        files: image -> its file, class by class, by number.
        hashes: image -> SHA-256 of its content in hexadecimal.
        missing, extra: images that the copy lacks, and that the set used here does not have.
        differing: classes with other files, or files of other content, than those used here.
        passed_over: JPEG files and folders whose name belongs to no class.
    """

    dataset: Dataset
    folder: Path
    files: Mapping[str, Path]
    hashes: Mapping[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    differing: tuple[str, ...]
    passed_over: tuple[Path, ...]

    @property
    def verified(self) -> bool:
        """Whether these are exactly the files that this project's numbers were made with."""
        return not self.differing

    def lost_classes(self) -> list[str]:
        """Classes without any image."""
        found = {_class(name) for name in self.files}
        return [label for label in self.dataset.classes.values() if label not in found]

    def remarks(self) -> list[str]:
        """A line for each difference to the set used here."""
        lines = []
        if self.passed_over:
            more = named([os.fspath(path) for path in self.passed_over])
            lines.append(f"passed over, since no class of {self.dataset.name} has them: {more}")
        found, wanted = (
            Counter(map(_class, names)) for names in (self.files, self.dataset.images())
        )
        for label in self.dataset.classes.values():
            parts = [f"class {label} has {found[label]} images of {wanted[label]}"]
            for names, what in (
                (self.missing, "missing"),
                (self.extra, "not in the set used here"),
            ):
                if own := [name.partition("/")[2] for name in names if _class(name) == label]:
                    parts.append(f"{what}: {named(own)}")
            if len(parts) > 1:
                lines.append("; ".join(parts))
        if self.differing:
            lines.append(
                "not the exact files this project's numbers were made with: "
                f"{len(self.differing)} of {len(self.dataset.classes)} classes differ "
                f"({named(self.differing)}); results will differ"
            )
        return lines


@dataclass(frozen=True)
class LaidOut:
    """How many images were linked, copied, and there already."""

    linked: int
    copied: int
    kept: int


def check(dataset: Dataset, folder: Path) -> Check:
    """Find the images of a copy and compare them with the set used here, by SHA-256.

    LookalikeError for no folder, no image of the dataset, or one image twice.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise LookalikeError(f"{folder} {what}: give the one that holds your copy of the dataset")
    files, passed_over = _find(dataset, folder)
    if not files:
        labels, names = list(dataset.classes.values()), dataset.images()
        first, last = (name.partition("/")[2] for name in (names[0], names[-1]))
        raise LookalikeError(
            f"{folder} has no image of {dataset.name}: give the folder that directly holds the "
            f"class folders ({named(labels)}) or the numbered files ({first} to {last}); "
            f"the source is {dataset.source}"
        )
    hashes = {name: file_sha256(path) for name, path in files.items()}
    expected = dataset.images()
    known = set(expected)
    return Check(
        dataset,
        folder,
        files,
        hashes,
        missing=tuple(name for name in expected if name not in files),
        extra=tuple(name for name in files if name not in known),
        differing=tuple(
            label
            for label, digest in dataset.digests.items()
            if class_digest(hashes, label) != digest
        ),
        passed_over=tuple(passed_over),
    )


def lay_out(copy: Check, out: Path) -> LaidOut:
    """Make OUT/CLASS/NUMBER.jpg of all images: a hard link where the file system has them, else a
    copy. No image is ever partly written; called again, it resumes.

    LookalikeError, before anything is written, if a class has no image, or `out` holds anything
    else, or lies in the copy.
    """
    if lost := copy.lost_classes():
        raise LookalikeError(
            f"nothing was laid out: {copy.folder} has no image of {len(lost)} of the "
            f"{len(copy.dataset.classes)} classes of {copy.dataset.name} ({named(lost)}): get them "
            f"from {copy.dataset.source}"
        )
    present = _present(copy, out)
    linked = copied = 0
    for name, source in copy.files.items():
        if name in present:
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(os.path.realpath(source), target)
            linked += 1
        except OSError:  # another disk, a file system without links, a limit, a foreign file
            with source.open("rb") as content, atomic_writer(target) as file:
                shutil.copyfileobj(content, file)
            copied += 1
    return LaidOut(linked, copied, len(present))


def class_digest(hashes: Mapping[str, str], label: str) -> str:
    """As in `Dataset.digests`, of the images of a class."""
    own = sorted(f"{h}  {name}\n" for name, h in hashes.items() if _class(name) == label)
    return hashlib.sha256("".join(own).encode()).hexdigest()


# ---- what is there -------------------------------------------------------------------------------


def _find(dataset: Dataset, folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Image -> file, class by class, by number; and what was passed over."""
    found: dict[tuple[int, int], Path] = {}
    places = {label: place for place, label in enumerate(dataset.classes.values())}
    passed_over = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        *home, file = path.relative_to(folder).parts
        if file.startswith(".") or (home and home[0] not in places):
            continue
        if path.is_dir() if not home and file in places else not _is_jpeg_or_folder(path):
            continue
        match = _IMAGE.fullmatch(file)
        number = int(match[1]) if match else -1
        label = dataset.class_of(number)
        if label is None or home not in ([], [label]):
            passed_over.append(path)
        elif (key := (places[label], number)) in found:
            name = f"{label}/{number}.jpg"
            raise LookalikeError(f"{found[key]} and {path} are both image {name}: remove one")
        else:
            found[key] = path
    labels = list(places)
    return {f"{labels[at]}/{n}.jpg": found[at, n] for at, n in sorted(found)}, passed_over


def _is_jpeg_or_folder(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in (".jpg", ".jpeg")


def _present(copy: Check, out: Path) -> set[str]:
    """Images that `out` holds; LookalikeError if it holds anything else but a gallery, and what a
    killed copy leaves behind.
    """
    if out.exists() and not out.is_dir():
        raise LookalikeError(f"{out} is a file: give a new folder, or an empty one")
    home, target = copy.folder.resolve(), out.resolve()
    if target == home or home in target.parents:
        raise LookalikeError(f"{out} lies in {copy.folder}, which is only read: give another")
    labels, present = {_class(name) for name in copy.files}, set()
    for path in sorted([*out.glob("*"), *out.glob("*/*")]):
        name = path.relative_to(out).as_posix()
        if _class(name) == ".lookalike" or (name in labels and path.is_dir()):
            continue
        if _class(name) in labels and _TEMPORARY.fullmatch(path.name):
            continue
        if name not in copy.files:
            raise LookalikeError(
                f"{out} holds something else, {name}: give a new folder, or an empty one"
            )
        if not path.samefile(copy.files[name]) and file_sha256(path) != copy.hashes[name]:
            raise LookalikeError(
                f"{path} has other content than {copy.files[name]}: remove it, or give a new folder"
            )
        present.add(name)
    return present


# ---- names ---------------------------------------------------------------------------------------


def _class(name: str) -> str:
    return name.partition("/")[0]

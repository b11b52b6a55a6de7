from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import forging
import numpy as np
import pytest
from fakes import updated, write_photo
from hostile import encode, photo
from numpy.typing import NDArray
from PIL import Image
from shapes import texture

from lookalike.errors import GalleryError
from lookalike.gallery import (
    COPIES,
    DuplicateGroup,
    Gallery,
    KeepOrder,
    KeepRule,
    Kind,
    Progress,
    copies,
)
from lookalike.gallery.duplicates import propose
from lookalike.gallery.keep import KINDS, UNLIKE
from lookalike.gallery.places import COMPARED
from lookalike.gallery.rows import ImageRow, file_identity
from lookalike.images import likeness

Groups = set[frozenset[str]]
SHOTS = frozenset({Kind.SHOT})


def paths(groups: list[DuplicateGroup]) -> Groups:
    return {frozenset(item.path for item in (*g.keep, *g.duplicates)) for g in groups}


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """Thirty images, each in three versions that are ever less alike, and one exact copy."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for n in range(30):
        original = photo(n).astype(np.float64)
        for step, noise in enumerate((0, 8, 40)):
            pixels = np.clip(
                original + noise * rng.standard_normal((4, 4, 1)).repeat(12, 0).repeat(16, 1),
                0,
                255,
            )
            path = folder / f"{'abc'[step]}/{n:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(pixels.astype(np.uint8), "PNG"))
    shutil.copy(folder / "a/00.png", folder / "copy.png")
    return folder


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_groups_are_those_of_comparing_all_pairs(
    variants: Path, model: Path, threshold: float
) -> None:
    gallery = updated(variants, model=model)
    snapshot = gallery.reader().now()
    ids = snapshot.matching(None).tolist()
    rows = [*snapshot.rows(ids).values()]
    expected = {
        frozenset(os.fsdecode(rows[i].path) for i in (*keep, *going))
        for keep, going in greedy(rows, snapshot.vectors(ids), set(), threshold)
    }
    assert len(expected) > 0
    assert paths(gallery.duplicates(threshold, kinds=SHOTS)) == expected


def test_a_threshold_of_1_finds_equal_images_and_no_others(variants: Path, model: Path) -> None:
    Image.open(variants / "b/07.png").save(variants / "b/07 again.png", compress_level=0)
    gallery = updated(variants, model=model)
    assert paths(gallery.duplicates(1.0, kinds=SHOTS)) == {
        frozenset({"a/00.png", "copy.png"}),
        frozenset({"b/07.png", "b/07 again.png"}),
    }
    for query, found in (("copy.png", {"a/00.png", "copy.png"}), ("a/03.png", {"a/03.png"})):
        assert {hit.path for hit in gallery.search(query, threshold=1.0)} == found


ORIGINAL = ImageRow(1, b"b.jpg", 900, 10**18, width=200, height=100, format="JPEG")
LATER = {"id": 2, "path": b"a.jpg", "mtime_ns": 10**18 + 10**10}


@pytest.mark.parametrize(
    ("order", "other", "has_camera", "better"),
    [
        ("original", {**LATER, "size": 2_000}, (False, False), 1),  # re-encoded, better quality
        ("largest", {**LATER, "size": 2_000}, (False, False), 2),
        ("largest", {**LATER, "size": 2_000}, (True, False), 2),
        ("smallest", {**LATER, "size": 2_000}, (False, True), 1),
        ("original", {**LATER, "size": 2_000, "mtime_ns": 10**18 + 10**9}, (False, False), 2),
        ("original", {**LATER, "size": 2_000}, (False, True), 2),
        ("original", {**LATER, "width": 400, "height": 200}, (True, False), 2),
        ("original", {**LATER, "format": "PNG"}, (False, False), 2),
        ("original", {"id": 2, "path": b"a copy.jpg", "mtime_ns": 10**17}, (False, False), 1),
        ("original", {"id": 2, "path": b"a.jpg"}, (False, False), 2),
    ],
)
def test_the_better_of_two_files_follows_the_order(
    order: str, other: dict[str, Any], has_camera: tuple[bool, bool], better: int
) -> None:
    rule = KeepRule(KeepOrder(order))
    rows = ORIGINAL, replace(ORIGINAL, **other)
    ranks = [rule.rank(row, camera, False) for row, camera in zip(rows, has_camera, strict=True)]
    assert 1 + ranks.index(min(ranks)) == better


def test_an_image_in_colour_is_kept_rather_than_a_lossless_one_in_grey(
    tmp_path: Path, model: Path
) -> None:
    image = Image.fromarray(np.kron(photo(1, 12, 16), np.ones((16, 16, 1), np.uint8)))
    image = Image.blend(image.convert("L").convert("RGB"), image, 0.3)
    image.save(tmp_path / "colour.jpg", quality=95)
    for mode in ("L", "RGB"):  # as one or three channels
        image.convert("L").convert(mode).save(tmp_path / f"grey {mode}.png")
    image.convert("L").convert("RGB").save(tmp_path / "grey.jpg", quality=95)
    (group,) = updated(tmp_path, model=model).duplicates()
    assert [item.path for item in group.keep] == ["colour.jpg"]
    assert {item.path for item in group.duplicates} == {"grey L.png", "grey RGB.png", "grey.jpg"}


def test_shots_of_another_moment_or_exposure_are_not_copies_but_exports_are(
    tmp_path: Path, model: Path
) -> None:
    image, camera = Image.fromarray(photo(1)).resize((256, 192)), Image.Exif()
    camera[0x0110] = "EOS 5D"
    tags = camera.get_ifd(0x8769)
    tags.update({0x9003: "2019:07:21 14:03:55", 0x9291: "10", 0x829A: 0.004})

    def save(name: str, gain: float, **changed: Any) -> None:
        tags.update({int(tag[1:], 16): value for tag, value in changed.items()})
        image.point(lambda value: round(gain * value)).save(tmp_path / name, exif=camera)

    save("a.png", 1)
    image.resize((128, 96)).save(tmp_path / "a for the web.png", exif=camera)
    save("brighter.png", 1.1, x829A=0.008)
    save("darker.png", 0.9, x829A=0.002)
    save("a moment later.png", 0.95, x829A=0.004, x9291="50")
    save("the next one.png", 0.98, x9291="90")
    save("an hour later.png", 0.97, x9003="2019:07:21 15:03:55")
    gallery = updated(tmp_path, model=model)
    assert paths(gallery.duplicates()) == {frozenset({"a.png", "a for the web.png"})}


def test_files_of_the_reference_folder_are_all_kept_and_stand_before_better_ones(
    model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    image = Image.fromarray(photo(3))
    for name, size in (("safe/small", (64, 48)), ("safe/large", (128, 96)), ("more", (128, 96))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.resize(size).save(folder / f"{name}.png", compress_level=0 if name == "more" else 6)
    write_photo(folder / "safe too/3.png", 3)  # a folder whose name begins alike
    gallery = updated(folder, model=model)
    for reference in ("safe", folder / "safe", folder / "safe/../safe"):
        (group,) = gallery.duplicates(0.9, reference=reference)
        assert [item.path for item in group.keep] == ["safe/large.png", "safe/small.png"]
        assert {item.path for item in group.duplicates} == {"more.png", "safe too/3.png"}
    assert gallery.duplicates(0.9, reference=folder) == []  # all are protected
    with pytest.raises(GalleryError, match="is not inside"):
        gallery.duplicates(0.9, reference=tmp_path)
    with pytest.raises(GalleryError, match="is not a folder"):
        gallery.duplicates(0.9, reference="nowhere")


def test_of_links_to_one_file_only_the_file_itself_is_listed(tmp_path: Path, model: Path) -> None:
    """Deleting what is proposed must not delete the image behind a link that is kept."""
    folder = tmp_path / "photos"
    original = write_photo(folder / "original.png", 1)
    (folder / "a link.png").symlink_to(original)
    os.link(original, folder / "z hard link.png")
    gallery = updated(folder, model=model)
    assert gallery.duplicates() == []
    shutil.copy(original, folder / "copy.png")
    gallery.update()
    assert paths(gallery.duplicates()) == {frozenset({"original.png", "copy.png"})}


def test_a_file_is_kept_rather_than_a_link_to_a_better_one_elsewhere(
    tmp_path: Path, model: Path
) -> None:
    """An action relies on no link, so that of three none could go."""
    folder, image = tmp_path / "photos", Image.fromarray(photo(1))
    folder.mkdir()
    image.resize((256, 192)).save(tmp_path / "large.png")
    (folder / "a link.png").symlink_to(tmp_path / "large.png")
    for name in ("b.png", "c.png"):
        image.save(folder / name)
    (group,) = updated(folder, model=model).duplicates()
    assert [item.path for item in group.keep] == ["b.png"]
    assert {item.path for item in group.duplicates} == {"a link.png", "c.png"}


def test_files_of_which_a_part_was_read_are_duplicates_of_equal_content_alone(
    tmp_path: Path, model: Path
) -> None:
    first = Image.fromarray(photo(1))
    for name, seed in (("a.gif", 2), ("b.gif", 3)):
        frames = [Image.fromarray(photo(seed))]
        first.save(tmp_path / name, save_all=True, append_images=frames)
    (tmp_path / "copy of a.gif").write_bytes((tmp_path / "a.gif").read_bytes())
    first.save(tmp_path / "still.png")
    first.save(tmp_path / "still.bmp")
    for name, colour in (("black.png", "black"), ("dark.png", "#010101"), ("white.png", "white")):
        Image.new("RGB", (64, 48), colour).save(tmp_path / name)
    (tmp_path / "copy of black.png").write_bytes((tmp_path / "black.png").read_bytes())
    gallery = updated(tmp_path, model=model)
    assert paths(gallery.duplicates(0.9)) == {
        frozenset({"a.gif", "copy of a.gif"}),
        frozenset({"black.png", "copy of black.png"}),
        frozenset({"still.png", "still.bmp"}),
    }
    assert {item.path for group in gallery.duplicates(0.9) for item in group.duplicates} == {
        "copy of a.gif",
        "copy of black.png",
        "still.png",
    }


def test_files_that_exchanged_their_names_are_proposed_by_no_size_and_time(
    tmp_path: Path, model: Path
) -> None:
    """Unpacked from an archive, files may be equal in all but their content."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, n in (("bus", 1), ("copy of bus", 1), ("third bus", 1), ("food", 2)):
        Image.fromarray(photo(n)).save(folder / f"{name}.bmp")
    for path in folder.iterdir():
        os.utime(path, (1_000, 1_000))
    gallery = updated(folder, model=model)
    (folder / "food.bmp").rename(tmp_path / "aside")
    (folder / "copy of bus.bmp").rename(folder / "food.bmp")
    (tmp_path / "aside").rename(folder / "copy of bus.bmp")
    reported = list[Progress]()
    groups = gallery.duplicates(progress=reported.append)
    assert paths(groups) == {frozenset({"bus.bmp", "third bus.bmp"})}
    assert groups.changed == ("copy of bus.bmp",)
    steps = [(each.stage, each.done, each.total) for each in reported]
    assert steps[-3:] == [("files checked", n, 3) for n in (1, 2, 3)]


def test_files_that_have_changed_or_gone_are_left_out_and_the_next_best_is_kept(
    tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "photos"
    for n in range(5):
        write_photo(folder / f"{n}.png", 1)
        os.utime(folder / f"{n}.png", (1_000 + n, 1_000 + n))
    gallery = updated(folder, model=model)
    content = bytearray((folder / "0.png").read_bytes())
    content[-1] ^= 1
    (folder / "0.png").write_bytes(content)
    os.utime(folder / "0.png", (1_000, 1_000))
    (folder / "4.png").unlink()
    groups = gallery.duplicates()
    (group,) = groups
    assert [item.path for item in group.keep] == ["1.png"]
    assert [item.path for item in group.duplicates] == ["2.png", "3.png"]
    assert groups.changed == ("0.png", "4.png")


class Comparisons:
    """Which sides images were compared at, since it was last asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sides: list[int] = []
        usual = likeness.compare

        def compare(one: Image.Image, two: Image.Image, side: int, **how: bool) -> Any:
            self._sides.append(side)
            return usual(one, two, side, **how)

        monkeypatch.setattr(copies, "compare", compare)

    def taken(self) -> Counter[int]:
        sides, self._sides = self._sides, []
        return Counter(sides)


@pytest.fixture
def album(tmp_path: Path, model: Path) -> Gallery:
    """Of two images a smaller version."""
    for seed in range(2):
        texture(seed).save(tmp_path / f"{seed}.png")
        texture(seed).resize((160, 120)).save(tmp_path / f"{seed} small.jpg", quality=85)
    return updated(tmp_path, model=model)


PAIRS = {frozenset({"0.png", "0 small.jpg"}), frozenset({"1.png", "1 small.jpg"})}
SMALL, LARGE = copies.CHECKED_SIDE, copies.CONFIRMED_SIDE


def test_what_was_compared_is_compared_again_only_where_it_is_proposed(
    album: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = Comparisons(monkeypatch)
    first = album.duplicates()
    assert (paths(first), sides.taken()) == (PAIRS, {SMALL: 2, LARGE: 2})
    kept = (album.directory / COMPARED).read_bytes()
    for kinds in (COPIES, {Kind.BYTES}, COPIES):
        again = Gallery.open(album.root, create=False).duplicates(kinds=kinds)
        assert again == (first if kinds == COPIES else [])
        assert sides.taken() == ({LARGE: 2} if kinds == COPIES else {})
    assert (album.directory / COMPARED).read_bytes() == kept
    texture(1).resize((200, 150)).save(album.root / "1 small.jpg", quality=85)
    album.update()
    assert (paths(album.duplicates()), sides.taken()) == (PAIRS, {SMALL: 1, LARGE: 2})


def test_nothing_is_kept_of_a_file_that_is_not_as_indexed(
    album: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = album.root / "1 small.jpg"
    whole, status = small.read_bytes(), small.stat()
    texture(5).save(small)
    assert paths(album.duplicates()) == {frozenset({"0.png", "0 small.jpg"})}
    small.write_bytes(whole)
    os.utime(small, ns=(status.st_atime_ns, status.st_mtime_ns))
    sides = Comparisons(monkeypatch)
    assert (paths(album.duplicates()), sides.taken()) == (PAIRS, {SMALL: 1, LARGE: 2})


def test_a_forged_comparison_proposes_nothing_that_is_not_alike(
    album: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = texture(0)
    edited.paste(texture(9).resize((110, 80)), (100, 80))
    edited.save(album.root / "0 edited.png")
    album.update()
    sides = Comparisons(monkeypatch)
    assert paths(album.duplicates()) == PAIRS
    before = sides.taken()
    assert before[SMALL] > 2  # the edited one was a candidate
    for place, expected in ((KINDS.index(Kind.IMAGE), PAIRS), (UNLIKE, set()), (77, PAIRS)):

        def forge(parts: forging.Parts, place: int = place) -> None:
            parts.arrays["places"][:] = place

        forging.forge_arrays(album.directory / COMPARED, forge)
        assert paths(album.duplicates()) == expected
        assert sides.taken()[SMALL] == (before[SMALL] if place == 77 else 0)


def test_a_gallery_that_cannot_be_written_compares_each_time(
    album: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(copies, "write_arrays", refusing)
    sides = Comparisons(monkeypatch)
    for _ in range(2):
        assert (paths(album.duplicates()), sides.taken()) == (PAIRS, {SMALL: 2, LARGE: 2})
    assert not (album.directory / COMPARED).exists()


def test_file_numbers_that_are_alike_for_all_files_are_not_taken_for_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    os.link(tmp_path / "a", tmp_path / "hard link")

    def identities() -> list[object]:
        names = ("a", "b", "link", "hard link")
        return [file_identity(tmp_path / name) for name in names]

    a, b, link, hard = identities()
    assert a == link == hard
    assert a != b
    usual = Path.stat
    for number in (0, 7):

        def numbered(path: Path, number: int = number, **how: bool) -> os.stat_result:
            return os.stat_result((usual(path, **how)[0], number, *usual(path, **how)[2:]))

        monkeypatch.setattr(Path, "stat", numbered)
        a, b, link, _ = identities()
        assert a == link
        assert a != b
        monkeypatch.undo()


@pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf, 1.5, -1.5])
def test_a_threshold_that_is_not_a_cosine_is_refused(gallery: Gallery, threshold: float) -> None:
    for call in (gallery.duplicates, lambda t: gallery.search(np.ones(8), threshold=t)):
        with pytest.raises(ValueError, match="threshold is"):
            call(threshold)


def greedy(
    rows: list[ImageRow], vectors: NDArray[np.float32], protected: set[int], limit: float
) -> list[tuple[list[int], list[int]]]:
    """`propose` by its words, one file after the other, as numbers of rows."""

    def rank(i: int) -> tuple[bool, int, int, bytes]:
        return i not in protected, -rows[i].size, rows[i].mtime_ns, rows[i].path

    def alike(a: int, b: int) -> bool:
        return bool(vectors[a] @ vectors[b] >= limit) or rows[a].hash == rows[b].hash

    groups, left = [], sorted(range(len(rows)), key=rank)
    while left:
        best = left[0]
        keep = [i for i in left if i == best or (i in protected and alike(i, best))]
        rest = [i for i in left if i not in keep and i not in protected]
        going = [i for i in rest if any(alike(i, kept) for kept in keep)]
        if going:
            groups.append((keep, going))
        left = [i for i in left if i not in keep and i not in going]
    return groups


@pytest.mark.parametrize("noise", [0.05, 0.35, 0.8])
@pytest.mark.parametrize("reference", [None, b"safe"])
def test_proposals_are_those_of_one_file_after_the_other(
    noise: float, reference: bytes | None
) -> None:
    """From all alike to a chain in which few are; blocks of comparisons change nothing."""
    rng = np.random.default_rng(0)
    n = 700
    walk = np.cumsum(noise * rng.standard_normal((n, 24)), axis=0) / 3 + 3 * rng.standard_normal(24)
    walk += noise * rng.standard_normal((n, 24))
    vectors = (walk / np.linalg.norm(walk, axis=1, keepdims=True)).astype(np.float32)
    rows = [
        ImageRow(
            i + 1,
            b"%s/%03d" % (b"safe" if i % 5 == 0 else b"other", i),
            int(rng.integers(1000)),
            0,
            bytes([i % 256, i % 6]) if i % 7 else b"twin",
            10,
            10,
        )
        for i in range(n)
    ]
    protected = set(range(0, n, 5)) if reference else set()
    expected = greedy(rows, vectors, protected, 0.97)
    found = propose(rows, vectors, Path("/"), reference, 0.97)
    assert [
        ([item.row.id - 1 for item in group.keep], [item.row.id - 1 for item in group.duplicates])
        for group in found
    ] == expected
    for group, (keep, going) in zip(found, expected, strict=True):
        closest = (vectors[going] @ vectors[keep].T).max(axis=1)
        assert [item.cosine for item in group.duplicates] == pytest.approx(closest, abs=1e-5)
        to_best = vectors[keep] @ vectors[keep[0]]
        assert [item.cosine for item in group.keep] == pytest.approx(to_best, abs=1e-5)

"""The galleries that are damaged, the commands run on them, and the judge of what they say.

A case runs in a process of its own, forked from one that has imported everything, and calls the
command's entry point as the shell would.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fakes import listing, vectors_of, write_model
from hostile import encode, make_good_files, photo
from numpy.typing import NDArray

from fuzz.damage import mutate, mutate_bytes
from lookalike.cli import main
from lookalike.gallery import Gallery, files
from lookalike.gallery.places import IDENTITY, TABLE
from lookalike.images import SkippedImageError
from lookalike.images.decoder import Decoder
from lookalike.lsh import graph, index, linking, storage

RIGHT, CLEAR = "right", "clear error"
NAMED = "as the damaged data say, named by verify"
BAD = "ANYTHING ELSE"
SECONDS = 20
"""Of a processor that a command may take; it may wait six times as long, for a busy machine."""
MEMORY = 4 << 30
"""That a case may take beyond what its process has when it begins."""
IMAGES, SIDE = 36, 96
IMAGES_OF_A_CASE = 8
K = 5
COSINE = 2e-3
Rng = np.random.Generator


class BadError(Exception):
    """What may not be: neither a right answer nor a clear error."""


@dataclass(frozen=True)
class Verdict:
    """One of RIGHT, CLEAR, NAMED, BAD; what was done, and what came of it."""

    outcome: str
    text: str


@dataclass(frozen=True)
class Reference:
    """A whole gallery, where its images are, and the embedding of each by its path."""

    gallery: Path
    images: Path
    model: Path
    removed: frozenset[str]
    names: list[str]
    vectors: NDArray[np.float32]

    def cosines(self, name: str) -> NDArray[np.float32]:
        """Of all images to one of them, as in ``names``."""
        found: NDArray[np.float32] = self.vectors @ self.vectors[self.names.index(name)]
        return found


@dataclass(frozen=True)
class World:
    """Everything that cases begin with, below ``folder``."""

    folder: Path
    own: Reference
    other: Reference
    images: tuple[Path, ...]

    @classmethod
    def make(cls, folder: Path) -> World:
        """Called in a process of its own, which leaves the caller free of threads."""
        (folder / "outside").mkdir(parents=True)
        (folder / "outside/canary").write_bytes(b"not to be touched")
        model = write_model(folder / "tiny.onnx")
        _make_gallery(folder, "own", model, 0, remove="003.png")
        _make_gallery(folder, "other", model, 5000)
        (folder / "images").mkdir()
        make_good_files(folder / "images")
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> World:
        references = []
        for name in ("own", "other"):
            facts = json.loads((folder / f"{name}.json").read_text())
            vectors = np.load(folder / f"{name}.npy", mmap_mode="r")
            gallery, source = folder / f"{name}.gallery", folder / name
            model, removed = Path(facts["model"]), frozenset(facts["removed"])
            references.append(Reference(gallery, source, model, removed, facts["names"], vectors))
        own, other = references
        images = sorted(path for path in (folder / "images").iterdir() if path.is_file())
        return cls(folder, own, other, tuple(images))


def _make_gallery(
    folder: Path, name: str, model: Path, seed: int, remove: str | None = None
) -> None:
    """In two updates, so that the index has several segments, which have links however small."""
    vars(linking).update(LINKED_FROM=1, SCANNED=1)
    images, gallery = folder / name, folder / f"{name}.gallery"
    images.mkdir()
    opened = Gallery.open(images, directory=gallery, model=model)
    for first, last in ((0, IMAGES * 3 // 4), (IMAGES * 3 // 4, IMAGES)):
        for n in range(first, last):
            pixels = photo(seed + n, SIDE, SIDE)
            (images / f"{n:03}.png").write_bytes(encode(pixels, "PNG", compress_level=1))
        opened.update()
    vectors = vectors_of(opened)
    if remove is not None:
        opened.remove([remove])
    names = sorted(vectors)
    np.save(folder / f"{name}.npy", np.array([vectors[n] for n in names], np.float32))
    facts = {"model": os.fspath(model), "removed": [remove] if remove else [], "names": names}
    (folder / f"{name}.json").write_text(json.dumps(facts))


def _as_if_large() -> None:
    """Search as in a gallery that is too large to be read as a whole when it is opened, or to be
    compared with each query."""
    for module in (storage, graph):
        vars(module).update(VERIFY_ON_OPEN=0)
    vars(files).update(CHECKED_ON_OPEN=0)
    vars(index).update(EXACT_AT_ONCE=0)


# ---- commands ------------------------------------------------------------------------------------


class Said(NamedTuple):
    status: int
    out: str
    err: str


class Terminal:
    """Runs commands in this process with their output in files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[str] = []

    def note(self, text: str) -> None:
        """What was done to the files, for the report of a failure."""
        with (self.folder / "notes").open("a", errors="backslashreplace") as file:
            file.write(text + "\n")

    def run(self, *words: str | Path) -> Said:
        """The status and output of a command. BadError unless it ends as commands may."""
        arguments = [os.fspath(word) for word in words]
        (self.folder / "step").write_text(" ".join(arguments))
        streams = [(self.folder / name).open("w+b") for name in ("out", "err")]
        for number, stream in enumerate(streams, 1):
            os.dup2(stream.fileno(), number)
        _set_limits(SECONDS)
        sys.argv = ["lookalike", *arguments]
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            raise BadError(f"{arguments[0]}: {traceback.format_exc()}") from None
        finally:
            _set_limits(0)
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in streams:
            stream.close()
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        self.log.append(f"{arguments[0]} {status}")
        if "Traceback" in err or status not in (0, 1, 2):
            raise BadError(f"{arguments[0]} ends with {status}: {err[-3000:]}")
        if status == 2 and not any(
            line.startswith(("lookalike: ", "Error: ")) and len(line) > 20
            for line in err.splitlines()
        ):
            raise BadError(f"{arguments[0]} gives no reason: {err[-3000:]!r}")
        return Said(status, out, err)


def _set_limits(seconds: int) -> None:
    """Of this process, which ends at one of them; 0: none."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)


def judge(reference: Reference, query: str, out: str, removed_too: bool, large: bool) -> str:
    """What is wrong with the hits of a search, "" if nothing is."""
    hits = json.loads(out)
    cosines = reference.cosines(query)
    known = dict(zip(reference.names, cosines.tolist(), strict=True))
    paths = [hit["path"] for hit in hits]
    if len(set(paths)) != len(paths) or len(paths) != K:
        return f"{query}: hits {paths}"
    for hit in hits:
        if hit["path"] not in known or (not removed_too and hit["path"] in reference.removed):
            return f"{query}: {hit['path']} is not in the gallery"
        if not abs(hit["cosine"] - known[hit["path"]]) < COSINE:
            return f"{query}: {hit['path']} {hit['cosine']} instead of {known[hit['path']]}"
    found = [hit["cosine"] for hit in hits]
    if found != sorted(found, reverse=True) or paths[0] != query:
        return f"{query}: order {paths} {found}"
    # All of a small index are compared; of a large one those whose codes are nearest.
    rank = 3 * K if large else K + len(reference.removed)
    if found[-1] < np.sort(cosines)[-rank] - COSINE:
        return f"{query}: nearer images are missing: {found}"
    return ""


def outside_of(world: World) -> dict[str, tuple[int, int, int]]:
    """What no command may touch."""
    return listing(world.folder / "outside") | listing(world.own.images)


def touched(world: World, before: dict[str, tuple[int, int, int]]) -> str:
    after = outside_of(world)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"touched {changed[:3]}" if changed else ""


# ---- cases ---------------------------------------------------------------------------------------


def run_case(kind: str, rng: Rng, world: World, scratch: Path) -> None:
    """Run one case in this process, which then ends. Its verdict is in the file "verdict" of
    ``scratch``; "notes" say what was done, and "step" which command runs.
    """
    limit = _memory() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    terminal = Terminal(scratch)
    try:
        verdict = CASES[kind](rng, world, scratch, terminal)
    except BadError as error:
        verdict = Verdict(BAD, f"{error}")
    except BaseException:
        verdict = Verdict(BAD, f"a fault of this program: {traceback.format_exc()}")
    text = f"{verdict.text}\n    after: {', '.join(terminal.log)}" if terminal.log else verdict.text
    (scratch / "verdict").write_text(json.dumps([verdict.outcome, text]))


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _copy(reference: Reference, scratch: Path) -> Path:
    """A copy of its gallery."""
    return Path(shutil.copytree(reference.gallery, scratch / "gallery"))


def damaged(rng: Rng, world: World, scratch: Path, terminal: Terminal) -> Verdict:
    large = rng.random() < 0.25
    gallery = _copy(world.own, scratch)
    what = mutate(rng, gallery, world.other.gallery)
    terminal.note(f"{'large' if large else 'small'}: {what}")
    # Two of its three ids are then another's, so that a repair takes the index for the stranger.
    taken_over = all(f"{name} replaced by other" in what for name in (TABLE, IDENTITY))
    try:
        return _use(rng, world, gallery, terminal, large)
    except BadError as error:
        if taken_over and "belongs to" in str(error):
            return Verdict(CLEAR, str(error))
        raise


def _use(rng: Rng, world: World, gallery: Path, terminal: Terminal, large: bool) -> Verdict:
    """Every command on a damaged gallery, its repair, and every command again."""
    if large:
        _as_if_large()
    reference = world.own
    before = outside_of(world)
    there = ("--gallery", gallery)
    kept = [name for name in reference.names if name not in reference.removed]
    queries = [kept[int(n)] for n in rng.integers(len(kept), size=2)]
    wrong: list[str] = []
    errors = 0

    def search(when: str, removed_too: bool = False) -> None:
        nonlocal errors
        for query in queries:
            said = terminal.run("search", reference.images / query, *there, "-k", str(K), "--json")
            errors += said.status == 2
            if said.status == 0 and (what := judge(reference, query, said.out, removed_too, large)):
                wrong.append(f"{when}: {what}")
            elif said.status == 1:
                wrong.append(f"{when}: nothing found")

    errors += terminal.run("info", *there).status == 2
    search("before repair")
    found_damage = terminal.run("verify", *there)
    if rng.random() < 0.5:
        errors += terminal.run("index", reference.images, *there).status == 2
        search("after update")
    named = found_damage.status != 0
    if wrong and not (large and named):
        raise BadError(f"wrong answers: {wrong}; verify: {found_damage.out[-500:]}")
    first = list(wrong)
    wrong.clear()
    repaired = terminal.run("verify", "--repair", *there)
    if repaired.status == 2:  # beyond repair, which the message says
        errors += 1
        model = ("--model", reference.model)
        rebuilt = terminal.run("index", reference.images, *there, "--rebuild", *model)
        if rebuilt.status == 2:
            raise BadError(f"no repair ({repaired.err}), and no rebuild: {rebuilt.err}")
    elif repaired.status == 1:
        raise BadError(f"a repair leaves damage: {repaired.out[-1000:]}")
    again = terminal.run("verify", *there)
    if again.status != 0:
        raise BadError(f"damage after a repair: {again.out[-1000:]} {again.err[-1000:]}")
    if (updated := terminal.run("index", reference.images, *there)).status == 2:
        raise BadError(f"no update after a repair: {updated.err}")
    errors_before = errors
    search("after repair", removed_too=True)
    if errors != errors_before:
        raise BadError("no search after a repair")
    if wrong:
        raise BadError(f"wrong answers: {wrong}")
    if what := touched(world, before):
        raise BadError(what)
    if first:
        return Verdict(NAMED, str(first))
    return Verdict(CLEAR if errors or named else RIGHT, "")


def images(rng: Rng, world: World, scratch: Path, terminal: Terminal) -> Verdict:
    """Damaged image files are read, or refused with a reason, one after the other."""
    refused = []
    with Decoder() as decoder:
        for n in range(IMAGES_OF_A_CASE):
            source = world.images[int(rng.integers(len(world.images)))]
            content, what = source.read_bytes(), []
            for _ in range(int(rng.integers(1, 4))):
                content, done = mutate_bytes(rng, content)
                what.append(done)
            terminal.note(f"{source.name}: {', '.join(what)}")
            path = scratch / f"{n}{source.suffix}"
            path.write_bytes(content)
            (scratch / "step").write_text(f"read_image {path.name}")
            _set_limits(SECONDS)
            try:
                pixels = decoder.read_image(path, SIDE).pixels
            except SkippedImageError as error:
                refused.append(str(error))
                continue
            except BaseException:
                raise BadError(f"{path.name}: {traceback.format_exc()}") from None
            finally:
                _set_limits(0)
            if pixels.shape != (SIDE, SIDE, 3) or pixels.dtype != np.uint8:
                raise BadError(f"{path.name}: pixels {pixels.dtype} {pixels.shape}")
    return Verdict(CLEAR if refused else RIGHT, str(refused))


CASES = {"mutations": damaged, "images": images}

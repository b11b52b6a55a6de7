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
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fakes import vectors_of, write_model
from hostile import encode, make_good_files, photo
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fuzz.damage import forge, mutate, mutate_bytes
from lookalike.cli import main
from lookalike.encoder import ModelInfo
from lookalike.gallery import Gallery
from lookalike.gallery.places import IDENTITY, TABLE
from lookalike.images import SkippedImageError
from lookalike.images.decoder import Decoder
from lookalike.lsh import LSHSettings, linking

__all__ = ["BAD", "CLEAR", "FORGED", "NAMED", "RIGHT", "Verdict", "World", "run_case"]

RIGHT, CLEAR = "right", "clear error"
NAMED = "as the damaged data say, named by verify"
FORGED = "as the forged data say"
BAD = "ANYTHING ELSE"
SECONDS = 20
"""Of a processor that a command may take; it may wait six times as long, for a busy machine."""
MEMORY = 4 << 30
"""That a case may take beyond what its process has when it begins."""
SMALL_IMAGES, LARGE_IMAGES, SIDE = 36, 1300, 96
"""An index of LARGE_IMAGES vectors of 3 * SIDE^2 float16 has over 64 MiB."""
IMAGES_OF_A_CASE = 8
K = 5
COSINE = 2e-3
Rng = np.random.Generator


class BadError(Exception):
    """What may not be: neither a right answer nor a clear error."""


@dataclass(frozen=True)
class Verdict:
    """One of RIGHT, CLEAR, NAMED, FORGED, BAD; what was done, and what came of it."""

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

    @property
    def is_large(self) -> bool:
        return len(self.names) > SMALL_IMAGES

    def cosines(self, name: str) -> NDArray[np.float32]:
        """Of all images to one of them, as in ``names``."""
        found: NDArray[np.float32] = self.vectors @ self.vectors[self.names.index(name)]
        return found


@dataclass(frozen=True)
class World:
    """Everything that cases begin with, below ``folder``."""

    folder: Path
    small: Reference
    other: Reference
    large: Reference
    home: Reference
    images: tuple[Path, ...]

    @classmethod
    def make(cls, folder: Path) -> World:
        """Called in a process of its own, which leaves the caller free of threads."""
        (folder / "outside").mkdir(parents=True)
        (folder / "outside/canary").write_bytes(b"not to be touched")
        tiny = write_model(folder / "tiny.onnx")
        _make_gallery(folder, "small", SMALL_IMAGES, tiny, 0, remove="003.png")
        _make_gallery(folder, "other", SMALL_IMAGES, tiny, 5000)
        _make_gallery(folder, "home", SMALL_IMAGES, tiny, 0, remove="003.png")
        _make_gallery(folder, "large", LARGE_IMAGES, _write_wide_model(folder), 0)
        (folder / "images").mkdir()
        make_good_files(folder / "images")
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> World:
        references = []
        for name in ("small", "other", "large", "home"):
            facts = json.loads((folder / f"{name}.json").read_text())
            vectors = np.load(folder / f"{name}.npy", mmap_mode="r")
            gallery, source = _gallery_of(folder, name), folder / name
            model, removed = Path(facts["model"]), frozenset(facts["removed"])
            references.append(Reference(gallery, source, model, removed, facts["names"], vectors))
        small, other, large, home = references
        images = sorted(path for path in (folder / "images").iterdir() if path.is_file())
        return cls(folder, small, other, large, home, tuple(images))


def _write_wide_model(folder: Path) -> Path:
    """Its embedding is the image itself, so that few images make a large index."""
    dim = 3 * SIDE**2
    info = ModelInfo("wide", "1", "", SIDE, (127.0,) * 3, (64.0,) * 3, dim)
    flatten = helper.make_node("Flatten", ["images"], ["embeddings"], axis=1)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, SIDE, SIDE))
    out = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ("n", dim))
    graph = helper.make_graph([flatten], "wide", [images], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, info.to_metadata())
    onnx.save_model(model, folder / "wide.onnx")
    return folder / "wide.onnx"


def _gallery_of(folder: Path, name: str) -> Path:
    """Beside the images, or, where both are copied together, among them."""
    return folder / name / ".lookalike" if name == "home" else folder / f"{name}.gallery"


def _make_gallery(
    folder: Path, name: str, count: int, model: Path, seed: int, remove: str | None = None
) -> None:
    """In two updates, so that the index has several segments, which have links however small."""
    vars(linking).update(LINKED_FROM=1, SCANNED=1)
    images, gallery = folder / name, _gallery_of(folder, name)
    images.mkdir()
    lsh = None
    if count == LARGE_IMAGES:  # what is fitted to vectors that long takes half a minute
        dim = 3 * SIDE**2
        lsh = LSHSettings(dim, tables=2, key_bits=6, keys="hyperplanes", codes="orthogonal")
    opened = Gallery.open(images, directory=gallery, model=model, lsh=lsh)
    for first, last in ((0, count * 3 // 4), (count * 3 // 4, count)):
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


# ---- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
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
        out, err = (_content(stream) for stream in streams)
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


def _content(stream: Any) -> str:
    stream.seek(0)
    with stream:
        return str(stream.read().decode(errors="replace"))


def judge(reference: Reference, query: str, out: str, removed_too: bool) -> str:
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
    rank = K + len(reference.removed) if not reference.is_large else 3 * K
    if found[-1] < np.sort(cosines)[-rank] - COSINE:
        return f"{query}: nearer images are missing: {found}"
    return ""


def touched(world: World, before: dict[str, tuple[int, ...]], *folders: Path) -> str:
    after = listing(world.folder / "outside", *folders)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"touched {changed[:3]}" if changed else ""


def listing(*folders: Path) -> dict[str, tuple[int, ...]]:
    """Every entry below the folders, with mode, size and time."""
    found: dict[str, tuple[int, ...]] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            found[os.fspath(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


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
    """A copy of its gallery; files of the index, which are never written in place, are linked."""
    gallery = scratch / "gallery"
    shutil.copytree(
        reference.gallery,
        gallery,
        copy_function=lambda a, b: os.link(a, b) if a.endswith(".lka") else shutil.copy2(a, b),
    )
    return gallery


def damaged(rng: Rng, world: World, scratch: Path, terminal: Terminal) -> Verdict:
    reference = world.large if rng.random() < 0.25 else world.small
    gallery = _copy(reference, scratch)
    what = mutate(rng, gallery, world.other.gallery)
    terminal.note(f"{reference.images.name}: {what}")
    # Two of its three ids are then another's, so that a repair takes the index for the stranger.
    taken_over = all(f"{name} replaced by other" in what for name in (TABLE, IDENTITY))
    try:
        return _use(rng, world, reference, gallery, terminal, forged=False)
    except BadError as error:
        if taken_over and "belongs to" in str(error):
            return Verdict(CLEAR, str(error))
        raise


def forged(rng: Rng, world: World, scratch: Path, terminal: Terminal) -> Verdict:
    reference = world.large if rng.random() < 0.1 else world.small
    gallery = _copy(reference, scratch)
    for path in gallery.rglob("*.lka"):  # forged in place
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    terminal.note(f"{reference.images.name}: {forge(rng, gallery)}")
    return _use(rng, world, reference, gallery, terminal, forged=True)


def _use(
    rng: Rng, world: World, reference: Reference, gallery: Path, terminal: Terminal, forged: bool
) -> Verdict:
    """Every command on a damaged gallery, its repair, and every command again."""
    before = listing(world.folder / "outside", reference.images)
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
            if said.status == 0 and (what := judge(reference, query, said.out, removed_too)):
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
    excused = wrong and (forged or (reference.is_large and named))
    if wrong and not excused:
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
    if wrong and not forged:
        raise BadError(f"wrong answers: {wrong}")
    if what := touched(world, before, reference.images):
        raise BadError(what)
    if first or wrong:
        return Verdict(FORGED if forged else NAMED, str([*first, *wrong]))
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


def killed(rng: Rng, world: World, scratch: Path, terminal: Terminal) -> Verdict:
    """A writer is killed, once to three times, and the gallery is used and brought up to date."""
    reference = world.home
    images = scratch / "images"
    shutil.copytree(reference.images, images)
    gallery = images / reference.gallery.name
    there, model = ("--gallery", gallery), ("--model", reference.model)
    action = ("first index", "index", "rebuild", "remove", "repair")[int(rng.integers(5))]
    if action == "first index":
        shutil.rmtree(gallery)
    for n in range(12):
        pixels = photo(9000 + n, SIDE, SIDE)
        (images / f"new{n}.png").write_bytes(encode(pixels, "PNG", compress_level=1))
    words: dict[str, tuple[str | Path, ...]] = {
        "first index": ("index", images, *there, *model),
        "index": ("index", images, *there),
        "rebuild": ("index", images, *there, "--rebuild", *model),
        "remove": ("remove", images / "001.png", images / "002.png", *there),
        "repair": ("verify", "--repair", *there),
    }
    if action == "repair":
        what = mutate(rng, gallery, world.other.gallery)
        terminal.note(f"repair of {what}")
    moments = []
    for _ in range(int(rng.integers(1, 4))):
        at, operations = float(rng.random() * 0.6), int(rng.integers(0, 40))
        moments.append(f"{at:.3f} s" if operations % 2 else f"operation {operations // 2 + 1}")
        _kill(words[action], scratch, at if operations % 2 else None, operations // 2 + 1)
    terminal.note(killed_at := f"{action} killed at {', '.join(moments)}")
    if action == "repair":
        terminal.run("info", *there)
        if terminal.run(*words["repair"]).status != 0:
            terminal.run("index", images, *there, "--rebuild", *model)
    elif gallery.exists():
        info = terminal.run("info", *there)
        verified = terminal.run("verify", *there)
        nothing_yet = "there is no gallery" in info.err
        if not nothing_yet and (info.status != 0 or verified.status != 0):
            raise BadError(f"{killed_at}: {info.err} {verified.out} {verified.err}")
    if (updated := terminal.run("index", images, *there, *model)).status != 0:
        raise BadError(f"{killed_at}: no update: {updated.err}")
    verified = terminal.run("verify", *there)
    said = terminal.run("search", images / "000.png", *there, "-k", "100", "--json")
    if verified.status != 0 or said.status != 0:
        raise BadError(f"{killed_at}: {verified.out} {said.err}")
    found = {hit["path"] for hit in json.loads(said.out)}
    expected = {path.name for path in images.glob("*.png")}
    may_lack = {*reference.removed, "001.png", "002.png"} if action == "remove" else set()
    may_lack |= reference.removed
    if not expected - may_lack <= found <= expected:
        raise BadError(f"{killed_at}: {len(found)} of {len(expected)} images")
    if what := touched(world, listing(world.folder / "outside")):
        raise BadError(what)
    return Verdict(RIGHT, "")


def _kill(
    words: tuple[str | Path, ...], scratch: Path, seconds: float | None, operation: int
) -> None:
    """Run a command in a process of its own and kill it and its children after some seconds, or
    before it makes something durable for the n-th time.
    """
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        count = 0

        def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == operation:
                    os.killpg(0, signal.SIGKILL)
                return call(*arguments, **options)

            return counted

        if seconds is None:
            for name in ("fsync", "replace", "rename", "unlink"):
                setattr(os, name, deadly(getattr(os, name)))
        try:
            Terminal(scratch).run(*words)
        finally:
            os._exit(0)
    with suppress(OSError):  # the child does the same, and may be first
        os.setpgid(child, child)
    began = time.monotonic()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() - began > (SECONDS if seconds is None else seconds):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.002)


CASES = {"mutations": damaged, "forged": forged, "images": images, "kills": killed}

"""Decoding in processes that may be ended: the same answers, and nothing taken by one file."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from hostile import encode, many_scans, photo
from PIL import Image

from lookalike.errors import DecoderError
from lookalike.gallery import Gallery
from lookalike.images import SkippedImageError, SkipReason, read_image, read_rgb
from lookalike.images import decoder as decoder_module
from lookalike.images.decoder import Decoder, Limits
from lookalike.images.process import Process, start_process

SLOW = many_scans(3000, 4000)
"""Minutes of work, in 180 kB."""


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as opened:
        yield opened


def skipped(decoder: Decoder, source: Any) -> SkippedImageError:
    with pytest.raises(SkippedImageError) as caught:
        decoder.read_image(source, 16)
    return caught.value


def reads(decoder: Decoder) -> None:
    """Whether the next good image is read."""
    data = io.BytesIO(encode(photo(3), "PNG"))
    np.testing.assert_array_equal(decoder.read_image(data, 16).pixels, read_image(data, 16).pixels)


def test_every_good_file_gives_many_threads_what_it_gives_in_this_process(
    tmp_path: Path, decoder: Decoder
) -> None:
    def check(path: Path) -> None:
        here = read_image(path, 16)
        for source in (path, os.fsencode(path), io.BytesIO(path.read_bytes())):
            there = decoder.read_image(source, 16)
            np.testing.assert_array_equal(there.pixels, here.pixels)
            assert there.pixels.flags.writeable
            assert {**vars(there), "pixels": 0} == {**vars(here), "pixels": 0}
        assert decoder.read_rgb(path, longest_side=20) == read_rgb(path, longest_side=20)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, hostile.make_good_files(tmp_path)))


@pytest.mark.slow
def test_every_hostile_file_is_skipped_for_the_same_reason(
    tmp_path: Path, decoder: Decoder
) -> None:
    for path, reason in hostile.make_hostile_files(tmp_path).items():
        assert skipped(decoder, path).reason is reason, path
    for name in ("nul\0byte.jpg", "x" * 5000 + ".jpg", "\ud800.jpg"):
        assert skipped(decoder, name).reason is SkipReason.UNREADABLE
    reads(decoder)


def test_a_relative_path_is_one_from_the_current_folder(
    tmp_path: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(decoder)  # its process was started elsewhere
    (tmp_path / "a.png").write_bytes(encode(photo(1), "PNG"))
    monkeypatch.chdir(tmp_path)
    assert decoder.read_image("a.png", 16).width == 64


def test_a_file_that_takes_too_long_is_skipped_and_the_next_one_read() -> None:
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="max_seconds must be a positive number, not"):
            Limits(max_seconds=seconds)
    with Decoder(Limits(max_seconds=0.3)) as decoder:
        error = skipped(decoder, io.BytesIO(SLOW))
        assert str(error) == (
            "too-slow: decoding it takes more than 0.3 seconds; raise --max-seconds to read it"
        )
        reads(decoder)


def test_time_by_the_clock_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer takes no processor time; here, a process that is stopped."""
    ask = Process.ask

    def stopped(self: Process, *arguments: Any) -> Any:
        os.kill(self._process.pid, signal.SIGSTOP)
        return ask(self, *arguments)

    with Decoder(Limits(max_seconds=0.2), patience=1) as decoder:
        reads(decoder)
        with monkeypatch.context() as patched:
            patched.setattr(Process, "ask", stopped)
            error = skipped(decoder, io.BytesIO(encode(photo(3), "PNG")))
        assert error.reason is SkipReason.TOO_SLOW
        reads(decoder)


def test_a_file_that_takes_too_much_memory_is_skipped_and_the_next_one_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = encode(Image.new("RGB", (6000, 6000)), "PNG", compress_level=1)
    with Decoder() as decoder:
        assert decoder.read_image(io.BytesIO(large), 16).width == 6000
        monkeypatch.setattr(Limits, "memory", 100 << 20)  # its pixels take 144 MB
        error = skipped(decoder, io.BytesIO(large))
        assert error.reason is SkipReason.TOO_LARGE
        assert "0.1 GiB of memory" in error.detail
        assert "--max-pixels" in error.remedy
        reads(decoder)


@pytest.mark.slow
def test_a_tiff_may_have_as_many_pixels_as_any_other_image(tmp_path: Path) -> None:
    """Pillow's own limit is 179 million."""
    scan = tmp_path / "scan.tif"
    Image.new("1", (14_000, 13_000), 1).save(scan, "TIFF", compression="group4")
    with Decoder() as decoder:
        assert decoder.read_image(scan, 16).pixels.min() >= 254  # white, but for rounding
    with Decoder(Limits(max_pixels=181_999_999)) as decoder:
        assert "limit is 181,999,999" in skipped(decoder, scan).detail


def fatal(monkeypatch: pytest.MonkeyPatch, status: signal.Signals, times: int) -> None:
    """The next files make their processes crash."""
    ask = Process.ask
    left = [times]

    def crash(self: Process, *arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            os.kill(self._process.pid, status)
            self._process.wait()
        return ask(self, *arguments)

    monkeypatch.setattr(Process, "ask", crash)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(signal.SIGSEGV, SkipReason.DAMAGED), (signal.SIGKILL, SkipReason.TOO_LARGE)],
)
def test_a_file_that_crashes_a_new_process_is_skipped(
    status: signal.Signals,
    reason: SkipReason,
    decoder: Decoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder_module._idle.trim(0)
    decoder.prepare()
    (process,) = decoder_module._idle._waiting
    process._receive(60)  # it is ready
    process._is_ready = True
    with monkeypatch.context() as patched:
        fatal(patched, status, times=1)
        assert skipped(decoder, io.BytesIO(encode(photo(1), "PNG"))).reason is reason
    reads(decoder)


def test_a_process_that_an_earlier_file_has_broken_costs_the_next_file_nothing(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(decoder)
    fatal(monkeypatch, signal.SIGSEGV, times=1)
    reads(decoder)


@pytest.fixture
def group(tmp_path: Path) -> list[Path]:
    """Two good files, one that takes hours, and a good one."""
    paths = [tmp_path / name for name in "abcd"]
    for path in paths:
        path.write_bytes(encode(photo(3), "PNG"))
    paths[2].write_bytes(SLOW)
    return paths


def outcomes_of(decoder: Decoder, paths: list[Path]) -> list[object]:
    made = decoder.read_images(paths, 16)
    return [one.reason if isinstance(one, SkippedImageError) else one.width for one in made]


def test_a_file_among_others_that_takes_too_long_is_decoded_once(
    group: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []
    end = Process.end

    def counted(self: Process) -> int:
        ends.append(end(self))
        return ends[-1]

    monkeypatch.setattr(Process, "end", counted)
    with Decoder(Limits(max_seconds=0.3), patience=1000) as decoder:
        reads(decoder)
        assert outcomes_of(decoder, group) == [64, 64, SkipReason.TOO_SLOW, 64]
        assert ends == [-signal.SIGPROF]


def test_a_file_among_others_that_crashes_its_process_is_skipped_alone(
    group: list[Path], decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, begun = Process.ask, Process.begun
    crashed: dict[Process, int] = {}

    def crash(self: Process, head: dict[str, Any], *others: Any) -> Any:
        if str(group[2]) not in head["paths"]:
            return ask(self, head, *others)
        crashed[self] = head["paths"].index(str(group[2])) + 1
        os.kill(self._process.pid, signal.SIGSEGV)
        raise EOFError

    monkeypatch.setattr(Process, "ask", crash)
    monkeypatch.setattr(Process, "begun", lambda self: crashed.pop(self, 0) or begun(self))
    assert outcomes_of(decoder, group) == [64, 64, SkipReason.DAMAGED, 64]
    assert not crashed


def test_closing_ends_what_is_being_read_at_once() -> None:
    decoder = Decoder(Limits(max_seconds=600))
    begun = threading.Event()
    raised: list[BaseException] = []

    def read() -> None:
        begun.set()
        try:
            decoder.read_image(io.BytesIO(SLOW), 16)
        except DecoderError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait()
    while not decoder._at_work and thread.is_alive():
        time.sleep(0.01)
    (process,) = decoder._at_work
    decoder.close()
    thread.join(30)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert process._process.poll() == -signal.SIGKILL


def test_a_process_that_does_not_start_is_nobodys_bad_image(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.open(photos, model=model)
    decoder_module._idle.trim(0)
    for executable in ("/nowhere/python", "/bin/false"):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", executable)
            with pytest.raises(DecoderError, match="cannot start the process that decodes images"):
                gallery.update()
        assert gallery.skipped() == []
    assert gallery.update().images == 12


PARENT = """
import io, json, sys, threading
from lookalike.images.decoder import Decoder, Limits
data = open(sys.argv[1], "rb").read()
decoder = Decoder(Limits(max_seconds=1))
for _ in range(2):
    decoder.prepare(2)
idle, busy = Decoder(), []
threading.Thread(target=decoder.read_image, args=(io.BytesIO(data), 16), daemon=True).start()
while not decoder._at_work:
    pass
from lookalike.images.decoder import _idle
print(json.dumps([p._process.pid for p in [*decoder._at_work, *_idle._waiting]]), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "slow.jpg").write_bytes(SLOW)
    command = [sys.executable, "-c", PARENT, os.fspath(tmp_path / "slow.jpg")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as parent:
        assert parent.stdout is not None
        children = json.loads(parent.stdout.readline())
        parent.kill()
    assert children
    ends = time.monotonic() + 60
    while left := [pid for pid in children if is_running(pid)]:
        assert time.monotonic() < ends, left
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """And not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_forked_process_does_not_use_those_of_its_parent(decoder: Decoder) -> None:
    reads(decoder)
    theirs = list(decoder_module._idle._waiting)
    pid = os.fork()
    if pid == 0:
        try:
            with Decoder() as own:
                reads(own)
                for process in theirs:
                    process.let_go()
            os._exit(0 if set(decoder_module._idle._waiting).isdisjoint(theirs) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert theirs and all(process.is_running() for process in theirs)
    reads(decoder)


def test_a_process_that_was_killed_is_not_used_again_even_before_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = start_process()
    with monkeypatch.context() as patch:
        patch.setattr(process._process, "kill", lambda: None)
        assert process.is_running()
        process.kill()
    assert process._process.poll() is None and not process.is_running()
    process.let_go()


def test_the_time_for_which_a_program_was_stopped_is_not_that_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by Ctrl-Z and fg: a wait of a second that takes an hour by the clock."""
    process, late = start_process(), itertools.chain([3600.0], itertools.repeat(0.0))
    process._receive(60)  # it is ready
    clock, gone = time.monotonic, 0.0

    def wait(seconds: float) -> bool:
        nonlocal gone
        assert seconds <= 1
        gone += seconds + next(late)
        return False

    monkeypatch.setattr("lookalike.images.process.time.monotonic", lambda: clock() + gone)
    process._ends = time.monotonic() + 10
    with pytest.raises(TimeoutError):
        process._waited(wait)
    assert 3609 < gone < 3611
    process.let_go()


def test_what_libraries_print_stays_out_of_the_terminal(
    decoder: Decoder, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(photo(1), "TIFF", compression="tiff_lzw")
    broken = data[:200] + b"\xff" * 200 + data[400:]
    assert skipped(decoder, io.BytesIO(broken)).reason is SkipReason.DAMAGED
    assert capfd.readouterr() == ("", "")


# Galleries ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_update_and_a_search_skip_what_takes_too_long_and_read_it_with_more_time(
    photos: Path, model: Path
) -> None:
    content = many_scans(1500, 60)
    (photos / "slow.jpg").write_bytes(content)
    (photos / "slower.jpg").write_bytes(SLOW)
    gallery = Gallery.open(photos, model=model, max_seconds=0.3)
    gallery.update()
    skips = {row.path: row.skipped for row in gallery.skipped()}
    assert skips[b"slower.jpg"] == SkipReason.TOO_SLOW
    for query in (SLOW, photos / "slower.jpg"):
        with pytest.raises(SkippedImageError, match=r"too-slow.*--max-seconds"):
            gallery.search(query)
    (photos / "slower.jpg").write_bytes(content)
    report = Gallery.open(photos, max_seconds=60).update()
    assert (report.images, report.skipped) == (14, 0)

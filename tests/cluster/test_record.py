"""Records: an image's row as bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lookalike.cluster.collection.record import (
    decode_record,
    decode_skipped,
    encode_record,
    encode_skipped,
)
from lookalike.errors import GalleryDamagedError
from lookalike.gallery.store import ImageRow

ROW = ImageRow(
    2**40 + 3,
    b"caf\xc3\xa9/\xff\xfe.jpg",
    2**33,
    -(10**18),
    bytes(range(16)),
    30_000,
    20_000,
    "JPEG",
)
CODE, KEYS = bytes(range(100, 132)), np.array([0, 1, 16383], "<u2")


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        replace(ROW, hash=None),
        replace(ROW, width=None, height=None, format=None),
        replace(ROW, hash=bytes(16), width=0, format=""),
        replace(ROW, path=b"", size=0, mtime_ns=0),
    ],
)
def test_a_record_gives_back_row_code_and_keys(row: ImageRow) -> None:
    record = decode_record(row.id, encode_record(row, CODE, KEYS.tobytes()))
    assert record.row == row
    assert record.code.tobytes() == CODE
    assert record.keys.tolist() == KEYS.tolist()


@pytest.mark.parametrize("tables, code_bytes", [(1, 8), (64, 128)])
def test_it_holds_the_smallest_and_the_largest_code(tables: int, code_bytes: int) -> None:
    code, keys = bytes([7] * code_bytes), np.arange(tables, dtype="<u2")
    record = decode_record(ROW.id, encode_record(ROW, code, keys.tobytes()))
    assert (record.code.tobytes(), record.keys.tolist()) == (code, list(range(tables)))


def test_a_skipped_file_gives_back_its_row_with_its_id() -> None:
    row = replace(ROW, skipped="damaged", detail="cut at byte 5\udcff", remedy="")
    assert decode_skipped(encode_skipped(row)) == row


def test_a_record_of_another_image_is_refused() -> None:
    data = encode_record(ROW, CODE, KEYS.tobytes())
    with pytest.raises(GalleryDamagedError, match=r"image 5 .* checksum; .*lookalike cluster load"):
        decode_record(5, data)


def test_every_cut_and_every_altered_byte_is_noticed() -> None:
    data = encode_record(ROW, CODE, KEYS.tobytes())
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for damaged in (altered, data[:at]):
            with pytest.raises(GalleryDamagedError):
                decode_record(ROW.id, damaged)


def test_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike.cluster.collection.record.VERSION", 2)
    data = encode_record(ROW, CODE, KEYS.tobytes())
    monkeypatch.undo()
    with pytest.raises(GalleryDamagedError, match="has version 2, this lookalike reads version 1"):
        decode_record(ROW.id, data)


def test_a_path_that_is_too_long_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match=r"longer than 65,535 bytes"):
        encode_record(replace(ROW, path=b"x" * 65_536), CODE, KEYS.tobytes())

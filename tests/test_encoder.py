from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from skimage import data
from threadpoolctl import threadpool_info

from lookalike.encoder import (
    DEFAULT_MODEL,
    Encoded,
    Encoder,
    EncoderSettings,
    Failed,
    ModelInfo,
    one_by_one,
)
from lookalike.errors import LookalikeError, ModelError

MEANS = ModelInfo("means", "1", "", 4, (1.0, 2.0, 3.0), (2.0, 4.0, 0.5), 3)


def write_model(
    path: Path,
    info: ModelInfo = MEANS,
    *,
    shape: tuple[int | str, ...] = ("n", 3, 4, 4),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model whose embedding is the mean of each normalised channel."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images"], ["embeddings"], axes=[2, 3], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [shape[0], 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, info.to_metadata() if metadata is None else metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "means.onnx")


def small(means: Path, batch_size: int = 2, threads: int = 3) -> Encoder:
    return Encoder.open(means, EncoderSettings(batch_size=batch_size, threads=threads))


@dataclass
class Page:
    pixels: NDArray[np.uint8]
    note: str


class TornPageError(LookalikeError):
    pass


def page(number: int) -> Page:
    """Distinct for distinct numbers below 2 ** 16."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:] = 100, number % 256, number // 256
    return Page(pixels, f"page {number}")


def unit(values: object) -> NDArray[np.float64]:
    vector = np.asarray(values, np.float64)
    return np.asarray(vector / np.linalg.norm(vector))


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("lookalike-read")]


# -- the model file ------------------------------------------------------------------------------


def test_runtimes_are_imported_in_one_place_which_disables_their_telemetry() -> None:
    importing = re.compile(r"^\s*(import onnxruntime|import openvino|from onnxruntime)\b", re.M)
    root = Path(__file__).resolve().parents[1]
    sources = [
        path for part in ("src", "benchmarks", "scripts") for path in root.glob(f"{part}/**/*.py")
    ]
    assert len(sources) > 150
    found = {path.name: importing.findall(path.read_text()) for path in sources}
    assert not any(found.values())
    # native code sees the variable only if it is set in the process before the import
    code = (
        "import ctypes, lookalike.runtimes as e, os; c = ctypes.CDLL(None); "
        "c.getenv.restype = ctypes.c_char_p; "
        "e.importlib.import_module = lambda name: print(name, c.getenv(b'ORT_DISABLE_TELEMETRY'));"
        "e.import_onnxruntime('onnxruntime.quantization')"
    )
    without = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    run = subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True)
    assert run.stdout == "onnxruntime.quantization b'1'\n", run.stderr


def test_a_missing_or_truncated_model_names_the_path_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx \(No such file.*use one that lookalike"):
        Encoder.open(tmp_path / "none.onnx")
    whole = DEFAULT_MODEL.read_bytes()
    for keep in (0, 1, 1000, 5_000_000, -200, -1):
        (tmp_path / "cut.onnx").write_bytes(whole[:keep])
        with pytest.raises(ModelError, match=r"cut\.onnx is .*use one that lookalike has written"):
            Encoder.open(tmp_path / "cut.onnx")


GOOD = MEANS.to_metadata()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"no lookalike\.\* metadata"),
        ({"other.name": "x"}, r"no lookalike\.\* metadata"),
        ({**GOOD, "lookalike.format": "3"}, "format 3, this version reads 1 and 2"),
        ({k: v for k, v in GOOD.items() if k != "lookalike.dim"}, r"missing \['dim'\]"),
        ({**GOOD, "lookalike.pooling": "gap"}, r"unknown \['pooling'\]"),
        ({**GOOD, "lookalike.sha256": "00"}, r"unknown \['sha256'\]"),
        ({**GOOD, "lookalike.std": "[1, 0, 1]"}, "std must be positive"),
        ({**GOOD, "lookalike.mean": "[1, 2]"}, "mean must be three finite numbers"),
        ({**GOOD, "lookalike.mean": "[1, 2, NaN]"}, "mean must be three finite numbers"),
        ({**GOOD, "lookalike.mean": "7"}, "not iterable"),
        ({**GOOD, "lookalike.mean": "{[}"}, "not an image encoder"),
        ({**GOOD, "lookalike.dim": "true"}, "dim must be a positive integer"),
        ({**GOOD, "lookalike.dim": "4"}, r"shape \['n', 4\]"),
        ({**GOOD, "lookalike.input_size": "5"}, r"shape \['n', 3, 5, 5\]"),
        ({**GOOD, "lookalike.name": ""}, "name must be some text"),
    ],
)
def test_wrong_metadata_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = write_model(tmp_path / "model.onnx", metadata=metadata)
    with pytest.raises(ModelError, match=message) as caught:
        Encoder.open(path)
    assert str(path) in str(caught.value)
    assert "use one that lookalike has written" in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(1, 3, 4, 4), ("n", 4, 4, 3), ("n", 3, "h", "w"), ("n", 1, 4, 4)]
)
def test_a_graph_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    path = write_model(tmp_path / "model.onnx", shape=shape)
    with pytest.raises(ModelError, match=r"model\.onnx is"):
        Encoder.open(path)


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 0}, {"batch_size": 2.5}, {"threads": 0}, {"threads": 1.5}, {"runtime": "tpu"}],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(change))} must be"):
        EncoderSettings(**change)


# -- arrays to embeddings ------------------------------------------------------------------------


def test_pixels_are_normalised_per_channel_and_rows_to_length_one(means: Path) -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[0] = 5, 10, 4  # (5 - 1) / 2, (10 - 2) / 4, (4 - 3) / 0.5
    pixels[1, :, :2] = 255
    expected = [unit([2, 2, 2]), unit([(127.5 - 1) / 2, (127.5 - 2) / 4, (127.5 - 3) / 0.5])]
    embeddings = small(means).embed(pixels)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)


@pytest.mark.parametrize(("batch_size", "threads"), [(3, 1), (8, 2)])
def test_photographs_are_embedded_as_by_hand_whatever_the_batch_and_the_threads(
    batch_size: int, threads: int
) -> None:
    images = [getattr(data, name)() for name in ("chelsea", "coffee", "astronaut")]
    pixels = np.stack([np.asarray(Image.fromarray(p).resize((224, 224))) for p in images] * 3)
    session = onnxruntime.InferenceSession(DEFAULT_MODEL, providers=["CPUExecutionProvider"])
    planes = ((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    raw = np.concatenate([session.run(["embeddings"], {"images": p[None]})[0] for p in planes])
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    encoder = Encoder.open(None, EncoderSettings(batch_size, threads))
    np.testing.assert_allclose(encoder.embed(pixels), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 3, 4, 4), np.uint8),
        np.zeros((1, 5, 4, 3), np.uint8),
        np.zeros((0, 4, 4), np.uint8),
    ],
)
def test_pixels_of_another_type_or_shape_are_refused(means: Path, pixels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \(4, 4, 3\)|four axes"):
        small(means).embed(pixels)


def test_an_embedding_without_direction_is_an_error_that_names_the_images(
    tmp_path: Path,
) -> None:
    info = replace(MEANS, mean=(1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0))
    encoder = Encoder.open(write_model(tmp_path / "m.onnx", info), EncoderSettings(batch_size=2))
    pixels = np.full((5, 4, 4, 3), 9, np.uint8)
    pixels[[1, 4]] = 1  # becomes zero
    with pytest.raises(ModelError, match=r"means 1 gives images \[1, 4\] an embedding that is"):
        encoder.embed(pixels)

    outcomes = list(encoder.encode(range(5), one_by_one(lambda i: Page(pixels[i], ""))))
    assert [type(outcome) for outcome in outcomes] == [Encoded, Failed, Encoded, Encoded, Failed]
    assert isinstance(outcomes[1], Failed) and isinstance(outcomes[1].error, ModelError)


# -- the pipeline --------------------------------------------------------------------------------


def test_matrix_products_take_one_thread_while_images_are_read_and_embedded(
    means: Path,
) -> None:
    """BLAS's own threads wait by spinning, which made `cluster embed` take 1.7 times as long."""

    def blas_threads() -> set[int]:
        blas = [part for part in threadpool_info() if part["user_api"] == "blas"]
        assert blas
        return {part["num_threads"] for part in blas}

    def read(number: int) -> Page:
        met.update(blas_threads())
        return Page(np.full((4, 4, 3), 40 + number, np.uint8), "")

    encoder = Encoder.open(means)
    met: set[int] = set()
    before = blas_threads()
    assert len(list(encoder.encode(range(5), one_by_one(read)))) == 5
    assert met == {1} and blas_threads() == before


def test_a_blas_that_is_loaded_later_takes_one_thread_as_well() -> None:
    pytest.importorskip("scipy")
    code = """
import numpy
from threadpoolctl import threadpool_info, threadpool_limits
from lookalike.threads import one_blas_thread
with one_blas_thread():
    pass
import scipy.linalg
threadpool_limits(2, "blas")
with one_blas_thread():
    print(*(part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"1"}


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_outcomes_keep_the_order_of_the_items_whatever_reading_takes(
    means: Path, batch_size: int
) -> None:
    delays = random.Random(0)

    def read(number: int) -> Page:
        time.sleep(delays.choice([0, 0, 0.003]))
        if number % 7 == 3:
            raise TornPageError(f"torn {number}")
        return page(number)

    outcomes = list(small(means, batch_size, threads=4).encode(range(40), one_by_one(read)))
    assert [outcome.item for outcome in outcomes] == list(range(40))
    for number, outcome in enumerate(outcomes):
        if number % 7 == 3:
            assert isinstance(outcome, Failed) and isinstance(outcome.error, TornPageError)
            assert str(outcome.error) == f"torn {number}"
        else:
            assert isinstance(outcome, Encoded)
            assert outcome.image.note == f"page {number}"
            expected = unit([99 / 2, (number - 2) / 4, -6])
            np.testing.assert_allclose(outcome.embedding, expected, atol=1e-6)


@pytest.mark.parametrize("failing", [False, True])
def test_items_are_taken_as_needed_and_images_in_flight_are_bounded(
    means: Path, failing: bool
) -> None:
    """The input never ends: only laziness lets this test end."""
    encoder = small(means, batch_size=4)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    def read(number: int) -> Page:
        if failing and number > 1:
            raise TornPageError
        return page(number)

    highest = 0
    for yielded, _ in enumerate(itertools.islice(encoder.encode(items(), one_by_one(read)), 200)):
        highest = max(highest, taken - yielded)
    assert 4 < highest <= encoder.lookahead


def test_another_exception_of_the_reader_ends_it_and_leaves_no_thread(means: Path) -> None:
    def read(number: int) -> Page:
        if number == 11:
            raise ZeroDivisionError("a bug")
        return page(number)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(small(means).encode(itertools.count(), one_by_one(read)))
    assert readers() == []


def test_threads_may_share_one_encoder(means: Path) -> None:
    encoder = small(means, batch_size=3, threads=2)
    results: dict[int, list[NDArray[np.float32]]] = {}

    def work(first: int) -> None:
        outcomes = encoder.encode(range(first, first + 60), one_by_one(page))
        results[first] = [o.embedding for o in outcomes if isinstance(o, Encoded)]

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, rows in results.items():
        pixels = np.stack([page(number).pixels for number in range(first, first + 60)])
        np.testing.assert_array_equal(rows, encoder.embed(pixels))
    assert sorted(results) == [0, 1000, 2000]

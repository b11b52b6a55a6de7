from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from towers import DIM, LENGTH, SIZE, STATISTICS, adopt_towers, write_towers

from lookalike.atomic import file_sha256
from lookalike.encoder import Encoder, ModelInfo
from lookalike.errors import ModelError
from lookalike.models.adopt import adopt
from lookalike.words import PREFIX, WordEncoder, words_file


@pytest.mark.parametrize("mask", [True, False])
def test_words_get_the_embedding_that_the_text_tower_gives(tmp_path: Path, mask: bool) -> None:
    vision, text = write_towers(tmp_path, mask=mask)
    mean, std = STATISTICS
    out = tmp_path / "model.onnx"
    info = adopt(vision, out, name="t", size=SIZE, mean=mean, std=std, text=text)
    assert info.words == file_sha256(words_file(out))
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(text.file).graph.initializer}
    # <s> red blue </s>, each number at its place in the vocabulary
    expected = weights["table"][[1, 3, 5, 2]].mean(axis=0) + weights["cone"]
    found = Encoder.open(out).words().embed("  Red\nBLUE ")
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_description_with_words_survives_and_one_without_is_as_it_was(towers: Path) -> None:
    info = Encoder.open(towers).info
    assert ModelInfo.from_dict(info.as_dict()) == info
    assert ModelInfo.from_metadata(info.to_metadata(), info.sha256) == info
    plain = ModelInfo("m", "1", "", 16, (1.0,) * 3, (1.0,) * 3, 4)
    assert "words" not in plain.as_dict() and plain.to_metadata()["lookalike.format"] == "1"
    with pytest.raises(ValueError, match="unknown"):
        ModelInfo.from_metadata({**plain.to_metadata(), "lookalike.words": "0" * 64}, "")


def test_a_model_that_cannot_be_adopted_leaves_both_files_that_are_there_as_they_were(
    tmp_path: Path,
) -> None:
    out = adopt_towers(tmp_path)
    before = {path: path.read_bytes() for path in (out, words_file(out))}
    vision, text = write_towers(tmp_path, mask=False)  # other words
    model = onnx.load(vision)
    (projection,) = (w for w in model.graph.initializer if w.name == "projection")
    projection.CopyFrom(numpy_helper.from_array(np.zeros((3, DIM), np.float32), "projection"))
    onnx.save(model, vision)
    mean, std = STATISTICS
    with pytest.raises(ModelError, match="the same embedding"):
        adopt(vision, out, name="t", size=SIZE, mean=mean, std=std, text=text)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  \n", "no words"),
        ("red " * LENGTH, rf"{LENGTH + 2} tokens.*at most {LENGTH}"),
        ("x" * 99_999, "99,999"),
    ],
)
def test_no_words_and_too_many_are_refused(towers: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder.open(towers).words().embed(text)


def copied(towers: Path, folder: Path) -> tuple[Path, Path]:
    model = folder / "m.onnx"
    model.write_bytes(towers.read_bytes())
    words_file(model).write_bytes(words_file(towers).read_bytes())
    return model, words_file(model)


def test_the_file_of_words_has_to_be_the_one_that_the_model_names(
    towers: Path, tmp_path: Path
) -> None:
    model, words = copied(towers, tmp_path)
    content = words.read_bytes()
    words.write_bytes(content + b"\x72\x01x")
    with pytest.raises(ModelError, match="its SHA-256 begins with"):
        Encoder.open(model).words()
    words.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="its SHA-256 begins with"):
        Encoder.open(model).words()
    words.unlink()
    with pytest.raises(ModelError, match="it belongs beside the model file"):
        Encoder.open(model).words()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "9", "its words have format 9, this version reads 1"),
        ("tokenizer", "{}", "its tokenizer fails"),
        ("tokenizer", "[" * 100_000, "its tokenizer fails"),
        ("length", "0", "length is 0"),
        ("length", "seventy", "invalid literal"),
        ("prompts", "AAAA", "its prompts are not embeddings"),
        ("prompts", "?", "is not a file of words"),
        ("prompts", "AAAA" * DIM * 4, "not unit vectors"),
    ],
)
def test_a_forged_file_of_words_is_refused(
    towers: Path, tmp_path: Path, key: str, value: str, message: str
) -> None:
    _, words = copied(towers, tmp_path)
    forged = onnx.load(words)
    values = {p.key: p.value for p in forged.metadata_props} | {PREFIX + key: value}
    helper.set_model_props(forged, values)
    words.write_bytes(forged.SerializeToString())
    with pytest.raises(ModelError, match=message):
        WordEncoder.open(words, file_sha256(words), DIM, 1)


def test_a_file_of_words_with_another_graph_or_data_elsewhere_is_refused(
    towers: Path, tmp_path: Path
) -> None:
    _, words = copied(towers, tmp_path)
    with pytest.raises(ModelError, match="not 9 numbers of tokens"):
        WordEncoder.open(words, file_sha256(words), 9, 1)
    with pytest.raises(ModelError, match="is not a file of words"):
        WordEncoder.open(towers, file_sha256(towers), DIM, 1)
    elsewhere = onnx.load(words)
    tensor = elsewhere.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    words.write_bytes(elsewhere.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        WordEncoder.open(words, file_sha256(words), DIM, 1)


def test_towers_that_do_not_fit_together_say_why_and_leave_nothing(tmp_path: Path) -> None:
    vision, text = write_towers(tmp_path)
    mean, std = STATISTICS
    out = tmp_path / "out" / "model.onnx"
    out.parent.mkdir()
    how = {"name": "t", "size": SIZE, "mean": mean, "std": std}
    text.tokenizer.write_text("{}")
    with pytest.raises(ModelError, match=r"not a tokenizer\.json"):
        adopt(vision, out, text=text, **how)  # type: ignore[arg-type]
    write_towers(tmp_path)
    swapped = type(text)(vision, text.tokenizer)
    with pytest.raises(ModelError, match="takes pixel_values, not input_ids"):
        adopt(vision, out, text=swapped, **how)  # type: ignore[arg-type]
    deaf = onnx.load(text.file)
    (table,) = (weight for weight in deaf.graph.initializer if weight.name == "table")
    table.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(table), "table"))
    text.file.write_bytes(deaf.SerializeToString())
    with pytest.raises(ModelError, match="gives different words the same embedding"):
        adopt(vision, out, text=text, **how)  # type: ignore[arg-type]
    assert not list(out.parent.iterdir())

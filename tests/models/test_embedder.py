from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder, load_embedder, save_embedder
from lookalike.models.layers import CBAM, GAP, GeM, unit, whitening
from lookalike.models.settings import EmbedderSettings
from lookalike.models.trunks import LeNet5

LENET = EmbedderSettings(trunk="lenet5", input_size=40, dim=None)


def samples(n: int = 2, size: int = 40) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(5))


def embedder(settings: EmbedderSettings, weights: str = "none") -> Embedder:
    torch.manual_seed(7)
    return Embedder(settings, weights).eval()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trunk": "resnet"}, "trunk is 'resnet'; it must be one of efficientnet-lite0, efficient"),
        ({"attention": "both"}, "attention is 'both'; it must be one of none, cbam"),
        ({"pool": "max"}, "pool is 'max'; it must be one of gap, gem, flatten"),
        ({"dim": -1}, "dim is -1; it must be an integer at least 1, or None"),
        ({"dim": True}, "dim is True; it must be an integer at least 1, or None"),
        ({"input_size": 0}, "input_size is 0; it must be an integer at least 1"),
        ({"reduction": 1.5}, "reduction is 1.5; it must be an integer at least 1"),
        ({"unit_pool": 1}, "unit_pool is 1; it must be true or false"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be a number at least 0 and below 1"),
        ({"trunk_dim": -1}, "trunk_dim is -1; it must be an integer at least 0"),
        ({"attention_stages": (5,)}, r"attention_stages must be within -5..4, not \[5\]"),
        ({"attention_stages": (4, -1)}, r"attention_stages names a stage twice: \[4, -1\]"),
        ({"attention_stages": ()}, "attention without a stage"),
        ({"fuse": (-1,)}, "fuse names earlier stages; the last one, 4, always counts"),
        ({"fuse": "12"}, "fuse must be integers, not '12'"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedderSettings(**changes)


def test_settings_count_stages_from_zero_in_order_and_zero_dimensions_mean_none() -> None:
    settings = EmbedderSettings(trunk="resnet50", attention_stages=(-1, 0), fuse=(-2, 1), dim=0)
    assert settings.attention_stages == (0, 3)
    assert settings.fuse == (1, 2)
    assert settings.dim is None


def test_settings_survive_a_dictionary_and_unknown_or_missing_keys_do_not() -> None:
    settings = EmbedderSettings(fuse=(2, 3), pool="gem", dim=64, dropout=0.25)
    values = settings.as_dict()
    assert EmbedderSettings.from_dict(values) == settings
    assert values["fuse"] == [2, 3] and values.keys() == {f.name for f in fields(settings)}
    with pytest.raises(ValueError, match=r"missing \['pool'\], unknown \['pooling'\]"):
        EmbedderSettings.from_dict({**{k: values[k] for k in values if k != "pool"}, "pooling": 1})


@pytest.mark.parametrize("pool", ["gap", "gem", "flatten"])
def test_an_embedding_is_the_steps_one_after_another(pool: str) -> None:
    """Trunk, CBAM, pooling, FC and L2, each called here."""
    model = embedder(replace(LENET, pool=pool, dim=8, neutral=False))
    x = samples()
    with torch.no_grad():
        features = model.gates["2"](model.trunk(x))
        pooled = {
            "gap": features.mean((2, 3)),
            "gem": features.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
            "flatten": features.reshape(2, -1),
        }[pool]
        assert model.fc is not None
        expected = pooled @ model.fc.weight.T + model.fc.bias
        expected = expected / expected.norm(dim=1, keepdim=True)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.pooled(x), pooled, rtol=1e-4, atol=1e-6)


def test_attention_inside_the_trunk_is_what_later_stages_read() -> None:
    model = embedder(replace(LENET, attention_stages=(0, 2), neutral=False))
    x = samples()
    with torch.no_grad():
        gate = model.gates["0"]
        first = gate(model.trunk.stage(0, x))
        assert getattr(gate, "gain", None) == 4
        last = model.gates["2"](model.trunk.stage(2, model.trunk.stage(1, first)))
        torch.testing.assert_close(model(x), unit(last.mean((2, 3))))


def test_fused_stages_are_gated_aside_and_joined_as_unit_vectors() -> None:
    model = embedder(replace(LENET, fuse=(1,), neutral=False))
    x = samples()
    with torch.no_grad():
        maps = model.trunk.stages(x)
        parts = [
            unit(model.side_gates["1"](maps[1]).mean((2, 3))),
            unit(model.gates["2"](maps[2]).mean((2, 3))),
        ]
        torch.testing.assert_close(model(x), torch.cat(parts, 1) / 2**0.5)
    assert model.width == model.dim == 16 + 120


def direction_error(settings: EmbedderSettings, weights: str) -> float:
    """Largest difference between embeddings with neutral attention and without any."""
    model = embedder(settings, weights)
    plain = embedder(replace(settings, attention="none"), weights)
    plain.trunk.load_state_dict(model.trunk.state_dict())
    if model.fc is not None and plain.fc is not None:
        plain.fc.load_state_dict(model.fc.state_dict())
    x = samples(2, settings.input_size)
    with torch.no_grad():
        return float((model(x) - plain(x)).abs().max())


@pytest.mark.parametrize("attention", ["cbam", "channel", "spatial", "second-order"])
@pytest.mark.parametrize(
    ("pool", "stages", "fuse", "dim"),
    [
        ("gap", (-1,), (), None),
        ("gem", (0, 1, -1), (), 16),
        ("gap", (-1,), (0, 1), 16),
        ("flatten", (0, 1, -1), (0, 1), None),
    ],
)
def test_neutral_attention_leaves_every_direction_as_the_plain_trunk_gives_it(
    attention: str, pool: str, stages: tuple[int, ...], fuse: tuple[int, ...], dim: int | None
) -> None:
    """Gates of 1/2 scale the map, and L2 takes the scale out again."""
    settings = replace(
        LENET, attention=attention, attention_stages=stages, fuse=fuse, pool=pool, dim=dim
    )
    assert direction_error(settings, "none") < 1e-5  # of GeM's powers; the others stay below 1e-6


def test_neutral_attention_in_every_stage_leaves_a_trained_trunk_as_it_was() -> None:
    settings = EmbedderSettings(attention_stages=(0, 1, 2, 3, 4), input_size=64, fuse=(2, 3))
    assert direction_error(settings, "imagenet") < 1e-5


def test_gates_of_the_deepest_attended_stage_explain_an_image() -> None:
    model = embedder(replace(LENET, attention_stages=(0, 1), neutral=False))
    with torch.no_grad():
        embeddings, gates = model.explained(samples())
        first = model.gates["0"](model.trunk.stage(0, samples()))
        gate = model.gates["1"]
        assert isinstance(gate, CBAM)
        expected = gate.attend(model.trunk.stage(1, first))
        torch.testing.assert_close(embeddings, model(samples()))
    torch.testing.assert_close((gates["channel"], gates["spatial"]), expected[1:])
    assert tuple(gates["channel"].shape) == (2, 16) and tuple(gates["spatial"].shape) == (2, 7, 7)


def test_images_too_small_for_the_trunk_are_refused() -> None:
    with pytest.raises(ValueError, match="lenet5 cannot read 31 pixels: too small"):
        Embedder(replace(LENET, input_size=31))


def test_gem_is_between_mean_and_maximum_and_its_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64) + 0.1
    gem = GeM().double()
    expected = (x.numpy() ** 3).mean((2, 3)) ** (1 / 3)
    np.testing.assert_allclose(gem(x).detach().numpy(), expected, rtol=1e-7)
    torch.testing.assert_close(GeM(1.0).double()(x), GAP()(x))
    torch.testing.assert_close(GeM(1000.0).double()(x), x.amax((2, 3)), rtol=3e-3, atol=0)

    def pool(maps: Tensor, p: Tensor) -> Tensor:
        return torch.func.functional_call(gem, {"p": p}, (maps,))  # type: ignore[no-any-return]

    p = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (x.requires_grad_(), p))


def test_whitened_features_have_unit_variance_in_uncorrelated_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    features = torch.randn(500, 6, generator=generator, dtype=torch.float64) @ mixing + 3
    mean, matrix = whitening(features, 4)
    white = (features - mean) @ matrix.T
    torch.testing.assert_close(white.T @ white / 499, torch.eye(4, dtype=torch.float64))
    turned = (features - mean) @ whitening(features, 6, power=0)[1].T
    torch.testing.assert_close(turned.norm(dim=1), (features - mean).norm(dim=1))
    variances = turned.square().sum(0)
    assert bool((variances[:-1] >= variances[1:]).all())
    expected = np.linalg.eigvalsh(np.cov(features.numpy().T))[::-1]
    np.testing.assert_allclose((variances / 499).numpy(), expected)


@pytest.mark.parametrize("dim", [None, 12])
def test_a_folded_projection_is_the_same_as_one_after_the_fc(dim: int | None) -> None:
    model = embedder(replace(LENET, dim=dim, unit_pool=True))
    x = samples(40)
    with torch.no_grad():
        features = model.project(model.pooled(x))
        mean, matrix = whitening(features, 5)
        expected = unit((features.double() - mean) @ matrix.T).float()
        model.fold(mean, matrix)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=2e-4)  # whitening amplifies
    assert model.dim == model.settings.dim == 5


# ---- the trunk's own features --------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["cbam", "none"])
def test_with_the_trunk_kept_a_cosine_is_the_mean_of_two(attention: str) -> None:
    net = embedder(replace(LENET, dim=16, attention=attention, neutral=False))
    images = samples(30)
    with torch.no_grad():
        learnt, plain = net(images), unit(net.trunk(images).mean((2, 3)))
        assert torch.allclose(net.own_features(images), plain)
        mean, matrix = whitening(plain, 5, power=0.0)
        net.keep_trunk(mean, matrix)
        both = net(images)
    reduced = unit((plain.double() - mean) @ matrix.T)
    cosines = (reduced @ reduced.T + learnt.double() @ learnt.double().T) / 2
    assert both.shape == (30, 21)
    assert net.dim == 21
    assert torch.allclose((both @ both.T).double(), cosines, atol=1e-5)


def test_a_kept_trunk_is_saved_and_explained(tmp_path: Path) -> None:
    net = embedder(replace(LENET, dim=16))
    images = samples(12)
    with torch.no_grad():
        net.keep_trunk(*whitening(net.own_features(images), 4, power=0.0))
        save_embedder(net, tmp_path / "net.pt")
        again = load_embedder(tmp_path / "net.pt")
        assert torch.equal(again(images), net(images))
        explained, gates = again.explained(images)
        assert torch.equal(explained, net(images))
    assert gates.keys() == {"channel", "spatial"}


# ---- its file ------------------------------------------------------------------------------------

SETTINGS = EmbedderSettings(
    trunk="lenet5", fuse=(1,), pool="gem", dim=4, input_size=40, reduction=60, neutral=False
)


def saved(path: Path) -> Embedder:
    torch.manual_seed(0)
    embedder = Embedder(SETTINGS, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.5)).eval()
    save_embedder(embedder, path)
    return embedder


def test_weights_settings_and_preprocessing_come_back(tmp_path: Path) -> None:
    embedder = saved(tmp_path / "model.pt")
    loaded = load_embedder(tmp_path / "model.pt")
    assert loaded.settings == SETTINGS and not loaded.training
    assert (loaded.mean, loaded.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.5))
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in embedder.state_dict().items())
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(images), embedder(images))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    for length in (0, 1, 4, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "model.pt").write_bytes(content[:length])
        with pytest.raises(ModelError, match="not a readable checkpoint"):
            load_embedder(tmp_path / "model.pt")


@pytest.mark.slow
def test_a_changed_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """PyTorch does not check its files; padding and unread fields may change without harm."""
    expected = saved(tmp_path / "model.pt").state_dict()
    content = (tmp_path / "model.pt").read_bytes()
    refused = 0
    places = range(7, len(content), len(content) // 150)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        (tmp_path / "model.pt").write_bytes(damaged)
        try:
            loaded = load_embedder(tmp_path / "model.pt")
        except ModelError:
            refused += 1
            continue
        assert loaded.settings == SETTINGS
        assert (loaded.mean, loaded.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.5))
        state = loaded.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert refused > len(places) * 0.8


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda c: c["settings"].update(pool="gap"), r"unexpected pools\.1\.p"),
        (lambda c: c["settings"].pop("pool"), r"missing \['pool'\]"),
        (lambda c: c.update(mean=[2.0, 2.0, 3.0]), "content has SHA-256 .* saved was"),
        (lambda c: c.update(mean=[1.0, 2.0]), "damaged checkpoint"),
        (lambda c: c.update(std=[4.0, 0.0, 6.5]), "std must be positive"),
        (lambda c: c.update(format=2), "checkpoint format 2, this version reads 1"),
        (lambda c: c.update(state=[1]), "its weights are a list"),
        (
            lambda c: c["state"].pop("fc.bias"),
            r"not the weights of its own settings: missing fc\.bias",
        ),
        (lambda c: c.update(epoch=3), r"its parts are \['epoch', 'format'"),
    ],
)
def test_a_forged_file_is_refused(
    tmp_path: Path, forge: Callable[[dict[str, Any]], object], message: str
) -> None:
    saved(tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    forge(content)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=message):
        load_embedder(tmp_path / "model.pt")


def test_a_file_of_trunk_weights_is_recognised(tmp_path: Path) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match=r"not a checkpoint of an embedder; .* goes to --weights"):
        load_embedder(tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match="no such checkpoint"):
        load_embedder(tmp_path / "none.pt")

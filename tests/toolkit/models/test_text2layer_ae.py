"""CaT2I-AE: what it sees, its losses against sums and OpenCV's pyramids, its ablations, and what it leaves behind."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.patch_discriminator import Adversarial
from layerkit.toolkit.models.registry import parse_options
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.models.text2layer_ae import LossOptions, Text2LayerAe, Text2LayerAeOptions, build
from layerkit.toolkit.models.text2layer_codec import CodecOptions, LayerCodec
from layerkit.toolkit.models.text2layer_loss import composition_loss, laplacian_loss

CODEC = CodecOptions(size="debug")
PLAIN = Text2LayerAeOptions(codec=CODEC, sampled=False)
SEPARATE = CodecOptions(size="debug", auxiliary=False, separate=True)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(options: Text2LayerAeOptions = PLAIN) -> Text2LayerAe:
    torch.manual_seed(0)
    return build(options, Origin())


def a_batch(count: int = 4, *, known: bool = True, side: int = 32) -> Triplets:
    """Coarse layers with a soft object that compose to their image."""
    draws = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 7, 5, 5, generator=draws)
    colour, alpha, background = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").split(
        [3, 1, 3], 1
    )
    alpha = (3 * (alpha - 0.4)).clamp(0, 1)
    return Triplets(
        image=alpha * colour + (1 - alpha) * background,
        foreground=torch.cat([colour, alpha], 1),
        background=background,
        mask=(alpha > 0.5).float(),
        has_foreground=torch.full((count,), known),
    )


def losses(system: Text2LayerAe, batch: Triplets, step: int = 0) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(0), step)


# ---- what it sees


def test_the_stack_holds_the_layers_with_black_where_there_is_no_object():
    batch = a_batch()
    layers = (made().layers_of(batch) + 1) / 2
    colour, background, mask = layers.split([3, 3, 1], 1)
    there = batch.foreground[:, 3:] > 0.1
    torch.testing.assert_close(colour, torch.where(there, batch.foreground[:, :3], torch.zeros(())))
    torch.testing.assert_close(background, batch.background)
    torch.testing.assert_close(mask, batch.foreground[:, 3:])
    assert 0.1 < there.float().mean() < 0.9
    everything = made(replace(PLAIN, threshold=0.0)).layers_of(batch)
    assert (everything[:, :3] > -1).float().mean() > there.float().mean()


def test_where_no_foreground_is_known_the_mask_is_empty():
    layers = made().layers_of(a_batch(known=False))
    assert (layers[:, :3] == -1).all()
    assert (layers[:, 6] == -1).all()


# ---- the codec


@pytest.mark.parametrize(
    ("options", "latent", "names"),
    [
        (CODEC, 4, ["foreground", "background", "mask", "image"]),
        (replace(CODEC, auxiliary=False), 4, ["foreground", "background", "mask"]),
        (SEPARATE, 12, ["foreground", "background", "mask"]),
        (replace(CODEC, latent=6), 6, ["foreground", "background", "mask", "image"]),
        (replace(CODEC, norm="group"), 4, ["foreground", "background", "mask", "image"]),
    ],
)
def test_layers_go_to_a_latent_and_back(options: CodecOptions, latent: int, names: list[str]):
    codec = LayerCodec(options)
    layers = torch.rand(2, 7, 16, 24)
    posterior = codec.encode(layers)
    assert posterior.mode().shape == (2, latent, 8, 12)
    assert codec.latent_channels == latent
    assert codec.multiple == 2
    decoded = codec.decode(posterior.mode())
    assert list(decoded) == names
    assert {name: tuple(one.shape) for name, one in decoded.items()} == {
        name: (2, 1 if name == "mask" else 3, 16, 24) for name in names
    }


def test_one_latent_is_of_all_layers_and_separate_ones_are_not():
    layers = torch.rand(2, 7, 16, 16)
    other = layers.clone()
    other[:, 3:6] = torch.rand(2, 3, 16, 16)  # another background
    joint, separate = LayerCodec(CODEC).eval(), LayerCodec(SEPARATE).eval()
    with torch.no_grad():
        changed = (joint.encode(layers).mode() - joint.encode(other).mode()).abs().amax((0, 2, 3))
        assert (changed > 0).all()
        changed = (separate.encode(layers).mode() - separate.encode(other).mode()).abs().amax((0, 2, 3))
        assert [bool(one) for one in changed > 0] == [False] * 4 + [True] * 4 + [False] * 4
        decoded, apart = separate.decode(separate.encode(layers).mode()), separate.decode(separate.encode(other).mode())
        assert torch.equal(decoded["mask"], apart["mask"])
        assert not torch.equal(decoded["background"], apart["background"])


def test_group_norm_leaves_pictures_alone_and_batch_norm_does_not_in_training():
    layers = torch.rand(3, 7, 16, 16)
    for norm, alone in (("group", True), ("batch", False)):
        codec = LayerCodec(replace(CODEC, norm=norm)).train()
        with torch.no_grad():
            together = codec.decode(codec.encode(layers).mode())["mask"][:1]
            by_itself = codec.decode(codec.encode(layers[:1]).mode())["mask"]
        assert torch.allclose(together, by_itself, atol=1e-5) is alone


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"codec": {"size": "huge"}}, r"codec\.size: expected one of debug, sd, got 'huge'"),
        ({"codec": {"size": "debug", "separate": True}}, "expected auxiliary = false with separate = true"),
        ({"codec": {"latent": -1}}, "expected channels, or 0 for those of the size, got -1"),
        ({"codec": {"norm": "layer"}}, "expected one of batch, group, got 'layer'"),
        ({"threshold": 1.0}, r"threshold: expected 0 or more, below 1, got 1\.0"),
    ],
)
def test_options_that_cannot_be_are_refused(table: dict, words: str):
    with pytest.raises(UsageError, match=words):
        parse_options("text2layer-ae", table)


def test_it_begins_from_nothing():
    with pytest.raises(UsageError, match="trained from scratch, got some/vae"):
        build(PLAIN, Origin(base="some/vae"))


# ---- the losses


def test_the_composition_is_of_predicted_layers():
    rng = np.random.default_rng(0)
    true, foreground, background = (rng.random((2, 3, 6, 5)) for _ in range(3))
    mask = rng.random((2, 1, 6, 5))
    composed = mask * foreground + (1 - mask) * background
    expected = np.sqrt((true - composed) ** 2 + 1e-12).mean()
    got = composition_loss(*(torch.tensor(one) for one in (true, foreground, background, mask)))
    assert got.item() == pytest.approx(expected, rel=1e-9)
    same = torch.tensor(composed, requires_grad=True)
    least = composition_loss(same, *(torch.tensor(one) for one in (foreground, background, mask)))
    assert least.item() == pytest.approx(1e-6, rel=1e-6)
    (gradient,) = torch.autograd.grad(least, same)
    assert torch.isfinite(gradient).all(), "what the root of a square alone has not at zero"


def test_the_pyramid_is_opencv_s():
    """cv2.pyrDown and pyrUp have the same kernel; at the border they mirror otherwise, so that is left out."""
    picture = np.random.default_rng(1).random((64, 96)).astype(np.float32)
    picture[:16], picture[-16:], picture[:, :16], picture[:, -16:] = 0, 0, 0, 0
    expected, level = 0.0, picture
    for j in range(3):
        smaller = cv2.pyrDown(level)
        expected += 2**j * np.abs(level - cv2.pyrUp(smaller, dstsize=level.shape[::-1])).sum()
        level = smaller
    got = laplacian_loss(torch.tensor(picture)[None, None], torch.zeros(1, 1, 64, 96))
    assert got.item() == pytest.approx(expected / picture.size, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-1, 1), st.integers(0, 100))
def test_a_pyramid_loss_is_a_distance_of_shapes(height: int, width: int, shift: float, seed: int):
    draws = torch.Generator().manual_seed(seed)
    one, other = torch.rand(2, 1, 1, height, width, generator=draws, dtype=torch.float64)
    loss = laplacian_loss(one, other)
    assert loss.item() == pytest.approx(laplacian_loss(other, one).item())
    assert laplacian_loss(one, one).item() == 0
    assert laplacian_loss(one + shift, other).item() == pytest.approx(loss.item(), abs=1e-9), "blind to brightness"
    assert laplacian_loss(3 * one, 3 * other).item() == pytest.approx(3 * loss.item(), abs=1e-12)
    assert bool(loss > 0) == (min(height, width) >= 5), "smaller than the kernel there is no pyramid"


def test_the_loss_is_the_weighted_sum_of_the_paper():
    system, batch = made(), a_batch()
    parts = losses(system, batch)
    expected = parts["l1"] + 1e-6 * parts["kl"]
    expected = expected + parts["mask_l1"] + 2 * parts["composition"] + 3 * parts["laplacian"]
    torch.testing.assert_close(parts["loss"], expected)
    halved = losses(made(replace(PLAIN, loss=LossOptions(mask=0.5, kl=0.0))), batch)
    assert "kl" not in halved
    masks = parts["mask_l1"] + 2 * parts["composition"] + 3 * parts["laplacian"]
    torch.testing.assert_close(halved["loss"], parts["l1"] + 0.5 * masks)


def test_l1_is_the_mean_of_the_pictures_with_the_auxiliary_one_among_them():
    for options, names in ((CODEC, 3), (replace(CODEC, auxiliary=False), 2)):
        system, batch = made(replace(PLAIN, codec=options)), a_batch()
        layers = system.layers_of(batch)
        state = {name: buffer.clone() for name, buffer in system.named_buffers()}
        decoded = system.codec.decode(system.codec.encode(layers).mode())
        for name, buffer in system.named_buffers():
            buffer.copy_(state[name])
        true = {"foreground": layers[:, :3], "background": layers[:, 3:6], "image": 2 * batch.image - 1}
        errors = [(decoded[name] - true[name]).abs().mean() for name in list(true)[:names]]
        torch.testing.assert_close(losses(system, batch)["l1"], torch.stack(errors).mean())


def test_every_weight_learns_and_the_auxiliary_head_teaches_the_rest():
    system = made()
    losses(system, a_batch())["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in system.codec.parameters())
    system.zero_grad()
    system.codec.decode(system.codec.encode(system.layers_of(a_batch())).mode())["image"].sum().backward()
    heads = system.codec.parts[0].decoder.conv_out.heads
    learned = [sum(float(p.grad.abs().sum()) for p in head.parameters() if p.grad is not None) > 0 for head in heads]
    assert learned == [False, False, False, True]
    assert system.codec.parts[0].encoder.conv_in.weight.grad.abs().sum() > 0


def test_perceptual_distance_and_discriminator_take_part():
    def distance(one: Tensor, other: Tensor) -> Tensor:
        return ((one - other) ** 2).mean((1, 2, 3))

    system = Text2LayerAe(
        replace(PLAIN, adversarial=Adversarial(weight=0.5, start=2, width=8, depth=2)), perceptual=distance
    )
    before, after = losses(system, a_batch(), step=1), losses(system, a_batch(), step=2)
    assert before["discriminator"].item() == 0
    assert "adversarial" not in before
    assert before["perceptual"] > 0
    assert {"adversarial", "discriminator"} <= after.keys()
    after["loss"].backward()
    assert all(parameter.grad is not None for parameter in system.discriminator.parameters())


# ---- training, and what it leaves


def test_one_batch_is_learned_by_heart():
    system, batch = made(), a_batch()
    optimiser = torch.optim.AdamW(system.trained().values(), lr=4e-3)
    first = losses(system, batch)["loss"].item()
    for _ in range(120):
        optimiser.zero_grad()
        loss = losses(system, batch)["loss"]
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 5
    made_of = system.eval().predict(batch, torch.Generator())
    assert made_of.foreground.shape == (4, 4, 32, 32)
    assert 0 <= made_of.background.min() <= made_of.background.max() <= 1
    error = (made_of.foreground[:, 3:] - batch.foreground[:, 3:]).abs().mean()
    assert error < 0.5 * (batch.foreground[:, 3:] - batch.foreground[:, 3:].mean()).abs().mean()


def test_what_is_saved_holds_the_statistics_of_the_norms(tmp_path: Path):
    system, batch = made(), a_batch()
    for _ in range(3):
        losses(system, batch)
    system.save(tmp_path)
    torch.manual_seed(7)
    other = Text2LayerAe(PLAIN)
    other.restore(tmp_path)
    first, again = (one.eval().predict(batch, torch.Generator()) for one in (system, other))
    assert torch.equal(first.foreground, again.foreground)
    assert torch.equal(first.background, again.background)


def test_the_sampled_latent_is_drawn_by_the_generator():
    system, batch = made(replace(PLAIN, sampled=True)), a_batch()
    first, again = (losses(system, batch)["loss"] for _ in range(2))
    other = system(batch, torch.Generator().manual_seed(1), 0)["loss"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

"""Outpaint-and-Remove: complementary contexts, losses, noise levels, and what a tiny base memorises."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.pipelines.flux import pipeline_flux_fill
from torch import Tensor, nn

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.schema import parse
from layerkit.toolkit.models import rgba_vae
from layerkit.toolkit.models.flux_fill import pack, shifted
from layerkit.toolkit.models.outpaint_remove import (
    OutpaintRemove,
    OutpaintRemoveOptions,
    build_outpaint_remove,
    draw_levels,
    losses,
    masked,
    paint_masks,
    sample,
)
from layerkit.toolkit.models.system import Origin, Triplets

STEPS, RATE = 80, 1e-2


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


def step_of(system: OutpaintRemove, batch: Triplets) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(2), 0)


def awake(system: OutpaintRemove) -> OutpaintRemove:
    """What is trained made random, so that every path carries signal."""
    for parameter in system.trained().values():
        nn.init.normal_(parameter, std=0.1)
    return system


# ---- contexts


def test_the_streams_see_complementary_parts(triplets):
    batch = triplets()
    masks = paint_masks(batch.mask, "complement")
    assert masks.sum(1).eq(1).all()
    background, foreground = masked(batch.image[:, None], masks).unbind(1)
    torch.testing.assert_close(background + foreground, batch.image + 0.5)
    hidden = batch.mask.bool().expand_as(background)
    assert background[hidden].eq(0.5).all()
    assert foreground[~hidden].eq(0.5).all()
    torch.testing.assert_close(background[~hidden], batch.image[~hidden])


def test_without_its_context_the_foreground_sees_nothing_or_what_the_background_sees(triplets):
    batch = triplets()
    for rule, expected in (("empty", torch.ones_like(batch.mask)), ("background", batch.mask)):
        masks = paint_masks(batch.mask, rule)
        assert torch.equal(masks[:, 0], batch.mask)
        assert torch.equal(masks[:, 1], expected)
    assert masked(batch.image[:, None], paint_masks(batch.mask, "empty"))[:, 1].eq(0.5).all()


# ---- flow matching


def test_losses_are_mean_squares_over_the_known_layers():
    layers, noise, levels = torch.randn(4, 2, 4, 8, 8), torch.randn(4, 2, 4, 8, 8), torch.tensor([0.1, 0.4, 0.6, 1.0])
    known, seen = torch.tensor([True, False, True, False]), []

    def velocity(noisy: Tensor, s: Tensor) -> Tensor:
        seen.append(noisy)
        return torch.zeros_like(noisy)

    parts = losses(velocity, layers, known, noise, levels)
    squares = (noise - layers).square().mean((2, 3, 4))
    torch.testing.assert_close(parts["background"], squares[:, 0].mean())
    torch.testing.assert_close(parts["foreground"], squares[[0, 2], 1].sum() / 4)
    torch.testing.assert_close(parts["loss"], parts["background"] + parts["foreground"])
    torch.testing.assert_close(seen[0][2, 1], 0.4 * layers[2, 1] + 0.6 * noise[2, 1])
    halves = [losses(velocity, layers[h], known[h], noise[h], levels[h])["loss"] for h in (slice(2), slice(2, 4))]
    torch.testing.assert_close(parts["loss"], sum(halves) / 2)
    assert losses(lambda noisy, s: noise - layers, layers, torch.ones(4).bool(), noise, levels)["loss"] == 0


def test_an_unknown_foreground_is_neither_read_nor_learnt(outpaint_remove, triplets):
    system, batch = awake(outpaint_remove()), triplets((True, False))
    unread = batch.foreground.clone()
    unread[1] = torch.nan
    gradients = []
    for foreground in (batch.foreground, unread):
        system.zero_grad()
        parts = step_of(system, replace(batch, foreground=foreground))
        parts["loss"].backward()
        gradients.append([parameter.grad for parameter in system.trained().values()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert parts["loss"].isfinite()
    system.zero_grad()
    step_of(system, replace(batch, has_foreground=torch.tensor([False, False])))["foreground"].backward()
    assert not any(parameter.grad.any() for parameter in system.trained().values())


def test_levels_are_drawn_by_the_options():
    def draw(**changes: Any) -> Tensor:
        return draw_levels(OutpaintRemoveOptions(**changes), 4000, 1024, torch.Generator().manual_seed(0))

    normal, uniform = draw(level_mean=-0.5, level_deviation=0.7), draw(levels="uniform")
    torch.testing.assert_close(normal.logit().mean(), torch.tensor(-0.5), atol=0.04, rtol=0)
    torch.testing.assert_close(normal.logit().std(), torch.tensor(0.7), atol=0.04, rtol=0)
    torch.testing.assert_close(
        uniform.quantile(torch.tensor([0.25, 0.75])), torch.tensor([0.25, 0.75]), atol=0.02, rtol=0
    )
    torch.testing.assert_close(draw(levels="uniform", shift_training=True), shifted(uniform, 0.63))


def test_the_sampler_follows_a_straight_line_to_its_end():
    clean, noise = torch.randn(2, 2, 4, 8, 8), torch.randn(2, 2, 4, 8, 8)
    seen: list[float] = []

    def velocity(latents: Tensor, levels: Tensor) -> Tensor:
        seen.append(levels[0].item())
        torch.testing.assert_close(latents, (1 - levels[0]) * clean + levels[0] * noise, rtol=1e-4, atol=1e-4)
        return noise - clean

    for mu in (0.0, 0.8):
        torch.testing.assert_close(sample(velocity, noise, 4, mu), clean, rtol=1e-4, atol=1e-4)
    even = torch.tensor([1, 0.75, 0.5, 0.25])
    torch.testing.assert_close(torch.tensor(seen), torch.cat([even, shifted(even, 0.8)]))


def memorise(system: OutpaintRemove, batch: Triplets) -> list[float]:
    optimiser = torch.optim.AdamW(system.trained().values(), RATE, weight_decay=0)
    history = []
    for _ in range(STEPS):
        loss = step_of(system, batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize(("base", "streams"), [("debug", "joint"), ("fill", "batched")])
def test_one_batch_is_overfitted(base, streams, fill, outpaint_remove, triplets):
    history = memorise(outpaint_remove(fill if base == "fill" else base, streams=streams), triplets())
    assert sum(history[-5:]) / 5 <= history[0] / 5


# ---- inference


def test_before_training_the_background_is_what_the_pipeline_fills(fill, outpaint_remove, triplets, monkeypatch):
    """So is the foreground's colour, of the complementary mask; both start from the same noise."""
    batch, names = triplets(), ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    layers = outpaint_remove(streams="batched").decompose(batch.image, batch.mask, torch.Generator().manual_seed(0))
    monkeypatch.setattr(pipeline_flux_fill, "retrieve_latents", lambda encoded, **_: encoded.latent_dist.mode())
    pipeline = pipeline_flux_fill.FluxFillPipeline.from_pretrained(fill, **dict.fromkeys(names))
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for layer, mask, start in zip(layers, (batch.mask, 1 - batch.mask), noise.unbind(1), strict=True):
        filled = pipeline(
            image=batch.image,
            mask_image=mask,
            latents=pack(start),
            height=16,
            width=16,
            num_inference_steps=4,
            prompt_embeds=torch.zeros(2, 3, 32),
            pooled_prompt_embeds=torch.zeros(2, 32),
            output_type="pt",
        ).images
        torch.testing.assert_close(layer[:, :3], filled, rtol=1e-4, atol=1e-4)
        assert filled.std() > 0.02


@pytest.mark.parametrize(
    "changes", [{}, {"streams": "batched", "contexts": ()}, {"foreground_context": False}], ids=str
)
def test_decompose_gives_pictures_in_range_that_repeat_by_seed(changes, outpaint_remove, triplets):
    system, batch = awake(outpaint_remove(**changes)).eval(), triplets(side=24)
    assert system.multiple == 4
    first, again, other = (system.predict(batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.background.shape == (2, 3, 24, 24)
    assert first.foreground.shape == (2, 4, 24, 24)
    for layer in (first.background, first.foreground):
        assert not layer.requires_grad
        assert layer.min() >= 0
        assert layer.max() <= 1
    assert torch.equal(first.background, again.background)
    assert torch.equal(first.foreground, again.foreground)
    assert not torch.equal(first.background, other.background)


def test_the_foregrounds_vae_is_the_one_that_was_trained(fill, make_fill, tmp_path, outpaint_remove, triplets):
    system = outpaint_remove()
    opaque = system.decompose(triplets().image, triplets().mask, torch.Generator())[1]
    trained = rgba_vae.convert(system.codec.rgb)
    nn.init.constant_(trained.decoder.conv_out.bias, -0.5)
    trained.save_pretrained(tmp_path / "vae")
    for folder in (tmp_path, tmp_path / "vae"):
        system = outpaint_remove(rgba_vae=str(folder))
        assert torch.equal(system.codec.rgba.decoder.conv_out.bias, trained.decoder.conv_out.bias)
    assert opaque[:, 3].eq(1).all()
    assert system.decompose(triplets().image, triplets().mask, torch.Generator())[1][:, 3].lt(1).all()


def test_a_vae_of_another_latent_space_is_refused(tmp_path, outpaint_remove):
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    rgba_vae.convert(vae).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="expected 4 latent channels at 1/2, as the base's VAE has, got 4 at 1/1"):
        outpaint_remove(rgba_vae=str(tmp_path))


# ---- options


def test_options_are_a_table():
    assert OutpaintRemoveOptions().foreground_sees == "complement"
    assert OutpaintRemoveOptions(foreground_context=False).foreground_sees == "empty"
    options = parse(OutpaintRemoveOptions, {"rank": 128, "contexts": ["edges"], "streams": "batched"}, "here")
    assert options == OutpaintRemoveOptions(rank=128, contexts=("edges",), streams="batched")
    with pytest.raises(UsageError, match="here: rank: expected 1 or more, got 0"):
        parse(OutpaintRemoveOptions, {"rank": 0}, "here")
    with pytest.raises(UsageError, match=r"here: expected kinds of context out of .* got 'edge'"):
        parse(OutpaintRemoveOptions, {"contexts": ["edge"]}, "here")
    with pytest.raises(UsageError, match=r"here\.streams: expected one of joint, batched, got 'both'"):
        parse(OutpaintRemoveOptions, {"streams": "both"}, "here")


def test_what_is_missing_is_asked_for(fill):
    with pytest.raises(MissingWeights, match="hf download nvidia/segformer-b5-finetuned-ade-640-640"):
        build_outpaint_remove(OutpaintRemoveOptions(), Origin(base=str(fill)))
    with pytest.raises(UsageError, match=r"expected a base, .* give --base black-forest-labs"):
        build_outpaint_remove(OutpaintRemoveOptions(contexts=("edges",)), Origin())

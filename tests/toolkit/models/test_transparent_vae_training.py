"""Latent transparency in training: padding on a device, the parts of the loss, who learns, and what a run leaves."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from layerkit.manifests import trainings
from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.padded_rgb import pad_batch
from layerkit.toolkit.models.patch_discriminator import Adversarial
from layerkit.toolkit.models.registry import parse_options
from layerkit.toolkit.models.rgba_vae import PRESETS
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.models.transparent_vae import encode, load_decoder, load_encoder, pad_rgb
from layerkit.toolkit.models.transparent_vae_training import (
    DECODER,
    ENCODER,
    LayerDiffuseVae,
    LayerDiffuseVaeOptions,
    LossOptions,
    build,
)

TINY = LayerDiffuseVaeOptions(encoder=(8, 8, 8, 8), decoder=(8, 8, 8, 8), scratch="untrained-tiny")
JUDGED = replace(TINY, adversarial=Adversarial(weight=0.01, adaptive=False, start=2, width=8, depth=2))


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(options: LayerDiffuseVaeOptions = TINY) -> LayerDiffuseVae:
    torch.manual_seed(0)
    return build(options, Origin())


def a_batch(count: int = 2, *, known: bool = True, side: int = 16) -> Triplets:
    """Coarse layers in 8 bits, whose object has a soft edge and leaves a part clear."""
    draws = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 7, 4, 4, generator=draws)
    smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    colour, alpha, background = ((smooth * 255).round() / 255).split([3, 1, 3], 1)
    alpha = ((4 * (alpha - 0.5)).clamp(0, 1) * 255).round() / 255
    return Triplets(
        image=alpha * colour + (1 - alpha) * background,
        foreground=torch.cat([colour, alpha], 1),
        background=background,
        mask=(alpha > 0.5).float(),
        has_foreground=torch.full((count,), known),
    )


def losses(system: LayerDiffuseVae, batch: Triplets, step: int = 0) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(0), step)


# ---- padding


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 50), (9, 4), (33, 47), (64, 64), (120, 100)])
def test_padding_a_batch_is_padding_each_picture(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, *size, 4), np.uint8)
    holes = cv2.resize(rng.random((3, 3)), size[::-1], interpolation=cv2.INTER_NEAREST) < 0.6
    pictures[0, holes, 3], pictures[1, ..., 3] = 0, 0
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    padded = pad_batch(batch)
    assert padded.dtype == torch.float32
    wanted = np.stack([pad_rgb(picture) for picture in pictures])
    np.testing.assert_allclose(padded.permute(0, 2, 3, 1).numpy(), wanted, atol=1e-5)


def test_padding_stays_exact_under_autocast():
    batch = a_batch().foreground
    with torch.autocast("cpu", torch.bfloat16):
        padded = pad_batch(batch)
    torch.testing.assert_close(padded, pad_batch(batch), rtol=0, atol=0)


# ---- what it sees and makes


def test_at_step_0_the_latent_is_the_mean_and_the_identity_the_vaes_own_error():
    system, batch = made(), a_batch()
    fed = (batch.foreground[:, :3] * 2 - 1) * batch.foreground[:, 3:]
    with torch.no_grad():
        mean = system.vae.encode(fed).latent_dist.mean
        own = (fed - system.vae.decode(mean).sample).square().mean()
        latent, _ = system._encoded(batch.foreground, pad_batch(batch.foreground))
        torch.testing.assert_close(latent, mean, rtol=0, atol=0)
        torch.testing.assert_close(losses(system, batch)["identity"], own)
        nn.init.constant_(system.encoder.blocks[-1].bias, 0.01)
        moved, _ = system._encoded(batch.foreground, pad_batch(batch.foreground))
    std = system.vae.encode(fed).latent_dist.std
    torch.testing.assert_close(moved - mean, std * 3, rtol=1e-3, atol=1e-4)


def test_it_encodes_as_the_released_form_encodes_pictures():
    system, batch = made(), a_batch()
    nn.init.normal_(system.encoder.blocks[-1].weight, std=0.01)
    pictures = (batch.foreground * 255).round().byte().permute(0, 2, 3, 1).numpy()
    with torch.no_grad():
        latent, _ = system._encoded(batch.foreground, pad_batch(batch.foreground))
        torch.testing.assert_close(latent, encode(system.vae, system.encoder, list(pictures)), rtol=1e-4, atol=1e-3)


def test_the_loss_is_the_weighted_sum_of_errors_written_out():
    system, batch = made(), a_batch()
    parts = losses(system, batch)
    with torch.no_grad():
        padded = pad_batch(batch.foreground)
        latent, shown = system._encoded(batch.foreground, padded)
        read = system.decoder((shown / 2 + 0.5).clamp(0, 1), latent)
    torch.testing.assert_close(parts["alpha"], (read[:, :1] - batch.foreground[:, 3:]).square().mean())
    torch.testing.assert_close(parts["colour"], (read[:, 1:] - padded).square().mean())
    torch.testing.assert_close(parts["loss"], parts["alpha"] + parts["colour"] + parts["identity"])
    other = losses(made(replace(TINY, loss=LossOptions(alpha=2.0, identity=0.0, distance="l1"))), batch)
    torch.testing.assert_close(other["colour"], (read[:, 1:] - padded).abs().mean())
    torch.testing.assert_close(other["loss"], 2 * other["alpha"] + other["colour"])
    assert "identity" not in other


def test_where_no_foreground_is_known_it_learns_the_opaque_image():
    system, pairs = made(), a_batch(known=False)
    image = torch.cat([pairs.image, torch.ones_like(pairs.mask)], 1)
    told = losses(system, replace(pairs, foreground=torch.rand_like(pairs.foreground)))
    as_foreground = losses(system, replace(pairs, foreground=image, has_foreground=torch.tensor([True, True])))
    torch.testing.assert_close(told["loss"], as_foreground["loss"])
    always = losses(made(replace(TINY, opaque=1.0)), replace(pairs, has_foreground=torch.tensor([True, True])))
    torch.testing.assert_close(always["loss"], told["loss"])


# ---- who learns


def test_gradients_reach_both_networks_and_never_the_frozen_vae():
    system = made(JUDGED).train()
    nn.init.normal_(system.decoder.latent_conv_in.weight, std=0.1)
    nn.init.normal_(system.encoder.blocks[-1].weight, std=0.01)
    assert not system.vae.training
    trained = set(system.trained())
    assert {name.split(".")[0] for name in trained} == {"encoder", "decoder", "discriminator"}
    losses(system, a_batch(), step=2)["loss"].backward()
    learns = {name for name, parameter in system.named_parameters() if parameter.grad is not None}
    assert learns == trained
    idle = {name for name in trained if not system.get_parameter(name).grad.any()}
    assert idle <= {"discriminator.layers.8.bias"}, "where both sides of the hinge may cancel"


def test_the_identity_alone_teaches_the_offset_and_not_the_decoder():
    system = made()
    losses(system, a_batch())["identity"].backward()
    assert system.encoder.blocks[-1].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in system.decoder.parameters())


def test_the_discriminator_joins_at_its_step_with_its_plain_weight():
    system, batch = made(JUDGED), a_batch()
    before, after = losses(system, batch, step=1), losses(system, batch, step=2)
    assert before["discriminator"].item() == 0
    assert "adversarial" not in before
    with torch.no_grad():
        latent, shown = system._encoded(batch.foreground, pad_batch(batch.foreground))
        scores = system.discriminator(2 * system._read(shown, latent) - 1)
    torch.testing.assert_close(after["adversarial"], -0.01 * scores.mean())
    assert made(TINY).discriminator is None


def test_one_batch_is_learned_by_heart():
    system, batch = made(), a_batch()
    optimiser = torch.optim.AdamW(system.trained().values(), lr=2e-3)
    first = losses(system, batch)
    for _ in range(40):
        optimiser.zero_grad()
        now = losses(system, batch)
        now["loss"].backward()
        optimiser.step()
    assert now["loss"] < first["loss"] / 2
    assert now["alpha"] < first["alpha"] / 4
    read = system.eval().predict(batch, torch.Generator())
    assert read.background is None
    assert read.foreground.shape == batch.foreground.shape
    assert 0 <= read.foreground.min() <= read.foreground.max() <= 1
    error = (read.foreground[:, 3:] - batch.foreground[:, 3:]).square().mean()
    assert error == pytest.approx(losses(system, batch)["alpha"].item(), rel=0.2), "alpha is the last channel"


# ---- what it stands on, and what it leaves


def test_a_run_is_read_by_the_loaders_of_the_released_files(tmp_path: Path):
    system = made(JUDGED)
    nn.init.normal_(system.encoder.blocks[-1].weight, std=0.01)
    system.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ENCODER, DECODER])
    for network, loaded in (
        (system.encoder, load_encoder(tmp_path / ENCODER)),
        (system.decoder, load_decoder(tmp_path / DECODER)),
    ):
        assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    torch.manual_seed(7)
    again = build(JUDGED, Origin(run=tmp_path))
    assert again.discriminator is None
    again.restore(tmp_path)
    batch = a_batch()
    first, other = (one.eval().predict(batch, torch.Generator()).foreground for one in (system, again))
    assert torch.equal(first, other), "the random VAE is the same, too"
    with pytest.raises(UsageError, match=rf"{ENCODER} does not hold the tensors of a TransparentEncoder"):
        build(replace(TINY, encoder=(8, 8, 8, 16)), Origin()).restore(tmp_path)


def a_vae(folder: Path, widths: int = 4, latent: int = 4) -> AutoencoderKL:
    sizes = {**PRESETS["sd"], "block_out_channels": (8,) * widths, "norm_num_groups": 4, "latent_channels": latent}
    for name in ("down_block_types", "up_block_types"):
        sizes[name] = sizes[name][:widths]
    vae = AutoencoderKL(**sizes)
    vae.save_pretrained(folder)
    return vae


@pytest.mark.parametrize("within", ["", "vae"])
def test_the_base_is_a_vae_or_a_pipeline_that_has_one(within: str, tmp_path: Path):
    vae = a_vae(tmp_path / "base" / within)
    system = build(replace(TINY, scratch=""), Origin(base=str(tmp_path / "base")))
    assert all(torch.equal(tensor, vae.state_dict()[name]) for name, tensor in system.vae.state_dict().items())


@pytest.mark.parametrize(("widths", "latent", "got"), [(3, 4, "4 at 1/4"), (4, 16, "16 at 1/8")])
def test_a_vae_of_another_latent_is_refused(widths: int, latent: int, got: str, tmp_path: Path):
    a_vae(tmp_path, widths, latent)
    with pytest.raises(UsageError, match=rf"expected a VAE of 4 latent channels at 1/8 of the picture, got {got}"):
        build(TINY, Origin(base=str(tmp_path)))


def test_without_a_base_it_says_what_to_give():
    with pytest.raises(UsageError, match=r"expected --base .* --set model\.scratch=untrained-tiny"):
        build(replace(TINY, scratch=""), Origin())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"encoder": [8, 8, 8]}, r"encoder: expected four widths above 0, got \[8, 8, 8\]"),
        ({"decoder": [8, 8, 8]}, r"decoder: expected four widths or more, multiples of 8, got \[8, 8, 8\]"),
        ({"decoder": [8, 8, 8, 12]}, r"multiples of 8, got \[8, 8, 8, 12\]"),
        ({"opaque": 1.5}, r"opaque: expected a share in 0\.\.1, got 1\.5"),
        ({"loss": {"identity": -1.0}}, r"weights of 0 or more, got 1\.0, 1\.0 and -1\.0"),
        ({"loss": {"distance": "l3"}}, r"expected one of l2, l1, got 'l3'"),
        ({"scratch": "sd"}, r"expected one of , untrained-tiny, got 'sd'"),
    ],
)
def test_options_that_cannot_be_are_refused(table: dict, words: str):
    with pytest.raises(UsageError, match=words):
        parse_options("layerdiffuse-vae", table)


def test_the_recipe_trains_the_released_networks_and_only_small_ones_stand_on_noise():
    recipe = parse_options("layerdiffuse-vae", trainings.load("layerdiffuse-vae")["model"])
    with torch.device("meta"):
        system = build(recipe, Origin(meta=True))
    assert round(sum(tensor.numel() for tensor in system.decoder.state_dict().values()) * 2 / 1e6) == 208
    assert (recipe.scratch, recipe.adversarial.adaptive, system.multiple) == ("", False, 64)
    for preset in ("debug", "small"):
        assert trainings.load("layerdiffuse-vae", [preset])["model"]["scratch"] == "untrained-tiny"

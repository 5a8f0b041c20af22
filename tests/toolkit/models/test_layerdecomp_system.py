"""LayerDecomp as the loop trains it: its variants, what is trained, and a batch that it learns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerkit.manifests.errors import UsageError
from layerkit.manifests.trainings import load as load_recipe
from layerkit.toolkit.models import layerdecomp, registry, rgba_vae
from layerkit.toolkit.models.layerdecomp import VARIANTS, LayerDecomp, LayerDecompOptions
from layerkit.toolkit.models.layerdecomp_network import LayerDecompConfig
from layerkit.toolkit.models.system import Origin, Triplets

SIDE = 16
SIZES = LayerDecompConfig(width=32, depth=1, heads=2, sample_size=SIDE, patch_size=4)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(**options: Any) -> LayerDecomp:
    chosen = LayerDecompOptions(**{"codec": "pixels", "network": SIZES, "steps": 2} | options)
    return layerdecomp.build(layerdecomp.resolve(chosen, Origin()), Origin())


def a_batch(count: int = 2, *, side: int = SIDE, known: bool = True) -> Triplets:
    draws = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 8, 3, 3, generator=draws)
    background, foreground, mask = nn.functional.interpolate(coarse, size=(side, side)).split([3, 4, 1], 1)
    mask = (mask > 0.5).float()
    foreground = torch.cat([foreground[:, :3], mask], 1)
    return Triplets(
        image=mask * foreground[:, :3] + (1 - mask) * background,
        foreground=foreground,
        background=background,
        mask=mask,
        has_foreground=torch.full((count,), known),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_has_the_losses_and_layers_of_its_row(variant: str):
    system = made(variant=variant)
    parts = system(a_batch(), generator(), 0)
    names = {"loss", "background"} | ({"foreground"} if variant != "v0" else set())
    assert set(parts) == names | ({"consistency"} if variant == "full" else set())
    expected = sum(parts[name] for name in names - {"loss"}) + parts.get("consistency", 0)
    torch.testing.assert_close(parts["loss"], expected)
    background, foreground = system.decompose(a_batch().image, a_batch().mask, generator())
    assert background.shape == (2, 3, SIDE, SIDE)
    assert (foreground is None) == (variant == "v0")
    assert foreground is None or foreground.shape == (2, 4, SIDE, SIDE)


def test_without_a_foreground_map_the_foreground_is_never_read():
    system, batch = made(variant="v0"), a_batch()
    unread = replace(batch, foreground=torch.full_like(batch.foreground, torch.nan))
    assert torch.equal(system(batch, generator(), 0)["loss"], system(unread, generator(), 0)["loss"])


def test_losses_and_layers_are_decided_by_the_generator():
    system, batch = made(), a_batch()
    with torch.no_grad():
        for parameter in system.network.parameters():
            nn.init.normal_(parameter, std=0.1)
    for act in (
        lambda seed: system(batch, generator(seed), 0)["loss"],
        lambda seed: system.predict(batch, generator(seed)).background,
        lambda seed: system.predict(batch, generator(seed)).foreground,
    ):
        assert torch.equal(act(0), act(0))
        assert not torch.equal(act(0), act(1))


def test_a_prediction_looks_at_image_and_mask_alone():
    system, batch = made().eval(), a_batch()
    blind = replace(
        batch, foreground=torch.full_like(batch.foreground, torch.nan), background=torch.zeros_like(batch.background)
    )
    assert torch.equal(system.predict(batch, generator()).background, system.predict(blind, generator()).background)


def test_the_network_alone_is_trained_through_frozen_vaes(tmp_path: Path):
    rgba_vae.convert(rgba_vae.from_scratch("debug")).save_pretrained(tmp_path / "run" / "vae")
    system = made(codec="vae", rgba_vae=str(tmp_path / "run"), network=replace(SIZES, sample_size=8, patch_size=2))
    assert system.multiple == 4
    with torch.no_grad():
        for parameter in system.network.parameters():
            nn.init.normal_(parameter, std=0.1)
    system(a_batch(), generator(), 0)["consistency"].backward()
    assert set(system.trained()) == {f"network.{name}" for name, _ in system.network.named_parameters()}
    assert all(parameter.grad is not None for parameter in system.network.parameters())
    assert all(parameter.grad is None for parameter in system.codec.parameters())
    system.save(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_size < 4.1 * sum(p.numel() for p in system.trained().values())


def test_a_network_of_other_latents_than_the_codec_is_refused():
    with pytest.raises(UsageError, match=r"network\.latent_channels: expected 4, .* got 8"):
        made(network=replace(SIZES, latent_channels=8))
    with pytest.raises(UsageError, match=r"width must be a multiple of heads \(2\) and of 4, got 33"):
        replace(SIZES, width=33)


def test_the_debug_preset_learns_a_batch():
    """By the optimiser of the loop, at the recipe's rate, on one draw of noise."""
    recipe = load_recipe("layerdecomp", ["debug"])
    options = registry.parse_options("layerdecomp", recipe["model"])
    torch.manual_seed(0)
    system = layerdecomp.build(layerdecomp.resolve(options, Origin()), Origin())
    optimiser = torch.optim.AdamW(system.trained().values(), lr=recipe["lr"], weight_decay=0.0)
    batch, history = a_batch(2, side=recipe["data"]["size"]), []
    for step in range(100):
        loss = system(batch, generator(), step)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 1.0)
        optimiser.step()
        history.append(loss.item())
    assert max(history[-5:]) < history[0] / 5

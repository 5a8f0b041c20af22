"""The training of an RGBA VAE: what it is shown, what it begins with, what it leaves behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.manifests.trainings import load as load_recipe
from layerkit.toolkit.metrics.perceptual import lpips_net
from layerkit.toolkit.models import registry, rgba_vae
from layerkit.toolkit.models.rgba_vae_loss import RgbaVaeOptions
from layerkit.toolkit.models.rgba_vae_training import RgbaVae, RgbaVaeTraining, build
from layerkit.toolkit.models.system import Origin, Triplets

PLAIN = RgbaVaeTraining(scratch="debug", sampled=False)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(options: RgbaVaeTraining = PLAIN, **origin: Any) -> RgbaVae:
    torch.manual_seed(0)
    return build(options, Origin(**origin))


def a_batch(count: int = 4, *, known: bool = True, side: int = 32) -> Triplets:
    """Coarse pictures with an ellipse-like object."""
    draws = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 11, 5, 5, generator=draws)
    image, foreground, background, mask = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").split(
        [3, 4, 3, 1], 1
    )
    foreground = torch.cat([foreground[:, :3], (foreground[:, 3:] > 0.5).float()], 1)
    return Triplets(
        image=image,
        foreground=foreground,
        background=background,
        mask=(mask > 0.5).float(),
        has_foreground=torch.full((count,), known),
    )


def seen_by(system: RgbaVae, batch: Triplets, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Tensor:
    """The pictures that the VAE is given, in 0..1."""
    given: list[Tensor] = []

    def losses(vae: Any, rgba: Tensor, *_: Any, **__: Any) -> dict[str, Tensor]:
        given.append((rgba + 1) / 2)
        return {"loss": rgba.sum()}

    monkeypatch.setattr("layerkit.toolkit.models.rgba_vae_training.losses", losses)
    system(batch, torch.Generator().manual_seed(seed), 0)
    return given[0]


# ---- what it is shown


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_pictures_is_the_opaque_image(share: float, monkeypatch: pytest.MonkeyPatch):
    batch = a_batch(400, side=2)
    pictures = seen_by(made(replace(PLAIN, opaque=share)), batch, monkeypatch)
    image = torch.cat([batch.image, torch.ones(400, 1, 2, 2)], 1)
    is_image = (pictures - image).abs().amax((1, 2, 3)) < 1e-6
    is_layer = (pictures - batch.foreground).abs().amax((1, 2, 3)) < 1e-6
    assert (is_image | is_layer).all()
    assert is_image.float().mean() == pytest.approx(share, abs=0.07)  # three deviations of 400 draws


def test_which_ones_is_drawn_by_the_generator(monkeypatch: pytest.MonkeyPatch):
    batch, system = a_batch(64, side=2), made()
    first, again, other = (seen_by(system, batch, monkeypatch, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_foreground_that_nobody_knows_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    batch = replace(a_batch(known=False), foreground=torch.full((4, 4, 32, 32), torch.nan))
    pictures = seen_by(made(replace(PLAIN, opaque=0.0)), batch, monkeypatch)
    torch.testing.assert_close(pictures[:, :3], batch.image)
    assert (pictures[:, 3] == 1).all()


# ---- what it begins with


def test_at_step_0_it_is_the_rgb_vae_on_opaque_pictures(tmp_path: Path):
    torch.manual_seed(5)
    rgb = rgba_vae.from_scratch("debug").eval()
    rgb.save_pretrained(tmp_path / "rgb")
    system = made(replace(PLAIN, scratch=""), base=str(tmp_path / "rgb")).eval()
    batch = a_batch()
    opaque = torch.cat([batch.image, torch.ones(4, 1, 32, 32)], 1)
    prediction = system.predict(replace(batch, foreground=opaque), torch.Generator()).foreground
    with torch.no_grad():
        expected = (rgb.decode(rgb.encode(2 * batch.image - 1).latent_dist.mode()).sample + 1) / 2
    torch.testing.assert_close(prediction[:, :3], expected.clamp(0, 1), rtol=0, atol=1e-6)
    assert (prediction[:, 3] == 1).all()


def test_without_a_base_or_sizes_it_does_not_begin():
    with pytest.raises(UsageError, match=r"expected --base with its folder .* --set model\.scratch=debug"):
        made(RgbaVaeTraining())
    with pytest.raises(UsageError, match="expected a VAE preset out of debug, sd, got 'big'"):
        made(RgbaVaeTraining(scratch="big"))
    with pytest.raises(UsageError, match=r"opaque: expected a share in 0\.\.1, got 1\.5"):
        RgbaVaeTraining(opaque=1.5)


def test_all_of_the_vae_is_trained_and_nothing_else():
    class Distance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 3).requires_grad_(False)

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return (self.layer(one) - self.layer(other)).square()

    options = replace(PLAIN, loss=RgbaVaeOptions(reference_kl=0.1, kl=1.0, l1=1.0))
    plain = made(options)
    system = RgbaVae(options, plain.vae, plain.reference, Distance())
    with torch.no_grad():
        for parameter in system.vae.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    parts = system(a_batch(), torch.Generator().manual_seed(0), 0)
    assert set(parts) == {"loss", "composite", "l1", "perceptual", "kl", "reference_kl"}
    parts["loss"].backward()
    assert set(system.trained()) == {f"vae.{name}" for name, _ in system.vae.named_parameters()}
    assert all(parameter.grad is not None for parameter in system.trained().values())
    frozen = [parameter for module in (system.reference, system.perceptual) for parameter in module.parameters()]
    assert frozen
    assert all(parameter.grad is None for parameter in frozen)


def test_lpips_is_trained_on_without_its_dropout():
    """It would be drawn from torch's global numbers, so that a resumed run would not be the run that went on."""
    net = lpips_net("alex").requires_grad_(False)
    assert any(isinstance(module, nn.Dropout) for module in net.modules())
    plain = made()
    system = RgbaVae(PLAIN, plain.vae, None, net).train()
    assert system.vae.training
    batch = a_batch(1, side=64)
    first, again = (system(batch, torch.Generator().manual_seed(0), 0)["perceptual"] for _ in range(2))
    assert torch.equal(first, again)
    assert not system.eval().vae.training


# ---- what it learns and leaves behind


def test_the_debug_preset_learns_a_batch():
    recipe = load_recipe("rgba-vae", ["debug"])
    system = made(registry.parse_options("rgba-vae", recipe["model"]))
    optimiser = torch.optim.AdamW(system.trained().values(), lr=recipe["lr"], betas=recipe["betas"], weight_decay=0.0)
    batch, history = a_batch(2), []
    for step in range(80):
        loss = system(batch, torch.Generator().manual_seed(0), step)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert max(history[-5:]) < history[0] / 3


def test_a_run_keeps_the_vae_as_diffusers_reads_it(tmp_path: Path):
    system = made()
    with torch.no_grad():
        for parameter in system.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    system.eval().save(tmp_path)
    alone = rgba_vae.load(tmp_path / "vae")
    assert rgba_vae.folder_of(tmp_path) == tmp_path / "vae"
    again = build(replace(PLAIN, perceptual="vgg"), Origin(run=tmp_path))  # whose weights need not be here
    again.restore(tmp_path)
    batch = a_batch()
    prediction = system.predict(batch, torch.Generator()).foreground
    assert torch.equal(again.eval().predict(batch, torch.Generator()).foreground, prediction)
    with torch.no_grad():
        latent = rgba_vae.encode(alone, 2 * batch.foreground - 1)
        torch.testing.assert_close(((rgba_vae.decode(alone, latent) + 1) / 2).clamp(0, 1), prediction)

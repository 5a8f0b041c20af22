"""The discriminator of patches: hinge losses, gradients kept apart, the adaptive weight, its part in the RGBA VAE."""

import copy

import pytest
import torch
from torch import nn

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.patch_discriminator import (
    Adversarial,
    PatchDiscriminator,
    adversarial_losses,
    untouched,
)
from layerkit.toolkit.models.rgba_vae_loss import RgbaVaeOptions
from layerkit.toolkit.models.rgba_vae_training import RgbaVae, RgbaVaeTraining, build
from layerkit.toolkit.models.system import Origin, Triplets

TINY = Adversarial(weight=1.0, start=2, width=8, depth=2)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def a_side() -> tuple[PatchDiscriminator, nn.Conv2d, torch.Tensor, torch.Tensor]:
    """A discriminator, a last layer, what that makes, and what it should make."""
    last = nn.Conv2d(3, 4, 3, padding=1)
    return PatchDiscriminator(4, TINY), last, last(torch.randn(2, 3, 16, 16)), torch.randn(2, 4, 16, 16)


def test_patches_are_scored_picture_by_picture():
    judge, pictures = PatchDiscriminator(4, Adversarial(width=8)), torch.randn(3, 4, 32, 32)
    scores = judge(pictures)
    assert scores.shape == (3, 1, 2, 2)
    torch.testing.assert_close(judge(pictures[1:2]), scores[1:2])


def test_the_losses_are_hinges_and_the_adaptive_weight_is_the_ratio_of_gradients():
    judge, last, fake, real = a_side()
    loss = (fake - real).square().mean()
    parts = adversarial_losses(judge, fake, real, loss, last.weight, TINY)
    scores = judge(fake), judge(real)
    hinge = ((1 + scores[0]).clamp(min=0).mean() + (1 - scores[1]).clamp(min=0).mean()) / 2
    torch.testing.assert_close(parts["discriminator"], hinge)
    ratio = [torch.autograd.grad(one, last.weight, retain_graph=True)[0].norm() for one in (loss, -scores[0].mean())]
    torch.testing.assert_close(parts["adversarial"], -scores[0].mean() * ratio[0] / (ratio[1] + 1e-4))


def test_no_gradient_crosses_to_the_other_side():
    judge, last, fake, real = a_side()
    parts = adversarial_losses(judge, fake, real, (fake - real).square().mean(), last.weight, TINY)
    parts["adversarial"].backward(retain_graph=True)
    assert last.weight.grad.any()
    assert all(parameter.grad is None for parameter in judge.parameters())
    last.zero_grad()
    parts["discriminator"].backward()
    assert last.weight.grad is None
    assert all(parameter.grad.any() for parameter in judge.parameters() if parameter.ndim > 1)


def test_before_it_begins_every_weight_has_a_gradient_of_zero():
    judge = PatchDiscriminator(4, TINY)
    zero = untouched(judge)
    assert zero == 0
    zero.backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in judge.parameters())


def test_the_discriminator_learns_to_tell_and_the_vae_to_please_it():
    judge, last, _, real = a_side()
    before = copy.deepcopy(judge.state_dict())
    optimiser = torch.optim.Adam([*judge.parameters(), *last.parameters()], 2e-3)
    inputs, history = torch.randn(2, 3, 16, 16), []
    for _ in range(40):
        fake = last(inputs)
        loss = (fake - real).square().mean()
        parts = adversarial_losses(judge, fake, real, loss, last.weight, TINY)
        optimiser.zero_grad()
        (loss + parts["adversarial"] + parts["discriminator"]).backward()
        optimiser.step()
        history.append(parts["discriminator"].item())
    assert history[-1] < 0.5 * history[0]
    assert not torch.equal(judge.state_dict()["layers.0.weight"], before["layers.0.weight"])


def triplets() -> Triplets:
    draws = torch.rand(2, 8, 16, 16)
    image, foreground, mask = draws.split([3, 4, 1], 1)
    known = torch.ones(2, dtype=torch.bool)
    return Triplets(image=image, foreground=foreground, background=image, mask=mask.round(), has_foreground=known)


def vae(weight: float) -> RgbaVae:
    adversarial = Adversarial(weight=weight, start=2, width=8, depth=2)
    options = RgbaVaeTraining(scratch="debug", loss=RgbaVaeOptions(l1=1.0), adversarial=adversarial, sampled=False)
    return build(options, Origin())


def test_it_takes_part_in_the_vaes_training_from_its_step_on():
    system, batch = vae(0.5), triplets()
    early, late = (system(batch, torch.Generator().manual_seed(1), step) for step in (1, 2))
    assert set(late) - set(early) == {"adversarial", "discriminator"}
    torch.testing.assert_close(late["loss"], early["loss"] + late["adversarial"] + late["discriminator"])
    for parts in (early, late):
        parts["loss"].backward()
        assert all(parameter.grad is not None for parameter in system.trained().values())


def test_it_is_neither_saved_nor_needed(tmp_path):
    system = vae(0.5)
    system.save(tmp_path)
    loaded = build(system.options, Origin(run=tmp_path))
    assert loaded.discriminator is None
    assert vae(0.0).discriminator is None
    assert {path.name for path in (tmp_path / "vae").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_impossible_options_are_refused():
    for wrong in ({"weight": -1}, {"width": 12}, {"depth": 0}, {"start": -1}):
        with pytest.raises(UsageError, match="adversarial: expected"):
            Adversarial(**wrong)

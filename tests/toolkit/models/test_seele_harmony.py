"""SEELE's second equation: a perfect prediction ends at the picture that is wanted, and what a usual step would do."""

import itertools
import math

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from layerkit.toolkit.models.sd_inpaint import _LEVELS
from layerkit.toolkit.models.seele_harmony import sample, target_of, wanted_of

SHAPE = (2, 4, 8, 8)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(**_LEVELS)


def perfect(given: Tensor, wanted: Tensor, noised: str, levels: Tensor):
    """What equation 2 trains, from the noisy latent alone: its noise is found, for what it is of is known."""

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        a, s = levels[time].sqrt(), (1 - levels[time]).sqrt()
        noise = (noisy - a * (given if noised == "input" else wanted)) / s
        return target_of(noise, given, wanted)

    return predict


@pytest.mark.parametrize("noised", ["input", "target"])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_a_perfect_prediction_ends_at_what_is_wanted(noised: str, steps: int):
    given, wanted, noise = (torch.randn(SHAPE) for _ in range(3))
    predict = perfect(given, wanted, noised, scheduler().alphas_cumprod)
    made = sample(predict, scheduler(), given, noise, steps=steps, noised=noised)
    torch.testing.assert_close(made, wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("noised", ["input", "target"])
def test_every_level_says_what_is_wanted(noised: str):
    given, wanted, noise = (torch.randn(SHAPE) for _ in range(3))
    for kept in torch.tensor([0.9991, 0.7, 0.5, 0.1, 0.0047]):
        noisy = kept.sqrt() * (given if noised == "input" else wanted) + (1 - kept).sqrt() * noise
        made = wanted_of(target_of(noise, given, wanted), noisy, given, kept, noised)
        torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("noised", ["input", "target"])
def test_a_network_that_only_knows_noise_changes_nothing(noised: str):
    """Before training it predicts about e: what fits already, x = x*, comes back."""
    given, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    predict = perfect(given, given, noised, scheduler().alphas_cumprod)
    made = sample(predict, scheduler(), given, noise, steps=5, noised=noised)
    torch.testing.assert_close(made, given, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("noised", "end"), [("input", 0), ("target", 1)])
def test_usual_sampling_ends_elsewhere(noised: str, end: int):
    """Why the module does not sample as usual: Euler's method on fine levels, as the docstring derives it."""
    given, wanted = torch.tensor(0.3).double(), torch.tensor(-1.1).double()
    of = given if noised == "input" else wanted
    sigmas = torch.logspace(math.log10(14.6), -5, 20_000, dtype=torch.float64)
    y = of + sigmas[0] * 0.7
    for here, there in itertools.pairwise(sigmas):
        y = y + (there - here) * ((y - of) / here + given - wanted)
    assert y.item() == pytest.approx([0.3, -1.1][end], abs=1e-3)
    # One usual step says x + (s/a)(x* - x) of a noised x, which is right where a = s alone.
    for kept in torch.tensor([0.2, 0.5, 0.9]).double():
        a, s = kept.sqrt(), (1 - kept).sqrt()
        said = (a * given + s * 0.7 - s * target_of(torch.tensor(0.7), given, wanted)) / a
        torch.testing.assert_close(said, given + s / a * (wanted - given))
        assert (said - wanted).abs() < 1e-6 or kept != 0.5


def test_levels_of_a_noised_input_do_not_follow_from_one_another():
    given, noise, seen = torch.randn(SHAPE), torch.randn(SHAPE), []

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        seen.append((noisy, time))
        return torch.full_like(noisy, float(len(seen)))

    levels = scheduler().alphas_cumprod
    made = sample(predict, scheduler(), given, noise, steps=4, noised="input")
    assert len(seen) == 4
    for noisy, time in seen:
        torch.testing.assert_close(noisy, levels[time].sqrt() * given + (1 - levels[time]).sqrt() * noise)
    torch.testing.assert_close(made, given + noise - 2.5, atol=1e-4, rtol=0)

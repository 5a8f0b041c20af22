"""The fusion of contexts: its cost, its grids, and that places and kinds count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.context_fusion import ContextFusion, sinusoids

CHANNELS, WIDTH = 16, 32


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def a_fusion(kinds: int = 3, blocks: int = 1) -> ContextFusion:
    return ContextFusion(CHANNELS, kinds, WIDTH, heads=4, blocks=blocks)


def operations(kinds: int, side: int) -> int:
    with torch.device("meta"):
        fusion, tokens = a_fusion(kinds), torch.empty(1, kinds, side * side, CHANNELS)
    with FlopCounterMode(display=False) as counter:
        fusion(tokens, side, side)
    return counter.get_total_flops()


def test_the_cost_is_linear_in_the_tokens_of_context():
    one, two, four, eight = (operations(kinds, 16) for kinds in (1, 2, 4, 8))
    assert two > one
    assert (four - two, eight - four) == (2 * (two - one), 4 * (two - one))


def test_the_cost_is_queries_times_tokens():
    n, k = 16 * 16, 3 * 16 * 16
    attention = 2 * 2 * n * k * WIDTH
    projections = 2 * (k * (CHANNELS * WIDTH + 2 * WIDTH**2) + n * (2 * WIDTH**2 + 8 * WIDTH**2 + WIDTH * CHANNELS))
    assert operations(3, 16) == attention + projections


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 7), (9, 3), (1, 1)])
def test_every_grid_runs_and_gives_a_token_a_place(height, width):
    fused = a_fusion(blocks=2)(torch.randn(2, 3, height * width, CHANNELS), height, width)
    assert fused.shape == (2, height * width, CHANNELS)
    assert fused.isfinite().all()


def test_every_parameter_has_a_gradient_and_the_output_is_not_zero():
    fusion = a_fusion(blocks=2)
    fused = fusion(torch.randn(2, 3, 12, CHANNELS), 3, 4)
    fused.square().sum().backward()
    assert fused.std() > 0.1
    assert all(parameter.grad.any() for parameter in fusion.parameters())


def test_places_and_kinds_count():
    fusion, tokens = a_fusion().eval(), torch.randn(1, 3, 12, CHANNELS)
    fused = fusion(tokens, 3, 4)
    assert not torch.allclose(fusion(tokens.flip(2), 3, 4), fused)
    assert not torch.allclose(fusion(tokens.flip(1), 3, 4), fused)
    assert not torch.allclose(fusion(tokens, 4, 3), fused)
    for kind in range(3):
        other = tokens.clone()
        other[:, kind] += torch.randn(CHANNELS)
        assert not torch.allclose(fusion(other, 3, 4), fused)


def test_places_differ_and_do_not_depend_on_the_grid():
    small, large = sinusoids(3, 4, WIDTH, torch.device("cpu")), sinusoids(6, 5, WIDTH, torch.device("cpu"))
    assert small.shape == (12, WIDTH)
    assert torch.cdist(large, large).add(torch.eye(30)).min() > 0.1
    torch.testing.assert_close(large.unflatten(0, (6, 5))[:3, :4], small.unflatten(0, (3, 4)))
    torch.testing.assert_close(small.square().sum(1), torch.full((12,), WIDTH / 2))


def test_samples_do_not_see_each_other():
    fusion, tokens = a_fusion().eval(), torch.randn(3, 3, 12, CHANNELS)
    torch.testing.assert_close(fusion(tokens.flip(0), 3, 4), fusion(tokens, 3, 4).flip(0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"multiple of its heads \(5\) and of 4, got 32"):
        ContextFusion(CHANNELS, 3, WIDTH, heads=5)
    with pytest.raises(ValueError, match="expected tokens of 3 kinds at 3 x 4 places"):
        a_fusion()(torch.zeros(1, 2, 12, CHANNELS), 3, 4)
    with pytest.raises(ValueError, match="expected tokens of 3 kinds at 3 x 5 places"):
        a_fusion()(torch.zeros(1, 3, 12, CHANNELS), 3, 5)

"""LayerFusion's equations against closed forms and an attention written out."""

from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from layerkit.manifests.errors import RunError, UsageError
from layerkit.toolkit.models.layerfusion_masks import (
    blended_outputs,
    content_prior,
    effective_tokens,
    eos_positions,
    grid_of,
    hard_mask,
    minmax,
    resized,
    shared_attention,
    soft_mask,
)
from layerkit.toolkit.models.layerfusion_options import FusionOptions

WIDTH = 4
SCALE = WIDTH**-0.5

maps = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=st.floats(0, 1, width=32))
decisions = st.one_of(st.floats(0.1, 100), st.just(inf))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """softmax(QKᵀ/√d), written out."""
    weights = torch.exp(torch.einsum("...md,...ld->...ml", q, k) / WIDTH**0.5)
    return weights / weights.sum(-1, keepdim=True)


# ---- priors


@given(maps)
def test_minmax_reaches_both_ends_or_is_zero(values):
    made = minmax(torch.from_numpy(values))
    assert made.isfinite().all()
    for row, stretched in zip(values.astype(float), made, strict=True):
        if row.max() - row.min() > 1e-5 * row.max():
            assert (float(stretched.min()), float(stretched.max())) == (0, 1)
            np.testing.assert_allclose(stretched, (row - row.min()) / (row.max() - row.min()), atol=1e-5)
        elif row.max() == row.min():
            assert not stretched.any()


def test_effective_tokens_count_those_that_a_token_attends_to():
    q, k = normal(2, 3, 6, WIDTH), normal(2, 3, 6, WIDTH, seed=1)
    m = attention(q, k).mean(1)
    torch.testing.assert_close(effective_tokens(q, k, SCALE), 1 / (m**2).sum(-1))
    alike = torch.zeros(1, 2, 6, WIDTH)
    torch.testing.assert_close(effective_tokens(alike, alike, SCALE), torch.full((1, 6), 6.0))
    apart = 100 * torch.eye(4).expand(1, 2, 4, 4)
    torch.testing.assert_close(effective_tokens(apart, apart, SCALE), torch.ones(1, 4))


def test_heads_are_averaged_before_they_are_squared():
    """Two heads that look at one token each, at different ones: two tokens, not one."""
    first, second = 100 * torch.eye(4), 100 * torch.eye(4).roll(1, 0)
    q, k = torch.stack([first, first])[None], torch.stack([first, second])[None]
    torch.testing.assert_close(effective_tokens(q, k, SCALE), torch.full((1, 4), 2.0))


def test_the_content_prior_is_the_column_of_the_end_of_text():
    q, k = normal(2, 3, 5, WIDTH), normal(2, 3, 7, WIDTH, seed=1)
    n = attention(q, k).mean(1)
    wanted = torch.stack([n[0, :, 2], n[1, :, 6]])
    torch.testing.assert_close(content_prior(q, k, SCALE, torch.tensor([2, 6])), wanted)


def test_the_first_end_of_text_is_found_where_the_padding_is_the_same_token():
    tokens = torch.tensor([[0, 5, 9, 9, 9], [0, 9, 9, 9, 9], [0, 5, 6, 7, 9]])
    assert eos_positions(tokens, 9).tolist() == [2, 1, 4]
    with pytest.raises(RunError, match="end-of-text token 8 in every text"):
        eos_positions(tokens, 8)


# ---- masks


@given(maps, st.sampled_from(["both", "self", "cross"]), st.sampled_from(["sparse", "dense"]), decisions)
def test_masks_lie_within_0_and_1(values, priors, polarity, decision):
    content = torch.from_numpy(values)
    effective = 1 + 5 * content.flip(-1) ** 2
    soft = soft_mask(effective, content, priors=priors, polarity=polarity)
    hard = hard_mask(soft, decision)
    for mask in (soft, hard):
        assert mask.shape == content.shape
        assert ((mask >= 0) & (mask <= 1)).all()
    assert torch.equal(hard > 0.5, soft > 0.5) or decision < 1  # next to ½ float32 rounds a small slope away
    if decision == inf:
        assert set(hard.unique().tolist()) <= {0, 1}


def test_the_decision_is_a_sigmoid_around_a_half():
    soft = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(hard_mask(soft, 10), 1 / (1 + torch.exp(-10 * (soft - 0.5))))
    assert hard_mask(soft, inf).tolist() == [0, 0, 0, 1]


def test_polarity_and_priors_choose_what_the_mask_is_made_of():
    s, c = torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0.2, 0.4, 0.1]])
    assert soft_mask(s, c, priors="self", polarity="dense").tolist() == [[0, 0.5, 1]]
    assert soft_mask(s, c, priors="self", polarity="sparse").tolist() == [[1, 0.5, 0]]
    torch.testing.assert_close(soft_mask(s, c, priors="cross"), torch.tensor([[1 / 3, 1, 0]]))
    torch.testing.assert_close(soft_mask(s, c, polarity="dense"), torch.tensor([[0.0, 1.0, 0.5]]))
    torch.testing.assert_close(soft_mask(s, c, polarity="sparse"), torch.tensor([[1.0, 1.0, 0.0]]))
    assert soft_mask(torch.ones(1, 3), c, polarity="sparse").tolist() == [[0, 0, 0]]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 4))
def test_the_grid_of_every_level_is_found(height, width, level):
    grid = height, width
    for _ in range(level):
        grid = -(-grid[0] // 2), -(-grid[1] // 2)
    assert grid_of(grid[0] * grid[1], (height, width)) == grid


def test_a_number_of_tokens_of_no_level_is_refused():
    with pytest.raises(RunError, match=r"latent of \(8, 12\) .*got 25"):
        grid_of(25, (8, 12))


@given(maps, st.integers(1, 9), st.integers(1, 9))
def test_resized_maps_stay_within_their_range(values, height, width):
    map_ = torch.from_numpy(values)[None]
    made = resized(map_, (height, width))
    assert made.shape == (1, height, width)
    assert made.min() >= map_.min() - 1e-6
    assert made.max() <= map_.max() + 1e-6


def test_a_coarser_grid_averages_and_keeps_rows_and_columns_apart():
    left_half = torch.zeros(1, 8, 12)
    left_half[..., :6] = 1
    made = resized(left_half, (4, 6))
    torch.testing.assert_close(made[0, :, [0, 1, 4, 5]], torch.tensor([[1.0, 1, 0, 0]]).expand(4, -1))
    torch.testing.assert_close(made.mean(), left_half.mean())


# ---- streams


@given(decisions, st.sampled_from(["updated", "original"]))
def test_outputs_are_blended_as_the_equations_say(decision, order):
    outputs, soft = normal(2, 3, 2, 5, WIDTH), normal(2, 5, seed=1).sigmoid()
    foreground, blended, background = outputs.unbind(1)
    made = blended_outputs(outputs, soft, decision, order)
    m_soft, m_hard = soft[None, ..., None], hard_mask(soft, decision)[None, ..., None]
    wanted = foreground * m_soft + blended * (1 - m_soft)
    seen = wanted if order == "updated" else blended
    torch.testing.assert_close(made[:, 0], seen * m_hard + foreground * (1 - m_hard))
    torch.testing.assert_close(made[:, 1], wanted)
    assert torch.equal(made[:, 2], background)


def test_masks_of_zero_and_one_copy_streams():
    outputs = normal(1, 3, 1, 4, WIDTH)
    assert torch.equal(blended_outputs(outputs, torch.zeros(1, 4), inf, "updated"), outputs)
    full = blended_outputs(outputs, torch.ones(1, 4), inf, "original")
    assert torch.equal(full[:, [0, 1]], outputs[:, [1, 0]])
    full = blended_outputs(outputs, torch.ones(1, 4), inf, "updated")
    assert torch.equal(full[:, 0], outputs[:, 0])
    assert torch.equal(full[:, 1], outputs[:, 0])


@pytest.mark.parametrize("sharing", ["joint", "blended", "off"])
def test_streams_attend_to_what_they_share(sharing):
    q, k, v = normal(2, 3, 2, 2, 5, WIDTH), normal(2, 3, 2, 2, 7, WIDTH, seed=1), normal(2, 3, 2, 2, 7, WIDTH, seed=2)
    made = shared_attention(q, k, v, SCALE, sharing)
    own = attention(q, k) @ v
    both_k, both_v = torch.cat([k[:, 1], k[:, 2]], -2), torch.cat([v[:, 1], v[:, 2]], -2)
    for stream in range(3):
        shares = stream in {"joint": (1, 2), "blended": (1,), "off": ()}[sharing]
        wanted = attention(q[:, stream], both_k) @ both_v if shares else own[:, stream]
        torch.testing.assert_close(made[:, stream], wanted)


# ---- options


def test_options_out_of_range_say_what_was_expected():
    with pytest.raises(UsageError, match=r"polarity: expected one of sparse, dense, got 'thin'"):
        FusionOptions(polarity="thin")
    for decision in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="decision: expected a coefficient above 0"):
            FusionOptions(decision=decision)

"""The masks of LayerFusion (Dalva et al. 2024, arXiv 2412.04460, section 3) as functions of queries and keys.

With the foreground's last self-attention m = softmax(QKᵀ/√d), a mean over heads, and its cross-attention n,

    s_i = 1 / Σ_j m_ij²          how many tokens the token i attends to: the structure prior
    c_i = n_i,EOS                how much of the text's summary it takes: the content prior
    m_soft = minmax(s · c)       s min-max normalised, or 1 - that, by ``polarity``
    m_hard = σ(d (m_soft - ½))   d, the decision coefficient

    a_blend ← a_fg m_soft + a_blend (1 - m_soft)    (Eq. 1)
    a_fg ← a_blend m_hard + a_fg (1 - m_hard)       (Eq. 2)

on the outputs a of the self- and cross-attentions. The text that we hold has no formula of s and none of the centre ½;
both are ours. So is that a row without contrast, as of a constant, normalises to zero: it blends nothing.

Queries, keys and values are (..., heads, tokens, width of a head).
"""

from math import isinf

import torch
from torch import Tensor
from torch.nn import functional

from ...manifests.errors import RunError
from .layerfusion_options import Order, Polarity, Priors, Sharing

Grid = tuple[int, int]

# What float32 leaves of a constant is no contrast.
_FLAT = 1e-6


def minmax(values: Tensor) -> Tensor:
    """Stretch the last dimension to 0..1; zero where it is constant."""
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    flat = high - low <= _FLAT * torch.maximum(low.abs(), high.abs())
    return torch.where(flat, 0, (values - low) / (high - low))


def effective_tokens(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """How many tokens each token attends to, 1 / Σ_j m_ij², (N, M), 1..M; m is the heads' mean attention.

    Args:
        queries: (N, heads, M, width); keys likewise. In float32 at least, a head's M x M at a
            time beside their sum.
        keys: see above.
        scale: 1/√width.
    """
    heads = queries.shape[1]
    total = _probabilities(queries[:, 0], keys[:, 0], scale)
    for head in range(1, heads):
        total += _probabilities(queries[:, head], keys[:, head], scale)
    return 1 / (total / heads).square().sum(-1)


def content_prior(queries: Tensor, keys: Tensor, scale: float, eos: Tensor) -> Tensor:
    """The share of the end-of-text token in each token's cross-attention, (N, M), 0..1, a mean over heads.

    Args:
        queries: (N, heads, M, width).
        keys: (N, heads, L, width).
        scale: 1/√width.
        eos: the token's place in each text, (N,); see :func:`eos_positions`.
    """
    mean = _probabilities(queries, keys, scale).mean(1)
    return mean.gather(-1, eos.view(-1, 1, 1).expand(-1, mean.shape[1], 1))[..., 0]


def _probabilities(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    precision = torch.promote_types(queries.dtype, torch.float32)
    return (queries.to(precision) @ keys.to(precision).mT * scale).softmax(-1)


def eos_positions(tokens: Tensor, eos: int) -> Tensor:
    """Where the first end-of-text token ``eos`` stands in each row of (N, L); CLIP pads with the same token.

    Raises:
        RunError: a row has none.
    """
    found = tokens == eos
    if not found.any(-1).all():
        raise RunError(f"expected the end-of-text token {eos} in every text, got rows without: {tokens.tolist()}")
    return found.int().argmax(-1)


def soft_mask(effective: Tensor, content: Tensor, *, priors: Priors = "both", polarity: Polarity = "sparse") -> Tensor:
    """m_soft of :func:`effective_tokens` and :func:`content_prior`, both (N, M): 0..1, of their shape.

    ``priors`` leaves one of them out (``self``, ``cross``); see ``FusionOptions``.
    """
    # minmax(-s) is 1 - minmax(s), but zero where s is constant.
    structure = minmax(effective if polarity == "dense" else -effective)
    if priors == "self":
        return structure
    return minmax(content if priors == "cross" else structure * content)


def hard_mask(soft: Tensor, decision: float) -> Tensor:
    """m_hard = σ(d (m_soft - ½)), 0..1; with d infinite 1 where m_soft exceeds ½, else 0."""
    return (soft > 0.5).to(soft.dtype) if isinf(decision) else torch.sigmoid(decision * (soft - 0.5))


# ---- token grids


def grid_of(tokens: int, latent: Grid) -> Grid:
    """Rows and columns of a layer of so many tokens, where every level halves a side and rounds up.

    Raises:
        RunError: no level of a latent of this size has so many.
    """
    height, width = latent
    while height * width > tokens and height * width > 1:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise RunError(f"expected the tokens of a level of a latent of {latent} (rows, columns), got {tokens}")
    return height, width


def resized(maps: Tensor, grid: Grid) -> Tensor:
    """Maps (N, h, w) on another grid, bilinear, averaged where it is coarser; no value leaves their range."""
    if maps.shape[-2:] == grid:
        return maps
    return functional.interpolate(maps[:, None], grid, mode="bilinear", antialias=True, align_corners=False)[:, 0]


# ---- streams


def blended_outputs(outputs: Tensor, soft: Tensor, decision: float, order: Order) -> Tensor:
    """Eq. 1 and 2 on attention outputs (halves, 3, N, M, C): foreground, blended, background; the last stays.

    Args:
        outputs: see above.
        soft: m_soft, (N, M).
        decision: d of the hard mask.
        order: which a_blend Eq. 2 reads; see ``FusionOptions``.
    """
    foreground, blended, background = outputs.unbind(1)
    m_soft, m_hard = (mask[..., None].to(outputs.dtype) for mask in (soft, hard_mask(soft, decision)))
    updated = foreground * m_soft + blended * (1 - m_soft)
    seen = updated if order == "updated" else blended
    return torch.stack([seen * m_hard + foreground * (1 - m_hard), updated, background], 1)


def shared_attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float, sharing: Sharing) -> Tensor:
    """Attention of the streams (halves, 3, N, heads, M, width), with the keys and values that they share.

    Of ``joint``, blended and background attend to the tokens of both, of ``blended`` the blended stream alone does.
    """
    if sharing == "off" or queries.shape[1] == 1:
        return _attention(queries, keys, values, scale)
    if sharing == "joint":
        alone = _attention(queries[:, :1], keys[:, :1], values[:, :1], scale)
        both = _attention(_side_by_side(queries), _side_by_side(keys), _side_by_side(values), scale)
        return torch.cat([alone, *both.chunk(2, -2)], 1)
    own = _attention(queries[:, ::2], keys[:, ::2], values[:, ::2], scale)
    blended = _attention(queries[:, 1:2], _side_by_side(keys), _side_by_side(values), scale)
    return torch.cat([own[:, :1], blended, own[:, 1:]], 1)


def _side_by_side(streams: Tensor) -> Tensor:
    """The tokens of blended and background as those of one stream."""
    return torch.cat([streams[:, 1:2], streams[:, 2:]], -2)


def _attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    # The fast kernels take four dimensions.
    q, k, v = (each.flatten(0, 2) for each in (queries, keys, values))
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).reshape(queries.shape)

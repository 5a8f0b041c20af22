"""ASUKA's alignment (arXiv 2312.04831, section 3.2): what the masked autoencoder knows, as a text that a UNet reads.

A linear layer to the width of the text, four blocks, a norm. A block is a transformer's with attention and feed-forward
layer side by side and norms of queries and keys, as FLUX's single-stream blocks are, without their modulation.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ...manifests.errors import UsageError

Variant = Literal["four-self", "one-attention", "four-cross", "linear"]

BLOCKS: dict[Variant, int] = {"four-self": 4, "one-attention": 1, "four-cross": 4, "linear": 0}
"""Number of blocks: the paper's, and those of its ablation."""

_WIDER = 4  # times is the feed-forward layer


class Aligner(nn.Module):
    """Features (N, L, inputs) to a sequence (N, L, width); of ``four-cross`` (N, queries, width).

    Args:
        inputs: width of the features.
        width: of the sequence; a multiple of ``head``.
        variant: ``four-self``; or the paper's ablations: ``linear`` alone, ``one-attention`` block, or ``four-cross``
            blocks, in which learnt queries attend to the features. The paper does not say what asks: that is ours.
        head: width of a head of attention.
        queries: how many, of ``four-cross``.

    Raises:
        UsageError: the width is no such multiple.
    """

    def __init__(
        self, inputs: int, width: int, variant: Variant = "four-self", head: int = 64, queries: int = 0
    ) -> None:
        super().__init__()
        if width % head:
            raise UsageError(f"head: expected one that divides the base's width, {width}, got {head}; set model.head")
        self.linear, self.norm = nn.Linear(inputs, width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, head) for _ in range(BLOCKS[variant]))
        crosses = variant == "four-cross"
        self.queries = nn.Parameter(0.02 * torch.randn(1, queries, width)) if crosses else None

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        sequence = self.linear(features)
        context = None
        if self.queries is not None:
            context, sequence = sequence, self.queries.expand(len(features), -1, -1)
        for block in self.blocks:
            sequence = block(sequence, context)
        return self.norm(sequence)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """x + W_2 [attention(n(x)), gelu(W_1 n(x))]: to itself, or to a context."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.width, self.head = width, head
        self.before = nn.LayerNorm(width, 1e-6, elementwise_affine=False)
        self.asked, self.given = nn.Linear(width, (1 + _WIDER) * width), nn.Linear(width, 2 * width)
        self.query_norm, self.key_norm = nn.RMSNorm(head, 1e-6), nn.RMSNorm(head, 1e-6)
        self.after = nn.Linear((1 + _WIDER) * width, width)

    def forward(self, sequence: Tensor, context: Tensor | None) -> Tensor:
        hidden = self.before(sequence)
        query, wide = self.asked(hidden).split([self.width, _WIDER * self.width], 2)
        key, value = self.given(hidden if context is None else context).chunk(2, 2)
        query, key, value = (part.unflatten(2, (-1, self.head)).transpose(1, 2) for part in (query, key, value))
        found = scaled_dot_product_attention(self.query_norm(query), self.key_norm(key), value)
        both = torch.cat([found.transpose(1, 2).flatten(2), gelu(wide, approximate="tanh")], 2)
        return sequence + self.after(both)  # type: ignore[no-any-return]


def mixed(condition: Tensor, null: Tensor, weight: float) -> Tensor:
    """Null + weight (condition - null): exactly the one at 0, exactly the other at 1.

    Args:
        condition: (N, …).
        null: (1, …).
        weight: of the condition.
    """
    return torch.lerp(null.expand_as(condition), condition, weight)


def dropped(condition: Tensor, null: Tensor, kept: Tensor) -> Tensor:
    """The condition of those that keep it, bool (N,), the null of the others; both have a part in the graph."""
    return torch.where(kept.view(-1, *[1] * (condition.ndim - 1)), condition, null)

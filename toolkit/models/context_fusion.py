"""Fusing pictures of context (edges, segmentation, depth) into a token a place, by latent queries that look at them.

After Outpaint-and-Remove (arXiv 2511.20996), whose fusion follows Perceiver: N queries attend over the K tokens of all
pictures, which costs O(K N) where attention among the tokens would cost O(K²). The paper gives neither its sizes nor
how the queries know their place. Here a query is one learnt vector plus the sine and cosine of its place, so that every
grid runs, and every token of context has its place and its kind.
"""

from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from ...manifests.errors import UsageError

_DEVIATION = 0.02
_LONGEST = 10_000.0


class ContextFusion(nn.Module):
    """A fused token a place of the grid, from the tokens of several pictures.

    Args:
        channels: of a token, in and out.
        kinds: how many pictures of context there are.
        width: of the attention; a multiple of ``heads`` and of 4.
        heads: attention heads.
        blocks: of cross-attention and feed-forward layer, one after the other over the same tokens.

    Raises:
        UsageError: the width fits neither heads nor places.
    """

    def __init__(self, channels: int, kinds: int, width: int = 512, heads: int = 8, blocks: int = 1) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise UsageError(f"the fusion's width must be a multiple of its heads ({heads}) and of 4, got {width}")
        self.width = width
        self.embed = nn.Linear(channels, width)
        self.kind = nn.Parameter(_DEVIATION * torch.randn(kinds, 1, width))
        self.query = nn.Parameter(_DEVIATION * torch.randn(width))
        self.norm_context = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Fuse.

        Args:
            tokens: (B, kinds, height · width, channels), each picture's row by row.
            height: of the grid.
            width: of the grid.

        Returns:
            (B, height · width, channels).

        Raises:
            ValueError: there are other kinds than the fusion was made for, or another number of places.
        """
        if tokens.shape[1:3] != (len(self.kind), height * width):
            raise ValueError(
                f"expected tokens of {len(self.kind)} kinds at {height} x {width} places, got {tuple(tokens.shape)}"
            )
        places = sinusoids(height, width, self.width, tokens.device)
        context = self.norm_context((self.embed(tokens) + self.kind + places).flatten(1, 2))
        queries = (self.query + places).expand(len(tokens), -1, -1)
        for block in self.blocks:
            queries = block(queries, context)
        fused: Tensor = self.out(self.norm_out(queries))
        return fused


class _Block(nn.Module):
    """Cross-attention and a feed-forward layer, each added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention: Any = Attention(width, cross_attention_dim=width, heads=heads, dim_head=width // heads)
        self.feed_forward: Any = FeedForward(width, activation_fn="gelu-approximate")

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        queries = queries + self.attention(self.norm_query(queries), encoder_hidden_states=context)
        fused: Tensor = queries + self.feed_forward(self.norm_hidden(queries))
        return fused


def sinusoids(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Places of a grid as sines and cosines of their row and column, (height · width, channels), row by row.

    A quarter of the channels each: sine and cosine of the row, sine and cosine of the column, at wavelengths from 2 pi
    to 20,000 pi tokens.
    """
    quarter = channels // 4
    frequencies = _LONGEST ** -(torch.arange(quarter, device=device) / quarter)
    rows, columns = (torch.arange(side, device=device)[:, None] * frequencies for side in (height, width))
    by_row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)
    by_column = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([by_row, by_column], 2).flatten(0, 1)

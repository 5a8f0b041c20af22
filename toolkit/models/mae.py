"""The masked autoencoder (He et al. 2022, arXiv 2111.06377) on masks of any shape, as ASUKA's prior uses it.

A ViT looks at the patches that a mask does not touch; a smaller one is given a token of its own for every other patch,
and draws them. He et al. hide patches at random; MAE-FAR (arXiv 2208.01837) and ASUKA (arXiv 2312.04831) hide what a
continuous mask touches, and take what the second ViT knows after its sixth block as a stable idea of the hole.

Tensors are named as in the released checkpoints of all three.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, gelu, pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention

from ...manifests.errors import UsageError

_EPS = 1e-6  # of every norm
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels


@dataclass(frozen=True, kw_only=True)
class MaeSizes:
    """The sizes of a masked autoencoder; by default of ViT-B/16 at 256 px.

    Attributes:
        side: of the square that it sees, px; a multiple of ``patch``.
        patch: side of a patch, px.
        width: of the encoder; a multiple of ``heads`` and of 4.
        depth: its blocks.
        heads: of its attention.
        decoder_width: of the decoder, and so of the features; a multiple of ``decoder_heads`` and of 4.
        decoder_depth: its blocks.
        decoder_heads: of its attention.
        class_token: with the token that He et al.'s encoder has beside the patches; MAE-FAR leaves it out.
    """

    side: int = 256
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    class_token: bool = False

    def __post_init__(self) -> None:
        if self.patch < 1 or self.side < self.patch or self.side % self.patch:
            raise UsageError(f"side: expected a multiple of patch ({self.patch}), got {self.side}")
        for name, width, heads in (
            ("width", self.width, self.heads),
            ("decoder_width", self.decoder_width, self.decoder_heads),
        ):
            if heads < 1 or width < 1 or width % heads or width % 4:
                raise UsageError(f"{name}: expected a multiple of its heads ({heads}) and of 4, got {width}")
        if min(self.depth, self.decoder_depth) < 1:
            raise UsageError(f"expected a depth of 1 or more, got {self.depth} and {self.decoder_depth}")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // self.patch


class MaskedAutoencoder(nn.Module):
    """Patches that a mask hides, from those that it does not touch.

    Args:
        sizes: see :class:`MaeSizes`.
    """

    pos_embed: Tensor
    decoder_pos_embed: Tensor

    def __init__(self, sizes: MaeSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch_embed = _PatchEmbed(sizes.patch, sizes.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width)) if sizes.class_token else None
        self.blocks = nn.ModuleList(_Block(sizes.width, sizes.heads) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, _EPS)
        self.decoder_embed = nn.Linear(sizes.width, sizes.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, sizes.decoder_width))
        self.decoder_blocks = nn.ModuleList(
            _Block(sizes.decoder_width, sizes.decoder_heads) for _ in range(sizes.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(sizes.decoder_width, _EPS)
        self.decoder_pred = nn.Linear(sizes.decoder_width, 3 * sizes.patch**2)
        for name, width in (("pos_embed", sizes.width), ("decoder_pos_embed", sizes.decoder_width)):
            self.register_buffer(name, positions(sizes.grid, width)[None], persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """As He et al. do: Xavier's uniform weights, small normal tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for token in (self.mask_token, self.cls_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    def fitted(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A picture and its hole at the size that is seen, by area.

        A pixel that the mask touches at all is of the hole: none of those that are left has anything of what is masked.

        Args:
            image: (N, 3, H, W) in 0..1.
            mask: (N, 1, H, W), above 0 where it is hidden.

        Returns:
            Pixels (N, 3, side, side), normalised as ImageNet's, zero in the hole; and the hole, see :meth:`hole`.
        """
        hole = self.hole(mask)
        shown = adaptive_avg_pool2d(torch.where(mask > 0, 0, image), self.sizes.side)
        return torch.where(hole, 0, normalised(shown)), hole

    def hole(self, mask: Tensor) -> Tensor:
        """The pixels that a mask (N, 1, H, W) touches at the size that is seen, bool (N, 1, side, side)."""
        return adaptive_avg_pool2d((mask > 0).float(), self.sizes.side) > 0

    def hidden(self, hole: Tensor) -> Tensor:
        """Which patches a hole (N, 1, side, side) touches, bool (N, patches)."""
        return adaptive_avg_pool2d(hole.float(), self.sizes.grid).flatten(1) > 0

    def forward(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """All patches as the decoder draws them, (N, patches, 3 · patch²), laid out as by :meth:`patches`.

        Args:
            pixels: see :meth:`fitted`; those of hidden patches have no influence.
            hidden: bool (N, patches).
        """
        tokens = self._decoded(self._encoded(pixels, hidden), hidden, self.sizes.decoder_depth)
        return self.decoder_pred(self.decoder_norm(tokens))[:, self._extra :]  # type: ignore[no-any-return]

    def features(self, image: Tensor, mask: Tensor, block: int = 6) -> Tensor:
        """What the decoder knows of every patch after some of its blocks, (N, patches, decoder_width).

        Args:
            image: (N, 3, H, W) in 0..1, of any size; what is masked has no influence.
            mask: (N, 1, H, W), above 0 where it is hidden.
            block: how many blocks; ASUKA takes six of eight.
        """
        pixels, hole = self.fitted(image, mask)
        hidden = self.hidden(hole)
        return self._decoded(self._encoded(pixels, hidden), hidden, block)[:, self._extra :]

    @property
    def _extra(self) -> int:
        return int(self.cls_token is not None)

    def _encoded(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        tokens = self.patch_embed(pixels) + self.pos_embed
        seen = ~hidden | hidden.all(1, keepdim=True)  # where all is hidden the tokens of zeros are all there is
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
            seen = torch.cat([torch.ones_like(seen[:, :1]), ~hidden], 1)
        for block in self.blocks:
            tokens = block(tokens, seen[:, None, None])
        return self.norm(tokens)  # type: ignore[no-any-return]

    def _decoded(self, tokens: Tensor, hidden: Tensor, blocks: int) -> Tensor:
        tokens, places = self.decoder_embed(tokens), self.decoder_pos_embed
        if self._extra:
            hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
            places = torch.cat([torch.zeros_like(places[:, :1]), places], 1)
        tokens = torch.where(hidden[..., None], self.mask_token.to(tokens), tokens) + places
        for block in self.decoder_blocks[:blocks]:
            tokens = block(tokens)
        return tokens

    def patches(self, pixels: Tensor) -> Tensor:
        """A picture (N, C, side, side) cut to patches (N, patches, patch² · C), each row by row, colours together."""
        cut = torch.unflatten(pixel_unshuffle(pixels, self.sizes.patch), 1, (pixels.shape[1], -1))
        return cut.permute(0, 3, 4, 2, 1).flatten(1, 2).flatten(2)

    def picture(self, patches: Tensor) -> Tensor:
        """The inverse of :meth:`patches`."""
        grid, patch = self.sizes.grid, self.sizes.patch
        cut = patches.reshape(len(patches), grid, grid, patch**2, -1).permute(0, 4, 3, 1, 2).flatten(1, 2)
        return pixel_shuffle(cut, patch)


# ---- pixels and places


def normalised(image: Tensor) -> Tensor:
    """Pixels of 0..1 about ImageNet's mean, in its deviations."""
    mean, deviation = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (image - mean) / deviation


def denormalised(pixels: Tensor) -> Tensor:
    """The inverse of :func:`normalised`."""
    mean, deviation = (pixels.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return pixels * deviation + mean


def positions(grid: int, width: int) -> Tensor:
    """Fixed embeddings of the places of a square grid, (grid², width), row by row.

    The first half is of the column, the second of the row; each is sin, then cos of place / 10000^(4 k / width).
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], 1)
    columns, rows = line.repeat(grid, 1), line.repeat_interleave(grid, 0)
    return torch.cat([columns, rows], 1).float()


# ---- the blocks


class _PatchEmbed(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """A ViT's, norms before attention and feed-forward layer; what ``seen`` leaves out is not attended to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.attn, self.mlp = _Attention(width, heads), _FeedForward(width)

    def forward(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), seen)
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, seen: Tensor | None) -> Tensor:
        query, key, value = torch.unflatten(self.qkv(tokens), 2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(query, key, value, seen)
        return self.proj(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(tokens)))  # type: ignore[no-any-return]

"""LayerFusion's attention in a UNet of diffusers: three streams in one batch, one of them with weights of its own.

The rows of a batch are (halves, streams, N): without text and with it, as classifier-free guidance has them;
foreground, blended and background; and the pictures. Masks are read of the half with text, and used on both, so that
guidance compares two pictures that were blended alike. Outputs are blended after the last projection: there every
stream's lie in one space, also the foreground's, whose projections are its own.
"""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...manifests.errors import UsageError
from .layerfusion_masks import (
    Grid,
    blended_outputs,
    content_prior,
    effective_tokens,
    grid_of,
    resized,
    shared_attention,
    soft_mask,
)
from .layerfusion_options import FusionOptions
from .tensor_files import check_tensors

STREAMS = 3
"""Foreground, blended, background."""

_PROJECTION = re.compile(r"(?P<attention>.+\.attn[12])\.(?P<part>to_(?:q|k|v|out\.0)\.(?:weight|bias))")


class Fusion:
    """What the attentions of one network share while pictures are made.

    Args:
        options: how masks are made and used.

    Attributes:
        alone: the batch holds the foregrounds with their text and nothing else.
        soft: m_soft that the attentions use now, (N, h, w) on the grid it was read on; None blends nothing.
    """

    def __init__(self, options: FusionOptions) -> None:
        self.options, self.alone = options, False
        self.begin((1, 1), torch.zeros(0, dtype=torch.long), 1)

    def begin(self, latent: Grid, eos: Tensor, halves: int) -> None:
        """Forget what was, before a batch of pictures.

        Args:
            latent: rows and columns of the latents.
            eos: where the foregrounds' texts end, (N,).
            halves: 2 with guidance, else 1.
        """
        self.latent, self.eos, self.halves = latent, eos, halves
        self.soft: Tensor | None = None
        self._resized: dict[Grid, Tensor] = {}
        self._structure: list[Tensor] = []
        self._content: list[Tensor] = []

    @property
    def reads_now(self) -> bool:
        """Whether this pass is the one that masks are read of."""
        return self.alone == (self.options.timing == "prepass")

    def by_stream(self, rows: Tensor) -> Tensor:
        """(rows, …) as (halves, streams, N, …)."""
        return rows.reshape(*((1, 1) if self.alone else (self.halves, STREAMS)), -1, *rows.shape[1:])

    def note_structure(self, queries: Tensor, keys: Tensor, scale: float) -> None:
        """Read the structure prior off a self-attention's (halves, streams, N, heads, M, width)."""
        self._structure.append(self._on_grid(effective_tokens(queries[-1, 0], keys[-1, 0], scale)))

    def note_content(self, queries: Tensor, keys: Tensor, scale: float) -> None:
        """Read a content prior off a cross-attention's (halves, streams, N, heads, M or L, width)."""
        self._content.append(self._on_grid(content_prior(queries[-1, 0], keys[-1, 0], scale, self.eos)))

    def _on_grid(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(len(tokens), *grid_of(tokens.shape[-1], self.latent))

    def take(self) -> tuple[Tensor, Tensor]:
        """The structure and the content prior that were read since the last call, both (N, h, w).

        On the finest grid among them; ones stand for a prior that is not read.
        """
        read = [*self._structure, *self._content]
        grid = max(((one.shape[1], one.shape[2]) for one in read), default=self.latent, key=prod)
        nothing = [torch.ones(len(self.eos), *grid, device=self.eos.device)]
        structure, content = (
            torch.stack([resized(one, grid) for one in maps or nothing]).mean(0)
            for maps in (self._structure, self._content)
        )
        self._structure, self._content = [], []
        return structure, content

    def renew(self) -> Tensor:
        """Make the mask of what was read since the last call, use it from now on and return it, (N, h, w).

        Without blending it is zero everywhere, and not used.
        """
        structure, content = self.take()
        if self.options.priors == "none":
            return torch.zeros_like(structure)
        flat = soft_mask(
            structure.flatten(1), content.flatten(1), priors=self.options.priors, polarity=self.options.polarity
        )
        self.soft, self._resized = flat.reshape(structure.shape), {}
        return self.soft

    def blend(self, outputs: Tensor) -> Tensor:
        """Eq. 1 and 2 on attention outputs (halves, streams, N, M, C), if there is a mask."""
        if self.soft is None or self.alone:
            return outputs
        grid = grid_of(outputs.shape[-2], self.latent)
        if grid not in self._resized:
            self._resized[grid] = resized(self.soft, grid).flatten(1)
        return blended_outputs(outputs, self._resized[grid], self.options.decision, self.options.order)


class FusionProcessor:
    """An attention processor of diffusers for the transformer blocks of a UNet; see the module.

    Args:
        fusion: what all processors of the network share.
        own: the foreground's weights, by ``to_q.weight`` and so on; what is not there is the network's.
        reads: whether a prior is read here.
    """

    def __init__(self, fusion: Fusion, own: Mapping[str, Tensor], reads: bool) -> None:
        self.fusion, self.own, self.reads = fusion, own, reads

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **others: object,
    ) -> Tensor:
        """Attend, (rows, M, C) to (rows, M, C); masked keys, which no text of SDXL has, are not looked at."""
        fusion, is_self = self.fusion, encoder_hidden_states is None
        x = fusion.by_stream(hidden_states)
        context = x if encoder_hidden_states is None else fusion.by_stream(encoder_hidden_states)
        queries = _heads(self._projected(attn.to_q, "to_q", x), attn.heads)
        keys = _heads(self._projected(attn.to_k, "to_k", context), attn.heads)
        values = _heads(self._projected(attn.to_v, "to_v", context), attn.heads)
        if self.reads and fusion.reads_now:
            (fusion.note_structure if is_self else fusion.note_content)(queries, keys, attn.scale)
        attended = shared_attention(queries, keys, values, attn.scale, fusion.options.sharing)
        outputs = self._projected(attn.to_out[0], "to_out.0", attended.transpose(-3, -2).flatten(-2))
        return fusion.blend(outputs).flatten(0, 2)

    def _projected(self, layer: nn.Linear, name: str, x: Tensor) -> Tensor:
        """A linear layer on (halves, streams, …), the first stream by weights of its own where there are some."""
        weight, bias = self.own.get(f"{name}.weight", layer.weight), self.own.get(f"{name}.bias", layer.bias)
        if weight is layer.weight and bias is layer.bias:
            projected: Tensor = layer(x)
            return projected
        return torch.cat([functional.linear(x[:, :1], weight, bias), layer(x[:, 1:])], 1)


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-3, -2)


# ---- the network


def foreground_weights(unet: nn.Module, offsets: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The foreground's own weights, the network's plus the offsets, by their names in its state dict.

    Args:
        unet: of diffusers, best still in float32.
        offsets: as LayerDiffuse's ``ld_diffusers_sdxl_attn.safetensors`` has them.
        path: of their file, for errors.

    Raises:
        UsageError: the network has no weight of a name, or one of another shape, or it is none of an attention.
    """
    check_tensors(path, offsets, unet, some=True)
    others = [name for name in offsets if not _PROJECTION.fullmatch(name)]
    if others:
        raise UsageError(
            f"{path}: expected offsets of attention projections (attn1 or attn2; to_q, to_k, to_v, to_out.0) alone, "
            f"got {', '.join(others[:8])}; a foreground that differs elsewhere needs a network of its own"
        )
    weights = unet.state_dict()
    return {name: weights[name] + offset for name, offset in offsets.items()}


def fuse(unet: Any, options: FusionOptions, own: Mapping[str, Tensor]) -> Fusion:
    """Give a network the processors that blend three streams, and return what they share.

    Args:
        unet: ``UNet2DConditionModel`` whose attentions all stand in transformer blocks, as SDXL's.
        options: how masks are made and used.
        own: :func:`foreground_weights`; they are moved to the network's device and type.

    Raises:
        UsageError: the network has other attentions as well.
    """
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    others = [name for name in names if not name.endswith((".attn1", ".attn2"))]
    if others or not names:
        raise UsageError(
            f"expected a UNet with attention in transformer blocks alone, as SDXL's, got {others or names}"
        )
    fusion, readers = Fusion(options), _readers(names, last_self_attention(unet), options)
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for name, weight in own.items():
        if found := _PROJECTION.fullmatch(name):
            parts[found["attention"]][found["part"]] = weight.to(unet.device, unet.dtype)
    unet.set_attn_processor(
        {f"{name}.processor": FusionProcessor(fusion, parts[name], name in readers) for name in names}
    )
    return fusion


def _readers(names: list[str], last: str, options: FusionOptions) -> set[str]:
    """The attentions that priors are read off."""
    crosses = {name for name in names if name.endswith(".attn2")}
    if options.content == "block":
        crosses &= {last.removesuffix(".attn1") + ".attn2"}
    structure, content = options.priors in ("both", "self"), options.priors in ("both", "cross")
    return ({last} if structure else set()) | (crosses if content else set())


def last_self_attention(unet: Any) -> str:
    """The name of the self-attention that runs last; ``attn_processors`` lists the middle's last, as registered."""
    return [name for name in execution_order(unet) if name.endswith(".attn1")][-1]


def execution_order(unet: Any) -> list[str]:
    """Names of the attentions as they run, found by a pass of a twin of the network without weights."""
    with torch.device("meta"):
        twin = type(unet).from_config(unet.config)
        ran: list[str] = []
        for name, module in twin.named_modules():
            if name.endswith((".attn1", ".attn2")):
                module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        config, side = twin.config, 2 ** len(twin.config.block_out_channels)
        latent, text = torch.zeros(1, config.in_channels, side, side), torch.zeros(1, 2, config.cross_attention_dim)
        twin(latent, torch.zeros(()), text, added_cond_kwargs=_nothing_added(config))
    return ran


def _nothing_added(config: Any) -> dict[str, Tensor]:
    """The conditions that SDXL takes beside its text: one pooled text, six numbers of the picture's size."""
    if config.addition_embed_type != "text_time":
        return {}
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}

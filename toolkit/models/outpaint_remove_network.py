"""The network of Outpaint-and-Remove (arXiv 2511.20996): FLUX.1-Fill, frozen, adapted to paint two layers at once.

Two streams of N tokens, the background and the foreground, each concatenated on its channels out of noisy latent,
masked picture, mask and fused context; LoRA in every attention and feed-forward layer; an input projection widened by
the context and trained whole. Before any training each stream computes what the base computes.
"""

from typing import Any, Literal

import torch
from peft import LoraConfig
from torch import Tensor, nn

from .bases import factor_of
from .context_fusion import ContextFusion
from .flux_fill import FluxFill, pack, pack_mask, positions, unpack, velocities

Streams = Literal["joint", "batched"]

_ATTENTION = r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
_FEED_FORWARD = r"ff(_context)?\.net\.(0\.proj|2)"
_SINGLE = r"proj_mlp|proj_out"  # a single-stream block's feed-forward layer; its proj_out also ends the attention
ADAPTED = rf"(single_)?transformer_blocks\.\d+\.({_ATTENTION}|{_FEED_FORWARD}|{_SINGLE})"
"""Which linear layers get LoRA: all of every block but the modulation of its norms, which attends to nothing."""


class OutpaintRemoveNetwork(nn.Module):
    """Velocities of the background and the foreground, on a base that it takes over.

    What requires a gradient is LoRA, the input projection and the fusion, in float32; the base is frozen in its own
    dtype.

    Args:
        base: its transformer is changed in place.
        rank: of LoRA.
        alpha: LoRA adds alpha / rank times its product.
        streams: ``joint``: one sequence of 2 N tokens, whose first rotary coordinate is 0 in the background and 1 in
            the foreground; ``batched``: two items of a batch, which do not see each other. The paper does not say.
        fusion: of the pictures of context; None is without them.
    """

    prompt: Tensor
    pooled: Tensor

    def __init__(
        self,
        base: FluxFill,
        *,
        rank: int,
        alpha: int,
        streams: Streams = "joint",
        fusion: ContextFusion | None = None,
    ) -> None:
        super().__init__()
        self.transformer: Any = base.transformer.requires_grad_(False)
        self.fusion, self.streams = fusion, streams
        self.factor = factor_of(base.vae)
        with torch.device(base.prompt.device):
            self.transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=ADAPTED))
        context = 0 if fusion is None else 4 * base.vae.config.latent_channels
        # after the adapters, for they freeze whatever else there is
        self.transformer.x_embedder = _WidenedInput(self.transformer.x_embedder, context)
        self.transformer.register_to_config(in_channels=self.transformer.x_embedder.in_features)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.register_buffer("prompt", base.prompt, persistent=False)
        self.register_buffer("pooled", base.pooled, persistent=False)

    def forward(
        self, noisy: Tensor, views: Tensor, masks: Tensor, contexts: Tensor | None, levels: Tensor, guidance: float
    ) -> Tensor:
        """Predict the velocity, noise minus clean latent.

        Args:
            noisy: (B, 2, C, h, w), latents of the background and the foreground, h and w even.
            views: (B, 2, C, h, w), latents of the masked picture that each stream sees.
            masks: (B, 2, 1, H, W), what each stream is to paint, 0 or 1.
            contexts: (B, kinds, C, h, w), latents of the pictures of context; None where there is no fusion.
            levels: (B,), of noise, 0..1.
            guidance: what a base distilled by guidance is told; others are not.

        Returns:
            Shaped as ``noisy``, float32.

        Raises:
            ValueError: there are contexts without a fusion, or a fusion without contexts.
        """
        if (contexts is None) != (self.fusion is None):
            raise ValueError(f"expected contexts just where there is a fusion ({self.fusion is not None})")
        batch, _, _, height, width = noisy.shape
        parts = [pack(maps.flatten(0, 1)) for maps in (noisy, views)]
        parts.append(pack_mask(masks.flatten(0, 1), self.factor))
        if self.fusion is not None and contexts is not None:
            tokens = torch.unflatten(pack(contexts.flatten(0, 1)), 0, contexts.shape[:2])
            parts.append(self.fusion(tokens, height // 2, width // 2).repeat_interleave(2, 0))
        sequence = torch.cat(parts, 2)
        grids = [positions(height // 2, width // 2, stream, noisy.device) for stream in range(2)]
        if self.streams == "joint":
            velocity = self._run(sequence.reshape(batch, -1, sequence.shape[2]), torch.cat(grids), levels, guidance)
            velocity = velocity.reshape(2 * batch, -1, velocity.shape[2])
        else:
            velocity = self._run(sequence, grids[0], levels.repeat_interleave(2), guidance)
        return unpack(velocity, height, width).float().reshape(noisy.shape)

    def _run(self, sequence: Tensor, places: Tensor, levels: Tensor, guidance: float) -> Tensor:
        return velocities(self.transformer, sequence, places, self.prompt, self.pooled, levels, guidance)


class _WidenedInput(nn.Linear):
    """The base's input projection with more channels, whose columns begin at zero; float32, out in the base's dtype.

    The old and the new channels are multiplied apart: one product over all of them would round otherwise.
    """

    def __init__(self, plain: nn.Linear, more: int) -> None:
        super().__init__(plain.in_features + more, plain.out_features, device="meta")
        self.plain, self.out_dtype = plain.in_features, plain.weight.dtype
        self.weight = nn.Parameter(nn.functional.pad(plain.weight.detach().float(), (0, more)))
        self.bias = nn.Parameter(plain.bias.detach().float().clone())

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.to(self.weight.dtype)
        hidden = nn.functional.linear(tokens[..., : self.plain], self.weight[:, : self.plain], self.bias)
        if tokens.shape[-1] > self.plain:
            hidden = hidden + nn.functional.linear(tokens[..., self.plain :], self.weight[:, self.plain :])
        return hidden.to(self.out_dtype)

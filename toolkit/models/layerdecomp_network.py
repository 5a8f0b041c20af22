"""The network of LayerDecomp (Yang et al. 2024, arXiv 2411.17864, section 3.1): one plain DiT over four token maps.

The latents of [background | foreground | image | mask] are cut into patches by one embedding, told apart by a learnt
vector a map and placed by a position embedding that all maps share; the blocks attend over the joint sequence, and the
noise is read off where the background and the foreground stand. Modules are named as in ``DiTTransformer2DModel`` of
diffusers, so that its weights fit. There is no text.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import PatchEmbed
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import silu

from ...manifests.errors import UsageError

Schedule = Literal["scaled_linear", "linear"]
Prediction = Literal["epsilon", "velocity"]

_CONDITIONS = 2  # image, mask
_TYPE_DEVIATION = 0.02
_CONTENT = 0.5  # what a token shows begins at half its size, for its place to be seen beside it
_LIKENESS = 1.5  # variance of queries and keys


@dataclass(frozen=True, kw_only=True)
class LayerDecompConfig:
    """Sizes of a network; the default is that of DiT-XL/2, which the weights of that model initialise.

    The paper fine-tunes a text-to-image DiT of 5 B parameters whose sizes it does not give.

    Attributes:
        latent_channels: channels of every latent map.
        patch_size: latent pixels along a token's side.
        width: of a token; a multiple of ``heads`` and of 4.
        depth: transformer blocks.
        heads: attention heads a block.
        sample_size: latent pixels along the side trained on; other sizes run, with positions stretched to fit.
        foreground: whether there is a foreground map; without it the network only removes (ablation ``v0``).
        schedule: of the noise it is trained on: ``scaled_linear``, of the Stable Diffusion VAE's own models, or
            ``linear``, of DiT, whose last timesteps hold next to no signal. The paper does not say.
        prediction: what the network gives: ``epsilon``, the noise, as the paper has it; or ``velocity``,
            sqrt(alpha) noise - sqrt(1 - alpha) x0 (Salimans and Ho 2022), by which a small network from scratch learns
            within minutes what it otherwise learns late: under much noise the loss on the noise hardly sees x0.
        spacing: positions from one token to the next, 1 in DiT; with few tokens a side, more tells them apart sooner.
    """

    latent_channels: int = 4
    patch_size: int = 2
    width: int = 1152
    depth: int = 28
    heads: int = 16
    sample_size: int = 64
    foreground: bool = True
    schedule: Schedule = "scaled_linear"
    prediction: Prediction = "epsilon"
    spacing: float = 1.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise UsageError(f"width must be a multiple of heads ({self.heads}) and of 4, got {self.width}")
        for name, kind in (("schedule", Schedule), ("prediction", Prediction)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not self.spacing > 0:
            raise UsageError(f"spacing must be above 0, got {self.spacing}")

    def build(self) -> "LayerDecompTransformer":
        """A network of these sizes, from scratch; its output is zero until it is trained."""
        network: LayerDecompTransformer = LayerDecompTransformer(**asdict(self))
        return network


CONFIGS = {
    "debug": LayerDecompConfig(width=64, depth=2, heads=4, sample_size=8),
    "base": LayerDecompConfig(),
}
"""Sizes by name: ``debug`` trains in seconds on a CPU, ``base`` is for 512 px behind a VAE of factor 8."""


class LayerDecompTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as every model of diffusers
    """Noise, or velocity, of the background and the foreground from their noisy latents, the image's and the mask's.

    Made by :meth:`LayerDecompConfig.build`, saved and loaded by ``save_pretrained`` and ``from_pretrained``
    (``config.json`` and safetensors). ``enable_gradient_checkpointing()`` recomputes each block in the backward pass.

    Attributes:
        layers: 2, background and foreground; 1 without a foreground.
        schedule: name of the noise schedule it is trained on.
        prediction: what it gives, see :class:`LayerDecompConfig`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("BasicTransformerBlock",)  # type: ignore[assignment]  # what FSDP wraps

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        latent_channels: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        sample_size: int,
        foreground: bool,
        schedule: str,
        prediction: str,
        spacing: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gradient_checkpointing = False
        self.layers = 1 + foreground
        self.schedule, self.prediction = schedule, prediction
        self.channels, self.patch = latent_channels, patch_size
        self.pos_embed = PatchEmbed(  # type: ignore[no-untyped-call]
            sample_size, sample_size, patch_size, latent_channels, width, interpolation_scale=1 / spacing
        )
        with torch.no_grad():
            for parameter in self.pos_embed.parameters():
                parameter.mul_(_CONTENT)
        self.type_embed = nn.Parameter(_TYPE_DEVIATION * torch.randn(self.layers + _CONDITIONS, width))
        self.transformer_blocks = nn.ModuleList(_block(width, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.proj_out_1 = _zero(nn.Linear(width, 2 * width))
        self.proj_out_2 = _zero(nn.Linear(width, patch_size**2 * latent_channels))

    def forward(self, noisy: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """Predict the noise in ``noisy``, or its velocity.

        Args:
            noisy: (N, layers, C, h, w), the background's latent and the foreground's; h and w multiples of the patch.
            condition: (N, 2, C, h, w), the latents of the image and of the mask.
            timestep: (N,), integer.

        Returns:
            The prediction, shaped as ``noisy``.

        Raises:
            ValueError: the maps do not fit each other or the network.
        """
        maps = self._joined(noisy, condition)
        tokens = self.pos_embed(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        length = tokens.shape[2]
        tokens = (tokens + self.type_embed[:, None]).flatten(1, 2)
        no_class = torch.zeros_like(timestep, dtype=torch.long)
        for block in self.transformer_blocks:
            tokens = self._run(block, tokens, timestep, no_class)
        return self._noise(tokens[:, : self.layers * length], timestep, no_class, noisy)

    def _joined(self, noisy: Tensor, condition: Tensor) -> Tensor:
        patch, channels = self.patch, self.channels
        height, width = noisy.shape[-2:]
        expected = (len(noisy), self.layers, channels, height // patch * patch, width // patch * patch)
        if noisy.shape != expected or condition.shape != (len(noisy), _CONDITIONS, *noisy.shape[2:]):
            raise ValueError(
                f"expected noisy latents (N, {self.layers}, {channels}, h, w) with h and w multiples of {patch} and a "
                f"condition (N, {_CONDITIONS}, {channels}, h, w), got {tuple(noisy.shape)} and {tuple(condition.shape)}"
            )
        return torch.cat([noisy, condition], 1)

    def _run(self, block: nn.Module, tokens: Tensor, timestep: Tensor, no_class: Tensor) -> Tensor:
        arguments = (tokens, None, None, None, timestep, None, no_class)
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            recompute: Any = self._gradient_checkpointing_func
            result: Tensor = recompute(block, *arguments)
        else:
            result = block(*arguments)
        return result

    def _noise(self, tokens: Tensor, timestep: Tensor, no_class: Tensor, noisy: Tensor) -> Tensor:
        first: Any = self.transformer_blocks[0]
        embedding = first.norm1.emb(timestep, no_class, hidden_dtype=tokens.dtype)
        shift, scale = self.proj_out_1(silu(embedding))[:, None].chunk(2, dim=-1)
        patches = self.proj_out_2(self.norm_out(tokens) * (1 + scale) + shift)
        patch, (height, width) = self.patch, noisy.shape[-2:]
        patches = patches.reshape(len(noisy), self.layers, height // patch, width // patch, patch, patch, -1)
        return torch.einsum("nlhwpqc->nlchpwq", patches).reshape(noisy.shape)

    def init_from(self, transformer: nn.Module) -> None:
        """Take over all weights but the type embedding, which the other has not.

        Of the other's classes the null class is kept; of its output the noise, where it predicts variances as well.

        Args:
            transformer: a diffusers ``DiTTransformer2DModel`` with the same patches, channels, width, depth and heads.

        Raises:
            UsageError: it is another kind of network or of other sizes.
        """
        _require_fit(self, transformer)
        state = transformer.state_dict()
        for number in range(len(self.transformer_blocks)):
            classes = f"transformer_blocks.{number}.norm1.emb.class_embedder.embedding_table.weight"
            state[classes] = state[classes][-1:]
        for name in ("proj_out_2.weight", "proj_out_2.bias"):
            by_pixel = state[name].unflatten(0, (self.patch**2, -1))
            state[name] = by_pixel[:, : self.channels].flatten(0, 1)
        self.load_state_dict(state | {"type_embed": self.type_embed})


def _block(width: int, heads: int) -> BasicTransformerBlock:
    """A DiT block of one class, the null class; adaLN-zero: it passes its input on until it is trained.

    Queries and keys begin equal, as in mimetic initialisation (Trockman and Kolter 2023): a token first attends to what
    is like it, and so to its own place in the other maps, which it would find late otherwise.
    """
    block = BasicTransformerBlock(
        width,
        heads,
        width // heads,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=0,
        attention_bias=True,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    _zero(block.norm1.linear)
    nn.init.normal_(block.attn1.to_q.weight, std=(_LIKENESS / width) ** 0.5)
    block.attn1.to_k.load_state_dict(block.attn1.to_q.state_dict())
    return block


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _require_fit(network: LayerDecompTransformer, transformer: nn.Module) -> None:
    if not isinstance(transformer, DiTTransformer2DModel):
        raise UsageError(f"a DiTTransformer2DModel of diffusers fits, got {type(transformer).__name__}")
    ours: Any = network.config
    theirs: Any = transformer.config
    wanted = {
        "in_channels": ours.latent_channels,
        "patch_size": ours.patch_size,
        "num_layers": ours.depth,
        "num_attention_heads": ours.heads,
        "attention_head_dim": ours.width // ours.heads,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
    }
    wrong = [f"{name} {theirs[name]} instead of {value}" for name, value in wanted.items() if theirs[name] != value]
    if wrong:
        raise UsageError(f"the transformer does not fit: {', '.join(wrong)}; choose the network's sizes after it")

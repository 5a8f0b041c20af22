"""LayerDecomp on transformers of diffusers: begun from a DiT, or built around a FLUX or Stable Diffusion 3 transformer.

The paper (arXiv 2411.17864) fine-tunes a text-to-image transformer of 5 B parameters that is not published, and drops
its text. A DiT's weights fill our own network; the other two keep their own, see the four maps as one tall picture or
one long sequence with a learnt embedding a map behind their patch embedding, and get one token of zeros for the text.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...manifests.errors import UsageError
from ..diffusers_folders import find_folder, load_part
from .layerdecomp_network import LayerDecompConfig, LayerDecompTransformer

PUBLISHED = "facebook/DiT-XL-2-512"
"""The published DiT of ``LayerDecompConfig``'s default sizes."""

_TYPE_DEVIATION = 0.02
_CONDITIONS = 2  # image, mask
_KINDS = ("DiTTransformer2DModel", "FluxTransformer2DModel", "SD3Transformer2DModel")


class Backbone(nn.Module):
    """A transformer of diffusers as a network of LayerDecomp; called as ``LayerDecompTransformer`` is.

    Args:
        transformer: of FLUX or of Stable Diffusion 3; its embedding of patches is wrapped.
        config: ``foreground``, ``schedule`` and ``prediction`` are read.

    Attributes:
        layers: 2, background and foreground; 1 without a foreground.
        schedule: name of the noise schedule.
        prediction: what it gives.
        channels: of a latent map.
        patch: latent pixels along a token's side.
    """

    def __init__(self, transformer: Any, config: LayerDecompConfig) -> None:
        super().__init__()
        self.transformer = transformer
        self.layers = 1 + config.foreground
        self.schedule, self.prediction = config.schedule, config.prediction
        self.channels, self.patch = config.latent_channels, 2

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    def forward(self, noisy: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:
        """See :meth:`LayerDecompTransformer.forward`."""
        return self._noise(torch.cat([noisy, condition], 1), timestep)[:, : self.layers]

    def _noise(self, maps: Tensor, timestep: Tensor) -> Tensor:
        raise NotImplementedError

    def _no_text(self, maps: Tensor) -> dict[str, Tensor]:
        config = self.transformer.config
        return {
            "encoder_hidden_states": maps.new_zeros(len(maps), 1, config.joint_attention_dim),
            "pooled_projections": maps.new_zeros(len(maps), config.pooled_projection_dim),
        }


class _Typed(nn.Module):
    """The embedding of patches, and a learnt vector a map added to its tokens."""

    def __init__(self, embedding: nn.Module, maps: int, width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.types = nn.Parameter(_TYPE_DEVIATION * torch.randn(maps, width))

    def _add(self, tokens: Tensor) -> Tensor:
        maps = len(self.types)
        return (torch.unflatten(tokens, 1, (maps, -1)) + self.types[:, None]).flatten(1, 2)


class _TypedTokens(_Typed):
    """Of FLUX: (N, maps L, C) to (N, maps L, width)."""

    def forward(self, patches: Tensor) -> Tensor:
        return self._add(self.embedding(patches))


class _TypedMaps(_Typed):
    """Of Stable Diffusion 3: (N, C, maps h, w) to (N, maps L, width); every map has the same positions."""

    def forward(self, tall: Tensor) -> Tensor:
        maps = torch.unflatten(tall, 2, (len(self.types), -1)).transpose(1, 2)
        tokens: Tensor = self.embedding(maps.flatten(0, 1))
        return self._add(torch.unflatten(tokens, 0, maps.shape[:2]).flatten(1, 2))


class FluxBackbone(Backbone):
    """A ``FluxTransformer2DModel``; its rotary positions tell the maps apart as well, by their first coordinate."""

    def __init__(self, transformer: Any, config: LayerDecompConfig) -> None:
        super().__init__(transformer, config)
        transformer.x_embedder = _TypedTokens(transformer.x_embedder, self.layers + _CONDITIONS, transformer.inner_dim)

    def _noise(self, maps: Tensor, timestep: Tensor) -> Tensor:
        count, height, width = maps.shape[1], maps.shape[3] // 2, maps.shape[4] // 2
        patches = torch.unflatten(torch.unflatten(maps, 4, (width, 2)), 3, (height, 2))  # (N, maps, C, h, 2, w, 2)
        tokens = torch.einsum("nmchpwq->nmhwcpq", patches).flatten(4).flatten(1, 3)
        guided = self.transformer.config.guidance_embeds
        predicted = self.transformer(
            tokens,
            timestep=timestep.to(maps.dtype) / 1000,
            img_ids=_places(count, height, width, maps),
            txt_ids=maps.new_zeros(1, 3),
            guidance=maps.new_ones(len(maps)) if guided else None,
            return_dict=False,
            **self._no_text(maps),
        )[0]
        patches = predicted.reshape(len(maps), count, height, width, -1, 2, 2)
        return torch.einsum("nmhwcpq->nmchpwq", patches).reshape(maps.shape)


def _places(maps: int, height: int, width: int, like: Tensor) -> Tensor:
    """Map, row and column of every token, (maps height width, 3)."""
    return torch.cartesian_prod(*(torch.arange(length, device=like.device) for length in (maps, height, width))).to(
        like.dtype
    )


class Sd3Backbone(Backbone):
    """An ``SD3Transformer2DModel``."""

    def __init__(self, transformer: Any, config: LayerDecompConfig) -> None:
        super().__init__(transformer, config)
        self.patch = transformer.config.patch_size
        transformer.pos_embed = _TypedMaps(transformer.pos_embed, self.layers + _CONDITIONS, transformer.inner_dim)

    def _noise(self, maps: Tensor, timestep: Tensor) -> Tensor:
        count, height = maps.shape[1], maps.shape[3]
        tall = maps.transpose(1, 2).flatten(2, 3)
        predicted: Tensor = self.transformer(tall, timestep=timestep, return_dict=False, **self._no_text(maps))[0]
        return torch.unflatten(predicted, 2, (count, height)).transpose(1, 2)


_BACKBONES: dict[str, type[Backbone]] = {
    "FluxTransformer2DModel": FluxBackbone,
    "SD3Transformer2DModel": Sd3Backbone,
}


def sizes_of(base: str, network: LayerDecompConfig, *, meta: bool = False) -> tuple[LayerDecompConfig, str]:
    """What a run must know of its base, to be built without it: the network's sizes, and the JSON of a backbone.

    Args:
        base: folder or name in the hub cache.
        network: what the base does not decide is taken from it.
        meta: only sizes matter: those of :data:`PUBLISHED` are known without its weights.

    Raises:
        UsageError: the base is no transformer that fits.
        MissingWeights: it is not on this machine.
    """
    if meta and base == PUBLISHED:
        kept = {name: getattr(network, name) for name in ("foreground", "schedule", "prediction")}
        return LayerDecompConfig(**kept), ""
    config = _config(_folder(base))
    if config["_class_name"] == "DiTTransformer2DModel":
        heads = config["num_attention_heads"]
        sizes = {
            "latent_channels": config["in_channels"],
            "patch_size": config["patch_size"],
            "width": heads * config["attention_head_dim"],
            "depth": config["num_layers"],
            "heads": heads,
            "sample_size": config["sample_size"],
            "spacing": 1.0,
        }
        return replace(network, **sizes), ""
    channels = config["in_channels"] // (4 if config["_class_name"].startswith("Flux") else 1)
    return replace(network, latent_channels=channels), json.dumps(config, sort_keys=True)


def backbone_of(backbone: str, network: LayerDecompConfig) -> Backbone:
    """A backbone of random weights from the JSON of its configuration."""
    import diffusers

    config = json.loads(backbone)
    kind = config.pop("_class_name")
    return _BACKBONES[kind](getattr(diffusers, kind).from_config(config), network)


def filled_from(network: LayerDecompTransformer | Backbone, base: str) -> None:
    """Copy the weights of a base into a network of its sizes; what the base has not stays as it is.

    Raises:
        UsageError: it does not fit.
        MissingWeights: its safetensors are not complete.
    """
    folder = _folder(base)
    transformer = load_part(_config(folder)["_class_name"], folder)
    if isinstance(network, LayerDecompTransformer):
        network.init_from(transformer)
        return
    wrapped = "x_embedder." if isinstance(network, FluxBackbone) else "pos_embed."
    state = {
        name.replace(wrapped, f"{wrapped}embedding.") if name.startswith(wrapped) else name: tensor
        for name, tensor in transformer.state_dict().items()
    }
    network.transformer.load_state_dict(state, strict=False)


def _folder(base: str) -> Path:
    """The transformer of a pipeline, or the folder itself."""
    folder = find_folder(base)
    return folder / "transformer" if (folder / "transformer").is_dir() else folder


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--base: expected a transformer of diffusers, {path} cannot be read: {error}") from error
    if config.get("_class_name") not in _KINDS:
        raise UsageError(f"--base: expected one of {', '.join(_KINDS)}, got {config.get('_class_name')} in {path}")
    return {key: value for key, value in config.items() if not key.startswith("_") or key == "_class_name"}

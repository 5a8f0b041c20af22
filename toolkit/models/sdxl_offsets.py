"""Offsets that LayerDiffuse releases for SDXL's UNet, added to the weights of diffusers' network.

Those of the conditional models are named as the network's authors name its weights, and widen its first convolution.
"""

import re
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError

_LAYERS_A_LEVEL = 3


def add_offsets(network: Any, offsets: dict[str, Any], path: Path) -> None:
    """Add offsets to the weights of a network that have their names; the other weights stay.

    Args:
        network: a torch module.
        offsets: tensors of the weights' shapes, by name.
        path: of their file, for errors.

    Raises:
        UsageError: the network has no weight of a name, or one of another shape.
    """
    from .tensor_files import check_tensors

    check_tensors(path, offsets, network, some=True)
    weights = network.state_dict()
    for name, offset in offsets.items():
        weights[name] += offset


def widen(unet: Any, path: Path) -> None:
    """Widen a UNet's first convolution as the file asks, with zeros, and add the file's offsets to its weights.

    Raises:
        UsageError: the file cannot be read, or holds other tensors than the UNet has.
    """
    from .tensor_files import read_tensors

    widen_by(unet, read_tensors(path), path)


def widen_by(unet: Any, tensors: dict[str, Any], path: Path) -> None:
    """:func:`widen` by tensors named as in the released files; ``path`` is of their file, for errors.

    Raises:
        UsageError: they are others than the UNet has; names the first of them.
    """
    import torch

    offsets = {diffusers_name(name): offset for name, offset in tensors.items()}
    first, old = offsets.get("conv_in.weight"), unet.conv_in
    if first is None or first.ndim != 4:
        raise UsageError(f"expected offsets of a UNet's first convolution in {path}, found none; get the file again")
    kind: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    unet.conv_in = torch.nn.Conv2d(first.shape[1], old.out_channels, old.kernel_size, padding=old.padding, **kind)
    with torch.no_grad():
        unet.conv_in.weight.zero_()[:, : old.in_channels] = old.weight
        unet.conv_in.bias.copy_(old.bias)
    add_offsets(unet, offsets, path)


_ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "label_emb.0.0.": "add_embedding.linear_1.",
    "label_emb.0.2.": "add_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "middle_block.0.": "mid_block.resnets.0.",
    "middle_block.1.": "mid_block.attentions.0.",
    "middle_block.2.": "mid_block.resnets.1.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")


def diffusers_name(name: str) -> str:
    """What diffusers calls a weight of SDXL's UNet that the released files name as its authors do."""
    name = re.sub(r"::diff::\d+$", "", name).removeprefix("model.").removeprefix("diffusion_model.")
    for end, theirs in _ENDS.items():
        if name.startswith(end):
            return _resnet_name(theirs + name.removeprefix(end))
    if not (found := _BLOCK.fullmatch(name)):
        return name
    half, index, part, rest = found.groups()
    level, layer = divmod(int(index) - (half == "input"), _LAYERS_A_LEVEL)
    block = f"{'down' if half == 'input' else 'up'}_blocks.{level}"
    if rest.startswith("op."):
        return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if rest.startswith("conv."):
        return f"{block}.upsamplers.0.{rest}"
    return _resnet_name(f"{block}.{'attentions' if int(part) else 'resnets'}.{layer}.{rest}")


def _resnet_name(name: str) -> str:
    for old, new in _RESNET.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name

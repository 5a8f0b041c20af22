"""LPIPS (Zhang et al., CVPR 2018), version 0.1, by the lpips package with trunks from weights files.

Values of different nets are not interchangeable, nor are values at different resolutions.
"""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import locate
from .checks import U8, Bool, require_mask, require_pair
from .features import full_precision

if TYPE_CHECKING:
    import torch

TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}
"""Net of LPIPS to the name of its trunk's weights."""

LEAST_SIDE = 64
"""Pixels: the size of the patches that LPIPS was trained on."""


class Lpips:
    """LPIPS of pairs of 8-bit pictures; lower is better.

    A pair goes through the network alone, both pictures at once: a value does not depend on its neighbours.

    Args:
        net: the module that :func:`load_lpips` or :func:`lpips_net` gives.
        device: where it runs.
    """

    def __init__(self, net: Any, device: str = "cpu") -> None:
        import torch

        self.net = net.to(device=device, memory_format=torch.channels_last)
        self.device = device

    def __call__(self, preds: U8, target: U8) -> float:
        """The distance of two pictures, 8-bit (H, W, 3) of 64 px or more a side."""
        return float(sum(layer.mean() for layer in self._layers(preds, target)))

    def in_mask(self, preds: U8, target: U8, mask: Bool) -> float:
        """Mean over ``mask`` of the map that ``lpips`` calls spatial; NaN for an empty mask.

        A pixel of the map sees pixels outside the mask, as far as the network does; for a value blind to them paste the
        target back first (``regions.pasted``). Over a whole picture it is not the plain value to the last digits, as
        the layers' maps are enlarged before they are averaged.
        """
        require_mask(mask, target)
        if not mask.any():
            return math.nan
        from torch.nn.functional import interpolate

        layers = self._layers(preds, target)
        total: Any = sum(interpolate(layer, target.shape[:2], mode="bilinear") for layer in layers)
        return float(total[0, 0].cpu().numpy()[mask].mean(dtype=np.float64))

    def _layers(self, preds: U8, target: U8) -> list["torch.Tensor"]:
        """The weighted squared differences of each layer, (1, 1, h, w)."""
        require_pair(preds, target)
        if min(target.shape[:2]) < LEAST_SIDE:
            raise UsageError(f"LPIPS: expected pictures of at least {LEAST_SIDE} px a side, got {target.shape[:2]}")
        import lpips
        import torch

        with torch.inference_mode(), full_precision():
            pair = torch.from_numpy(np.stack([preds, target])).to(self.device).permute(0, 3, 1, 2)
            activations = self.net.net(self.net.scaling_layer(pair.float() / 127.5 - 1))
            units = [lpips.normalize_tensor(activation) for activation in activations]
            return [head((unit[:1] - unit[1:]).square_()) for head, unit in zip(self.net.lins, units, strict=True)]


def load_lpips(net: str = "alex", weights: Path | None = None, device: str = "cpu") -> Lpips:
    """LPIPS with its published heads and torchvision's trunk.

    Raises:
        UsageError: a net that is not in ``TRUNKS``, or a file of another sha256.
        MissingWeights: the trunk is not on this machine; says how to get it.
    """
    if net not in TRUNKS:
        raise UsageError(f"expected a net of LPIPS ({', '.join(TRUNKS)}), got {net!r}")
    import torch

    state = torch.load(locate(TRUNKS[net], weights), map_location="cpu", weights_only=True)
    return Lpips(lpips_net(net, state), device)


def lpips_net(net: str, trunk: dict[str, Any] | None = None) -> Any:
    """The lpips package's module with published heads; its trunk from a torchvision state dict, random where None."""
    import lpips

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # lpips still says pretrained=False
        module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    if trunk is not None:
        features = {name.removeprefix("features."): value for name, value in trunk.items() if "features." in name}
        # lpips keeps torchvision's layer numbers inside its slices.
        module.net.load_state_dict({name: features[name.partition(".")[2]] for name in module.net.state_dict()})
    return module

"""Feature vectors of pictures for FID, KID and the IDS: a resize and a network, both by name.

The three libraries that papers use resize differently, and the same pictures then score apart by a third: a value is
only comparable with values of the same resize.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from .checks import U8, require_picture

if TYPE_CHECKING:
    import torch

    from .inception import Network

SIDE = 299
"""Pixels a side that Inception takes."""


class Recipe(NamedTuple):
    """How feature vectors are made: which network's weights, which resize, and which of its layers by width."""

    network: str
    resize: str
    width: int


RECIPES: dict[str, Recipe] = {
    "clean-fid": Recipe("inception-torchscript", "clean-fid", 2048),
    "torch-fidelity": Recipe("inception-fid", "torch-fidelity", 2048),
    "torchmetrics": Recipe("inception-fid", "torchmetrics", 2048),
    "first-pool": Recipe("inception-fid", "clean-fid", 64),
    "asuka": Recipe("inception-imagenet", "torchvision", 2048),
}
"""The variants of FID, KID and the IDS; CLIP-FID takes its vectors from :class:`~.clip.Clip`."""


class InceptionFeatures:
    """Maps 8-bit pictures to feature vectors.

    Args:
        network: from ``inception``, published or random.
        resize: a name of ``RESIZES``.
        width: which layer, by the length of its vectors.
        device: where the network runs.
        batch: pictures that go through it at once; the values do not depend on it but for rounding.

    Raises:
        UsageError: another resize.
    """

    def __init__(self, network: "Network", resize: str, width: int = 2048, device: str = "cpu", batch: int = 8) -> None:
        if resize not in RESIZES:
            raise UsageError(f"expected a resize ({', '.join(RESIZES)}), got {resize!r}")
        self.network: Any = network.to(device) if hasattr(network, "to") else network
        self.resize, self.width, self.device, self.batch = RESIZES[resize], width, device, batch

    def __call__(self, pictures: Sequence[U8]) -> NDArray[np.float32]:
        """(n, width) float32 of n pictures, 8-bit (H, W, 3), of any sizes.

        Raises:
            UsageError: something else than such a picture.
        """
        for number, picture in enumerate(pictures):
            require_picture(picture, f"picture {number}")
        chunks = [self._features(pictures[low : low + self.batch]) for low in range(0, len(pictures), self.batch)]
        return np.concatenate(chunks) if chunks else np.empty((0, self.width), np.float32)

    def _features(self, pictures: Sequence[U8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode(), full_precision():
            small = torch.cat([self.resize(_tensor(picture, self.device)) for picture in pictures])
            features = self.network(small.contiguous(memory_format=torch.channels_last))
            vectors: NDArray[np.float32] = features[self.width].float().cpu().numpy()
        return vectors


def load_features(
    variant: str, weights: Path | None = None, device: str = "cpu", batch: int | None = None
) -> InceptionFeatures:
    """The extractor of a variant in ``RECIPES``, with published weights.

    Raises:
        UsageError: another variant, or a file of another sha256.
        MissingWeights: the weights are not on this machine; says how to get them.
    """
    if variant not in RECIPES:
        raise UsageError(f"expected features ({', '.join(RECIPES)}), got {variant!r}")
    from .inception import load_inception

    recipe = RECIPES[variant]
    network = load_inception(recipe.network, weights)
    return InceptionFeatures(network, recipe.resize, recipe.width, device, batch or (8 if device == "cpu" else 64))


def _tensor(picture: U8, device: str) -> "torch.Tensor":
    """(1, 3, H, W) float32 in 0..255."""
    import torch

    return torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1)[None].float()


def full_precision() -> Any:
    """A context without TF32 and with deterministic algorithms: scores then do not change from one GPU to another."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _clean(picture: "torch.Tensor") -> "torch.Tensor":
    """clean-fid's: PIL bicubic with antialiasing on floats, to 0.004 of a level; not rounded."""
    from torch.nn.functional import interpolate

    return interpolate(picture, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)


def _antialiased_bilinear(picture: "torch.Tensor") -> "torch.Tensor":
    """As torchmetrics does by default."""
    from torch.nn.functional import interpolate

    return interpolate(picture, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def _tensorflow(picture: "torch.Tensor") -> "torch.Tensor":
    """torch-fidelity's: bilinear of TensorFlow 1, whose grid begins at the corner; aliases."""
    return _lerped(_lerped(picture, 3), 2)


def _lerped(picture: "torch.Tensor", axis: int) -> "torch.Tensor":
    import torch

    size = picture.shape[axis]
    place = torch.arange(SIDE, dtype=torch.float32, device=picture.device) * torch.tensor(size / SIDE)
    low = place.long()
    part = (place - low).view([-1 if dimension == axis else 1 for dimension in range(4)])
    first, second = (picture.index_select(axis, index) for index in (low, (low + 1).clamp_max(size - 1)))
    lerped: torch.Tensor = first + (second - first) * part
    return lerped


def _torchvision(picture: "torch.Tensor") -> "torch.Tensor":
    """The preprocessing of torchvision's weights: shorter side 342 by antialiased bilinear of 8 bits, centre 299 px."""
    from torchvision.transforms import functional

    resized = functional.resize(picture.byte(), 342, functional.InterpolationMode.BILINEAR, antialias=True)
    cropped: torch.Tensor = functional.center_crop(resized, SIDE)
    return cropped.float()


RESIZES: dict[str, Callable[["torch.Tensor"], "torch.Tensor"]] = {
    "clean-fid": _clean,
    "torch-fidelity": _tensorflow,
    "torchmetrics": _antialiased_bilinear,
    "torchvision": _torchvision,
}

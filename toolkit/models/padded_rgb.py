"""LayerDiffuse's padding of colour under transparency for batches of tensors, on the device that they are on.

``transparent_vae.pad_rgb`` is the released form, for pictures; both give the same, up to rounding. Written as gathers
and products, which autocast leaves in float32 and the meta device knows.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

# The released pyramid shrinks by this factor a level: narrow enough steps to act as one Gaussian of every width.
SHRINK = 1.2

# Under a shrinking by two at most, a pixel covers at most three of those before.
_COVERED = 3


@torch.no_grad()
def pad_batch(rgba: Tensor) -> Tensor:
    """Fill the colour under transparency with smooth surroundings.

    Args:
        rgba: float32 (N, 4, H, W) in 0..1, straight alpha.

    Returns:
        (N, 3, H, W) in 0..1; the picture's own colour where it is opaque, black where nothing is visible at all.
    """
    layer = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    pyramid = [layer]
    while min(layer.shape[2:]) > 1:
        for axis in (2, 3):
            layer = _averaged(layer, axis, int(layer.shape[axis] / SHRINK))
        pyramid.append(layer)
    total = layer.sum((2, 3), keepdim=True)
    filled = total[:, :3] / total[:, 3:].clamp(min=1e-8)
    for layer in reversed(pyramid):
        filled = interpolate(filled, size=layer.shape[2:], mode="bilinear")
        filled = layer[:, :3] + filled * (1 - layer[:, 3:])
    return filled


def _averaged(pictures: Tensor, axis: int, length: int) -> Tensor:
    """Shrink an axis to ``length``: each pixel is the mean of those that it covers, by the share that it covers."""
    before = pictures.shape[axis]
    step = before / length
    starts = torch.arange(length, dtype=torch.float64, device="cpu") * step
    shape = [-1 if k == axis else 1 for k in range(pictures.ndim)]
    parts = []
    for k in range(_COVERED):
        at = starts.floor() + k
        share = (torch.minimum(starts + step, at + 1) - torch.maximum(starts, at)).clamp(min=0) / step
        index = at.long().clamp(max=before - 1).to(pictures.device)
        parts.append(pictures.index_select(axis, index) * share.float().to(pictures.device).view(shape))
    return torch.stack(parts).sum(0)

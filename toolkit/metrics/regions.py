"""Which pixels a picture metric is taken over, by the names that suites and reports use."""

import math
from collections.abc import Callable

import numpy as np

from ...manifests.errors import UsageError
from ..matte import Box, bounding_box
from .checks import U8, Bool, require_mask, require_pair

REGIONS: dict[str, str] = {
    "whole": "every pixel",
    "mask": "the removed or extracted object",
    "outside": "every pixel outside the mask: what a model had to leave alone",
    "shadow": "the shadow, without the object that casts it",
    "box": "the bounding box of the mask, cut out (SmartEraser's LPIPS and SSIM)",
    "composed": "every pixel of the layers put together, rather than of the background",
    "foreground": "every pixel of the foreground, on grey",
    "composite": "every pixel, the target pasted back outside the mask (ASUKA's LPIPS)",
}


def region_mask(region: str, mask: Bool, shadow: Bool | None = None) -> Bool | None:
    """The pixels of ``whole`` (None), ``mask``, ``outside`` or ``shadow``, as bool (H, W).

    Args:
        region: one of these four names.
        mask: the object, bool (H, W).
        shadow: where its shadow falls, bool (H, W); needed for ``shadow`` alone.

    Raises:
        UsageError: another region, no shadow where one is needed, or sizes that differ.
    """
    if region == "shadow" and shadow is None:
        raise UsageError("region shadow: expected a shadow mask, got none; choose another region for this sample")
    if shadow is not None:
        require_mask(shadow, mask, "shadow")
    masks: dict[str, Callable[[], Bool | None]] = {
        "whole": lambda: None,
        "mask": lambda: mask,
        "outside": lambda: ~mask,
        "shadow": lambda: shadow & ~mask if shadow is not None else None,
    }
    if region not in masks:
        raise UsageError(f"expected a region given by a mask ({', '.join(masks)}), got {region!r}")
    return masks[region]()


def pasted(preds: U8, target: U8, mask: Bool) -> U8:
    """``preds`` inside the mask, ``target`` outside it: the paste-back of removers, and the region ``composite``."""
    require_pair(preds, target)
    require_mask(mask, target)
    return np.where(mask[..., None], preds, target)


def crop_box(mask: Bool, least: int = 64) -> Box | None:
    """The mask's bounding box, grown evenly to ``least`` px a side where the picture allows; None for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        return None
    top, bottom = _grown(box.top, box.bottom, least, mask.shape[0])
    left, right = _grown(box.left, box.right, least, mask.shape[1])
    return Box(top, left, bottom, right)


def _grown(low: int, high: int, least: int, size: int) -> tuple[int, int]:
    missing = max(0, least - (high - low))
    low = max(0, min(low - math.ceil(missing / 2), size - max(least, high - low)))
    return low, min(size, max(high, low + least))

"""The door of every metric: pictures, mattes, regions and feature tables of the right type, range and size."""

from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Anything = NDArray[Any]


def require_picture(picture: Anything, name: str, channels: int = 3) -> None:
    """Raise UsageError unless ``picture`` is uint8 (H, W, ``channels``), 0..255."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != channels or not picture.size:
        raise UsageError(
            f"{name}: expected uint8 of shape (H, W, {channels}) in 0..255, got {_described(picture)}; "
            "round floats to 8 bits first and flatten alpha on a declared colour"
        )


def require_pair(preds: Anything, target: Anything, channels: int = 3) -> None:
    """Raise UsageError unless both are pictures (see :func:`require_picture`) of one size."""
    require_picture(preds, "preds", channels)
    require_picture(target, "target", channels)
    require_same_size(preds, target, "preds", "target")


def require_mattes(preds: Anything, target: Anything) -> None:
    """Raise UsageError unless both are uint8 (H, W) of one size."""
    for matte, name in ((preds, "preds"), (target, "target")):
        if matte.dtype != np.uint8 or matte.ndim != 2 or not matte.size:
            raise UsageError(f"{name}: expected a matte, uint8 of shape (H, W) in 0..255, got {_described(matte)}")
    require_same_size(preds, target, "preds", "target")


def require_mask(mask: Anything, beside: Anything, name: str = "mask") -> None:
    """Raise UsageError unless ``mask`` is bool (H, W) of the size of ``beside``."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise UsageError(f"{name}: expected bool of shape (H, W), got {_described(mask)}; threshold it first")
    require_same_size(mask, beside, name, "picture")


def require_same_size(first: Anything, second: Anything, name: str, other: str) -> None:
    """Raise UsageError unless heights and widths agree."""
    if first.shape[:2] != second.shape[:2]:
        raise UsageError(
            f"expected {name} and {other} of one size, got {first.shape[:2]} and {second.shape[:2]}; "
            "resize by the suite's rule first"
        )


def require_features(preds: Anything, target: Anything) -> tuple[Float, Float]:
    """Return both feature tables as float64; UsageError unless finite, (n, d) and (m, d), with n and m of 2 or more."""
    for table, name in ((preds, "preds"), (target, "target")):
        if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
            raise UsageError(f"{name}: expected finite features of shape (2 or more, d), got {_described(table)}")
    if preds.shape[1] != target.shape[1]:
        raise UsageError(
            f"expected features of one network on both sides, got {preds.shape[1]} and {target.shape[1]} dimensions"
        )
    return preds.astype(np.float64), target.astype(np.float64)


def require_paired(first: Sized, second: Sized) -> None:
    """Raise UsageError unless both hold as many samples, so that entry i of both is the same sample."""
    if len(first) != len(second):
        raise UsageError(
            f"expected as many samples on both sides, in the same order, got {len(first)} and {len(second)}"
        )


def _described(array: Anything) -> str:
    if array.size and array.dtype.kind in "fiu":
        return f"{array.dtype} of shape {array.shape} in {array.min():g}..{array.max():g}"
    return f"{array.dtype} of shape {array.shape}"

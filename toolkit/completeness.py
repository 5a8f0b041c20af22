"""Whether an object is whole, or hidden by something in front of it or cut off.

LayerDecomp (Yang et al. 2024, sec. 4) orders segmented entities by depth and drops those that are not complete, as
Text2Layer (Zhang et al. 2023) drops them. Here each is a score of the object's outline, counted
in pixels, 1 = whole, to be thresholded.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]
Indices = NDArray[np.int64]
Points = tuple[Indices, Indices]


def by_depth(mask: Bool, depth: Float, margin: float = 0.05) -> float:
    """Share of the object's outline with nothing nearer right outside, the picture's border counted as hidden.

    Depth is compared across the outline, along its normal: the median of three points inside with that of three points
    outside, up to 1 % of the picture's longer side away, as far as a depth network blurs an edge. It sees neither an
    occluder as near as the object nor one far off, where inverse depth hardly changes.

    Args:
        mask: (H, W), the object.
        depth: (H, W), relative inverse depth in 0..1, 1 = nearest, as of ``depth``.
        margin: what the outside may be nearer by; the ground before an object's foot is a little nearer than the foot.

    Returns:
        0..1, 1 = whole; 0 for an empty mask.

    Raises:
        UsageError: the depth map is not of the mask's shape.

    """
    if depth.shape != mask.shape:
        raise UsageError(f"expected a depth map of the mask's shape {mask.shape}, got {depth.shape}")
    outline = _outline(mask)
    reach = max(2.0, max(mask.shape) / 100)
    down, right = _outward(mask, outline, reach)
    own = depth[outline]
    inside, outside = [], []
    for step in (reach / 3, reach * 2 / 3, reach):
        within = _moved(outline, -step * down, -step * right, mask.shape)
        inside.append(np.where(mask[within], depth[within], own))
        outside.append(depth[_moved(outline, step * down, step * right, mask.shape)])
    nearer = np.median(outside, axis=0) - np.median(inside, axis=0) > margin
    return _share(~(nearer | _on_border(outline, mask.shape)))


def by_geometry(mask: Bool) -> float:
    """Share of the object's outline that neither lies on the picture's border nor is dead straight along an axis.

    A crop or a box leaves long runs of outline in one row or column. A run counts from 0.4 times the square root of
    the object's area, and from what a disc of that area has at its top by digitisation: the sides of a book or a house
    in a photograph are that long, but seldom that straight, as a tilt of 1° breaks a run every 57 pixels. It does not
    see what is hidden by a curved or slanted occluder, and takes for cut off what really is a rectangle along the axes,
    such as a screen shot.

    Args:
        mask: (H, W), the object.

    Returns:
        0..1, 1 = whole; 0 for an empty mask.

    """
    side = float(np.sqrt(np.count_nonzero(mask)))
    least = max(0.4 * side, 3 * np.sqrt(side))
    padded = np.pad(mask, 1)
    straight = _long_runs(padded, least) | _long_runs(np.ascontiguousarray(padded.T), least).T
    outline = _outline(mask)
    return _share(~(straight[1:-1, 1:-1][outline] | _on_border(outline, mask.shape)))


def _outline(mask: Bool) -> Points:
    """Rows and columns of the object's pixels that have a neighbour outside it, or outside the picture."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    core = cv2.erode(mask.view(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    rows, columns = np.nonzero(mask & (core == 0))
    return rows, columns


def _outward(mask: Bool, at: Points, reach: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Unit normals (down, right) that point out of the object; 0 where it has no side, as on a line."""
    window = 2 * round(reach) + 1
    smooth = cv2.boxFilter(mask.view(np.uint8), cv2.CV_32F, (window, window), borderType=cv2.BORDER_REPLICATE)
    smooth = np.pad(smooth, 1, mode="edge")
    rows, columns = at
    down = smooth[rows, columns + 1] - smooth[rows + 2, columns + 1]
    right = smooth[rows + 1, columns] - smooth[rows + 1, columns + 2]
    length = np.maximum(np.hypot(down, right), 1e-6)
    return down / length, right / length


def _moved(at: Points, down: NDArray[Any], right: NDArray[Any], shape: tuple[int, ...]) -> Points:
    rows = np.clip(np.rint(at[0] + down), 0, shape[0] - 1).astype(np.int64)
    columns = np.clip(np.rint(at[1] + right), 0, shape[1] - 1).astype(np.int64)
    return rows, columns


def _on_border(at: Points, shape: tuple[int, ...]) -> Bool:
    rows, columns = at
    return np.isin(rows, (0, shape[0] - 1)) | np.isin(columns, (0, shape[1] - 1))


def _long_runs(padded: Bool, least: float) -> Bool:
    """Pixels at the upper or lower edge of a mask with an empty frame, in runs of at least ``least`` along a row."""
    found = np.zeros(padded.size, bool)
    for beyond in (padded[:-2], padded[2:]):
        edge = np.zeros_like(padded)
        edge[1:-1] = padded[1:-1] & ~beyond
        at = np.flatnonzero(edge)  # the frame keeps the runs of two rows apart
        runs = np.diff(np.r_[0, np.flatnonzero(np.diff(at) != 1) + 1, len(at)])
        found[at[np.repeat(runs >= least, runs)]] = True
    return found.reshape(padded.shape)


def _share(chosen: Bool) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0

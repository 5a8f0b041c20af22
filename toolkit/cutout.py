"""From a photograph and a hint where an object is, to the object's hard mask.

Hints ("seeds") are a box, outlines, or both; they come from a source's manifest or from a salient mask.
"""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .matte import Box, bounding_box, without_specks
from .saliency import salient_mask

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Outline = Sequence[float]
Method = Literal["grabcut", "threshold", "outline", "mask"]


def object_mask(
    image: U8, box: Box, *, method: Method, outlines: Sequence[Outline] = (), holes: Sequence[Outline] = ()
) -> Mask:
    """Mask of the object inside ``box``.

    Args:
        image: 8-bit RGB (H, W, 3).
        box: where the object lies.
        method: ``grabcut`` (Rother et al. 2004; the outlines, where given, only leave a thin band to decide),
            ``threshold`` (Otsu on the grey picture, for an object unlike its ground; holes are filled),
            ``outline`` (the outlines as they are; ``mask`` says the same of a mask file).
        outlines: polygons around the object, each flat x, y, x, y … in px.
        holes: polygons of what can be seen through the object.

    Returns:
        bool (H, W), specks dropped.
    """
    shape = image.shape[:2]
    drawn = _draw(outlines, shape) & ~_draw(holes, shape)
    if method == "outline":
        mask = drawn
    elif method == "threshold":
        mask = _threshold(image, box)
    else:
        mask = _grabcut(image, box, drawn if outlines else None)
    return without_specks(mask)


def resize_mask(mask: Mask, size: tuple[int, ...]) -> Mask:
    """A bool mask at another size (height, width), by nearest."""
    nearest = cv2.resize(mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(nearest > 0, bool)


def smoothed(mask: Mask, factor: float) -> Mask:
    """A mask that was enlarged ``factor`` times by nearest, without the steps that this made of its outline."""
    if factor <= 1:
        return mask
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.75 * factor)
    return np.asarray(soft > 0.5, bool)


def salient_object(image: U8, saliency: NDArray[np.floating[Any]]) -> Mask:
    """The object that a saliency map points at: GrabCut started from its salient region, the largest component.

    Args:
        image: 8-bit RGB (H, W, 3).
        saliency: (H, W), 0..1.

    Returns:
        bool (H, W); empty where nothing is salient.
    """
    salient = salient_mask(saliency)
    box = bounding_box(salient)
    if box is None or salient.all():
        return np.zeros(image.shape[:2], bool)
    labels = np.where(salient, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    rim = max(2, min(image.shape[:2]) // 50)
    labels[:rim], labels[-rim:], labels[:, :rim], labels[:, -rim:] = (cv2.GC_BGD,) * 4
    return without_specks(_solve(image, labels), share=0.5)


def _draw(outlines: Sequence[Outline], shape: tuple[int, ...]) -> Mask:
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        points = np.asarray(outline, np.float64).reshape(-1, 1, 2)
        cv2.fillPoly(canvas, [np.rint(points * 16).astype(np.int32)], 1, shift=4)
    return canvas > 0


def _threshold(image: U8, box: Box) -> Mask:
    grey = cv2.cvtColor(np.ascontiguousarray(image[box.slices]), cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    _, hard = cv2.threshold(smooth, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if hard[:, [0, -1]].mean() + hard[[0, -1]].mean() > 1:  # the box's border is ground, so its class is not the object
        hard = 1 - hard
    contours, _ = cv2.findContours(hard, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(hard)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    mask = np.zeros(image.shape[:2], bool)
    mask[box.slices] = cv2.morphologyEx(filled, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return mask


def _grabcut(image: U8, box: Box, drawn: Mask | None) -> Mask:
    labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    labels[box.slices] = cv2.GC_PR_FGD
    if drawn is not None:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        hard = drawn.astype(np.uint8)
        near, core = cv2.dilate(hard, kernel) > 0, cv2.erode(hard, kernel, borderValue=1) > 0
        labels = np.where(core, cv2.GC_FGD, np.where(near & (labels > 0), cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
        labels[drawn & ~core] = cv2.GC_PR_FGD
    return _solve(image, labels)


def _solve(image: U8, labels: U8, iterations: int = 5) -> Mask:
    if not np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() or not np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        return np.zeros(labels.shape, bool)  # one of its two colour models would be empty
    cv2.setRNGSeed(0)  # its k-means starts at random
    ground, figure = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, 0, 0)  # not read: the labels say where the object may be
    cv2.grabCut(np.ascontiguousarray(image), labels, whole, ground, figure, iterations, cv2.GC_INIT_WITH_MASK)
    mask: Mask = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    return mask

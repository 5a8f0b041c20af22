"""The files of a pair, decoded: pictures upright in 8-bit, masks bool with True on the object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ...manifests.pairs import File, MaskFile
from ...manifests.sources import rord
from .. import images
from ..cutout import resize_mask
from .cells import read_cell
from .holes import free_form, outside_crop

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def read_picture(file: File, *, alpha: bool = False, like: U8 | None = None) -> U8:
    """The pixels of a file, (H, W, 3), or (H, W, 4) with ``alpha``.

    Raises:
        BadImage: it cannot be read, or is not of the size of ``like``.
    """
    try:
        data = read_cell(file.path, *file.cell) if file.cell else images.read_bytes(file.path, file.span)
        picture = images.decode(data, alpha=alpha)
    except BadImage as error:
        raise BadImage(error.reason, f"{file.path}: {error.detail}") from error
    if like is not None and picture.shape[:2] != like.shape[:2]:
        expected, got = "x".join(map(str, like.shape[1::-1])), "x".join(map(str, picture.shape[1::-1]))
        raise BadImage("wrong_size", f"{file.path}: expected {expected} as its image has, got {got}")
    return picture


def read_mask(mask: MaskFile, like: U8 | None = None) -> Mask:
    """The object, at the mask's own size; a mask that is drawn is of the size of ``like``, or else of its picture.

    Raises:
        BadImage: the file cannot be read.
    """
    if mask.format in ("free-form", "outside-crop"):
        picture = read_picture(mask.file) if like is None else like
        height, width = picture.shape[:2]
        return free_form((height, width), mask.seed) if mask.format == "free-form" else outside_crop((height, width))
    if mask.of_alpha:
        return read_picture(mask.file, alpha=True)[..., 3] > 127
    if mask.format == "rord-label":
        return _draw(*rord.outlines(images.read_bytes(mask.file.path, mask.file.span)))
    white = np.asarray(cv2.cvtColor(read_picture(mask.file), cv2.COLOR_RGB2GRAY)) > mask.threshold
    return white if mask.white_is_object else ~white


def _draw(outlines: tuple[tuple[float, ...], ...], size: tuple[int, int]) -> Mask:
    """Polygons filled one by one on a canvas of ``size`` = (width, height)."""
    width, height = size
    if width * height > images.MAX_PIXELS:
        raise BadImage("too_large", f"expected a label of at most {images.MAX_PIXELS} pixels, got {width}x{height}")
    canvas = np.zeros((height, width), np.uint8)
    for outline in outlines:
        points = np.clip(np.rint(np.reshape(outline, (-1, 1, 2))), -width - height, width + height)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    return canvas > 0


def united(masks: list[Mask], shape: tuple[int, ...]) -> Mask:
    """Masks together; those of differing sizes at that of the image."""
    size = masks[0].shape if len({mask.shape for mask in masks}) == 1 else shape[:2]
    together: Mask = np.logical_or.reduce([resize_mask(mask, size) for mask in masks])
    return together


def check_polarity(mask: Mask) -> None:
    """A mask that covers half of a picture is taken to be the wrong way round.

    Raises:
        BadImage: ``mask_covers_half``.
    """
    covered = float(mask.mean())
    if covered >= 0.5:
        raise BadImage(
            "mask_covers_half",
            f"expected an object on less than half of the picture, got {covered:.1%} as the data set is described, "
            f"{1 - covered:.1%} the other way round",
        )

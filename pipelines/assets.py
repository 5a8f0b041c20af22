"""What is made of one picture: cut-outs as RGBA assets, photographs taken apart, backgrounds without their objects.

Each maker gives pixels (8-bit, by name) and facts (size, perceptual hash, scores); both go into one bundle of the
cache.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import Entry, Seed
from ..manifests.errors import BadImage
from ..toolkit import compose, cutout, images, inpaint, matte, mulan, quality, saliency, similarity
from .filters import all_scores
from .loaders import inpainter, saliency_model
from .recipe import CutOptions

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Made = tuple[dict[str, U8], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """An entry at work: its bytes, the object in question, and the options that apply.

    Attributes:
        entry: the entry.
        seed: the object, or None for the one that is salient (or for all, where all are removed).
        data: the picture's bytes.
        options: of cutting out.
        size: of the build's triplets, px.
        weights: folder of pre-trained weights, beside the hub cache.
        layer: which layer, of a picture that came in layers.
    """

    entry: Entry
    seed: Seed | None
    data: bytes
    options: CutOptions
    size: int
    weights: Path | None
    layer: int = 0

    def layered(self) -> tuple[mulan.LayeredPicture, U8]:
        """The layers of a MULAN annotation or of rendered files, and the picture that they came from."""
        if self.entry.base is not None:
            base = images.read(self.entry.base)
            return mulan.decode_annotation(self.data, base), base
        picture = mulan.read_rendered(mulan.rendered_files(self.entry.path))
        return picture, mulan.recompose_layers(picture)

    def picture(self) -> tuple[U8, float]:
        """The upright photograph, at most twice the build's size on its shorter side, and the factor that took."""
        picture = upright(images.decode(self.data), self.entry.rotation)
        factor = min(1.0, 2 * self.size / min(picture.shape[:2]))
        return compose.resize(picture, _scaled(picture.shape, factor)), factor

    def mask(self, picture: U8, factor: float, seed: Seed | None) -> Mask:
        """The object's hard mask on the picture."""
        if seed is None:
            return cutout.salient_object(picture, saliency_model(self.options.saliency, self.weights)(picture))
        if seed.mask is not None:
            return cutout.resize_mask(upright(read_mask(seed.mask), self.entry.rotation), picture.shape[:2])
        left, top, width, height = (round(v * factor) for v in seed.box)
        return cutout.object_mask(
            picture,
            matte.Box(top, left, top + height, left + width),
            method=seed.method,
            outlines=[[v * factor for v in outline] for outline in seed.outlines],
            holes=[[v * factor for v in hole] for hole in seed.holes],
        )

    def alpha(self, picture: U8, mask: Mask) -> U8:
        """The object's soft alpha."""
        if not mask.any():
            raise BadImage("no_object", f"no object was found in {self.entry.path}")
        return matte.clean_alpha(matte.refine(picture, mask, band=self.options.band, method=self.options.matting))

    def without(self, picture: U8, mask: Mask) -> tuple[U8, Mask]:
        """The picture with what ``mask`` covers gone, and the hole that was filled."""
        hole = inpaint.dilated(mask, max(3, round(self.options.dilate * min(picture.shape[:2]) / 512)))
        seed = int(
            hashlib.sha256(self.data).hexdigest()[:8], 16
        )  # of the picture, so that all recipes share the result
        return inpaint.inpaint(inpainter(self.options.inpainting, self.weights), picture, hole, seed=seed), hole

    def behind(self, picture: U8, mask: Mask) -> tuple[U8, Mask]:
        """What is behind the object: the source's own clean plate where it has one, else :meth:`without`."""
        if self.entry.base is None:
            return self.without(picture, mask)
        plate = upright(images.read(self.entry.base), self.entry.rotation)
        return compose.resize(plate, picture.shape[:2]), mask


Maker = Callable[[Photo], Made]


def upright(picture: NDArray[Any], rotation: int) -> NDArray[Any]:
    """The picture turned counter-clockwise by ``rotation`` degrees, a multiple of 90."""
    return np.ascontiguousarray(np.rot90(picture, rotation // 90)) if rotation else picture


def read_mask(path: Path) -> Mask:
    """A mask file, bright = object (above 127, so that JPEG masks serve too).

    Raises:
        BadImage: see :func:`layerkit.toolkit.images.read`.
    """
    return np.asarray(images.read(path).max(axis=-1) > 127, bool)


def rgba_asset(photo: Photo) -> Made:
    """A cut-out that came as one: alpha cleaned, truncated objects seen by their border."""
    picture = images.decode(photo.data, alpha=True)
    if picture[..., 3].min() == 255:
        raise BadImage("no_alpha", f"{photo.entry.path} is opaque everywhere: expected an RGBA cut-out")
    return _asset(picture[..., :3], matte.clean_alpha(picture[..., 3]), photo.size)


def photo_asset(photo: Photo) -> Made:
    """An object of a photograph: mask, matte, colour."""
    picture, factor = photo.picture()
    alpha = photo.alpha(picture, photo.mask(picture, factor, photo.seed))
    return _asset(matte.estimate_colour(picture, alpha), alpha, photo.size)


def _asset(colour: U8, alpha: U8, size: int) -> Made:
    """Crop to the object, no longer than the build's size, and measure."""
    box = matte.bounding_box(alpha)
    if box is None:
        raise BadImage("no_object", "the alpha is zero everywhere")
    crop = np.dstack([colour, alpha])[box.grown(1, alpha.shape).slices]
    rgba = compose.resize_rgba(crop, _scaled(crop.shape, min(1.0, size / max(crop.shape[:2]))))
    rgba[rgba[..., 3] == 0] = 0
    scores = {
        "side": max(rgba.shape[:2]),
        "border": matte.border_share(alpha > 127),
        "fragments": matte.fragments(rgba[..., 3] > 127),
        "haze": matte.haze(rgba[..., 3]),
        "sharpness": quality.sharpness(rgba[..., :3]),
    }
    return {"foreground": rgba}, facts(rgba, scores)


def cleared(photo: Photo) -> Made:
    """A photograph without any of its known objects; refused where one of them cannot be located, for it would stay."""
    picture, factor = photo.picture()
    mask = np.zeros(picture.shape[:2], bool)
    for seed in photo.entry.seeds:
        found = photo.mask(picture, factor, seed)
        if not found.any():
            raise BadImage(
                "object_not_located", f"object {seed.id!r} of {photo.entry.path} has no usable outline or mask"
            )
        mask |= found
    background, _ = photo.without(picture, mask)
    scores = {"side": min(picture.shape[:2]), "sharpness": quality.sharpness(background)}
    return {"background": background}, facts(background, scores)


def taken_apart(photo: Photo) -> Made:
    """A photograph taken apart: the object as RGBA, and what is behind it, inpainted."""
    picture, factor = photo.picture()
    alpha = photo.alpha(picture, photo.mask(picture, factor, photo.seed))
    foreground = np.dstack([matte.estimate_colour(picture, alpha), alpha])
    background, hole = photo.behind(picture, alpha > 0)
    model = saliency_model(photo.options.saliency, photo.weights)
    scores = {
        "side": min(picture.shape[:2]),
        "border": matte.border_share(alpha > 127),
        "haze": matte.haze(alpha),
        "sharpness": quality.sharpness(picture),
        "residual": saliency.residual(model(background), hole),
        "texture": inpaint.texture_ratio(background, hole),
    }
    return {"image": picture, "layer-00": foreground, "background": background}, facts(picture, scores)


def in_layers(photo: Photo) -> Made:
    """A picture that came in layers, at most twice the build's size on its shorter side; the facts of each layer."""
    picture, base = photo.layered()
    factor = min(1.0, 2 * photo.size / min(base.shape[:2]))
    size = _scaled(base.shape, factor)
    stack = [compose.resize_rgba(layer, size) for layer in picture.layers]
    pixels = {f"layer-{k:02d}": layer for k, layer in enumerate(stack)}
    pixels |= {"image": compose.resize(base, size), "background": compose.resize(picture.background, size)}
    told = zip(stack, picture.captions[1:], strict=True)
    return pixels, {"layers": [{"caption": caption, **_layer_facts(layer)} for layer, caption in told]}


def _layer_facts(layer: U8) -> dict[str, Any]:
    alpha = layer[..., 3]
    box = matte.bounding_box(alpha)
    crop = layer[box.slices] if box else layer
    scores = {
        "side": max(crop.shape[:2]) if box else 0,
        "border": matte.border_share(alpha > 127),
        "haze": matte.haze(alpha),
        "sharpness": quality.sharpness(crop[..., :3]),
    }
    return {**facts(crop, scores), "height": layer.shape[0], "width": layer.shape[1]}


def layer_asset(photo: Photo) -> Made:
    """One layer of a picture that came in layers, as an asset."""
    picture, _ = photo.layered()
    layer = picture.layers[photo.layer]
    return _asset(layer[..., :3], matte.clean_alpha(layer[..., 3]), photo.size)


def facts(picture: U8, scores: Mapping[str, float]) -> dict[str, Any]:
    """Size, perceptual hash and scores, as plain JSON types."""
    height, width = picture.shape[:2]
    phash = similarity.perceptual_hash(picture)
    return {"height": height, "width": width, "phash": phash, "scores": all_scores(scores)}


def _scaled(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))

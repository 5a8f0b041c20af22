"""What is made of one picture: cut-outs as RGBA assets, photographs taken apart, backgrounds without their objects.

Each maker gives pixels (8-bit, by name) and facts (size, perceptual hash, scores); both go into one bundle of the
cache.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import Entry, Seed
from ..manifests.errors import BadImage
from ..manifests.sources.zips import read_member
from ..toolkit import completeness, compose, cutout, images, inpaint, matte, mulan, quality, saliency, similarity
from .filters import all_scores
from .loaders import depth_model, inpainter, quality_judge, saliency_model
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
        """The layers of a procedural scene, a MULAN annotation or rendered files, and the picture that they make."""
        if self.entry.kind == "procedural":
            return _rendered(int(self.data), 2 * self.size)  # triplets are crops of it
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

    def mask(self, picture: U8, factor: float, seed: Seed) -> Mask:
        """The hard mask on the picture of an object that the source knows."""
        if seed.mask is not None:
            found = upright(read_mask(seed.mask, seed.mask_member), self.entry.rotation)
            return cutout.smoothed(cutout.resize_mask(found, picture.shape[:2]), picture.shape[0] / found.shape[0])
        left, top, width, height = (round(v * factor) for v in seed.box)
        return cutout.object_mask(
            picture,
            matte.Box(top, left, top + height, left + width),
            method=seed.method,
            outlines=[[v * factor for v in outline] for outline in seed.outlines],
            holes=[[v * factor for v in hole] for hole in seed.holes],
        )

    def cutout(self, picture: U8, factor: float) -> U8:
        """The object in question, straight RGBA as large as the picture.

        Raises:
            BadImage: ``no_object``.
        """
        if self.seed is None:
            salient = saliency_model(self.options.saliency, self.weights)(picture)
            mask, soft = self._salient(picture, salient), np.rint(salient * 255)
        else:
            mask, soft = self.mask(picture, factor, self.seed), np.full(picture.shape[:2], 255)
        if not mask.any():
            raise BadImage("no_object", f"no object was found in {self.entry.path}")
        if self.options.matting == "none":
            alpha = np.where(mask, soft, 0).astype(np.uint8)
            return np.dstack([picture * (alpha > 0)[..., None], alpha])
        alpha = matte.clean_alpha(matte.refine(picture, mask, band=self.options.band, method=self.options.matting))
        return np.dstack([matte.estimate_colour(picture, alpha), alpha])

    def _salient(self, picture: U8, saliency_map: NDArray[np.float32]) -> Mask:
        if self.options.mask == "saliency":
            return saliency.salient_mask(saliency_map, self.options.threshold)
        return cutout.salient_object(picture, saliency_map)

    def completeness(self, picture: U8, mask: Mask) -> float:
        """See :mod:`layerkit.toolkit.completeness`."""
        if self.options.depth == "none":
            return completeness.by_geometry(mask)
        return completeness.by_depth(mask, depth_model(self.options.depth, self.weights)(picture))

    def verdict(self, role: str, picture: U8, mask: Mask) -> float:
        """What the judge of a role says of a mask or of a filled hole."""
        name = self.options.mask_judge if role == "mask-quality" else self.options.inpaint_judge
        return quality_judge(role, name, self.weights)(picture, mask)

    def without(self, picture: U8, mask: Mask) -> tuple[U8, Mask]:
        """The picture with what ``mask`` covers gone, and the hole that was filled."""
        hole = inpaint.dilated(mask, max(3, round(self.options.dilate * min(picture.shape[:2]) / 512)))
        model = inpainter(self.options.inpainting, self.weights)
        return inpaint.inpaint(model, picture, hole, seed=seed_of_input(self.data)), hole

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


def read_mask(path: Path, member: str = "") -> Mask:
    """A mask file, or the member of a zip, bright = object (above 127, so that JPEG masks serve too).

    Raises:
        BadImage: see :func:`layerkit.toolkit.images.read`.
    """
    picture = images.decode(read_member(path, member)) if member else images.read(path)
    return np.asarray(picture.max(axis=-1) > 127, bool)


def rgba_asset(photo: Photo) -> Made:
    """A cut-out that came as one: alpha cleaned, truncated objects seen by their border."""
    picture = images.decode(photo.data, alpha=True)
    if picture[..., 3].min() == 255:
        raise BadImage("no_alpha", f"{photo.entry.path} is opaque everywhere: expected an RGBA cut-out")
    return asset_of(picture[..., :3], matte.clean_alpha(picture[..., 3]), photo.size, picture)


def photo_asset(photo: Photo) -> Made:
    """An object of a photograph: mask, matte, colour."""
    picture, factor = photo.picture()
    rgba = photo.cutout(picture, factor)
    mask = rgba[..., 3] > 127
    measured = {
        "completeness": photo.completeness(picture, mask),
        "mask_quality": photo.verdict("mask-quality", picture, mask),
    }
    return asset_of(rgba[..., :3], rgba[..., 3], photo.size, picture, measured)


def asset_of(colour: U8, alpha: U8, size: int, photo: U8, measured: Mapping[str, float] = MappingProxyType({})) -> Made:
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
        "completeness": completeness.by_geometry(alpha > 127),
        "sharpness": quality.sharpness(rgba[..., :3]),
        **measured,
    }
    return {"foreground": rgba}, facts(rgba, scores, photo)


def background_scores(picture: U8, model: saliency.SaliencyModel) -> dict[str, float]:
    """What a background is judged by, as it is."""
    return {
        "side": min(picture.shape[:2]),
        "salient": float(saliency.salient_mask(model(picture), 0.5).mean()),
        "sharpness": quality.sharpness(picture),
    }


def plain_background(photo: Photo) -> Made:
    """The measures of a photograph that is a background as it is: no pixels, for its own file has them."""
    picture = upright(images.decode(photo.data), photo.entry.rotation)
    model = saliency_model(photo.options.saliency, photo.weights)
    return {}, facts(picture, background_scores(picture, model), picture)


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
    scores = background_scores(background, saliency_model(photo.options.saliency, photo.weights))
    return {"background": background}, facts(background, scores, picture)


def taken_apart(photo: Photo) -> Made:
    """A photograph taken apart: the object as RGBA, and what is behind it, inpainted."""
    picture, factor = photo.picture()
    foreground = photo.cutout(picture, factor)
    background, hole = photo.behind(picture, foreground[..., 3] > 0)
    return apart(photo, picture, foreground, background, hole)


def apart(photo: Photo, picture: U8, foreground: U8, background: U8, hole: Mask) -> Made:
    """A picture that became two layers; ``hole`` is where its background was filled, or made up."""
    alpha = foreground[..., 3]
    model = saliency_model(photo.options.saliency, photo.weights)
    scores = {
        "side": min(picture.shape[:2]),
        "border": matte.border_share(alpha > 127),
        "haze": matte.haze(alpha),
        "completeness": photo.completeness(picture, alpha > 127),
        "mask_quality": photo.verdict("mask-quality", picture, alpha > 127),
        "inpaint_quality": photo.verdict("inpaint-quality", background, hole),
        "sharpness": quality.sharpness(picture),
        "residual": saliency.residual(model(background), hole),
        "texture": inpaint.texture_ratio(background, hole),
    }
    box = matte.bounding_box(alpha)
    told = facts(foreground[box.slices] if box else foreground, scores, picture)  # alike are objects, not photographs
    size = {"height": picture.shape[0], "width": picture.shape[1]}
    return {"image": picture, "layer-00": foreground, "background": background}, {**told, **size}


def in_layers(photo: Photo) -> Made:
    """A picture that came in layers, at most twice the build's size on its shorter side; the facts of each layer."""
    picture, base = photo.layered()
    factor = min(1.0, 2 * photo.size / min(base.shape[:2]))
    size = _scaled(base.shape, factor)
    stack = [compose.resize_rgba(layer, size) for layer in picture.layers]
    pixels = {f"layer-{k:02d}": layer for k, layer in enumerate(stack)}
    pixels |= {f"shadow-{k:02d}": compose.resize(shade, size) for k, shade in enumerate(picture.shadows)}
    pixels |= {"image": compose.resize(base, size), "background": compose.resize(picture.background, size)}
    told = zip(stack, picture.captions[1:], strict=True)
    return pixels, {"layers": [{"caption": caption, **_layer_facts(layer, base)} for layer, caption in told]}


def _layer_facts(layer: U8, base: U8) -> dict[str, Any]:
    alpha = layer[..., 3]
    box = matte.bounding_box(alpha)
    crop = layer[box.slices] if box else layer
    scores = {
        "side": max(crop.shape[:2]) if box else 0,
        "border": matte.border_share(alpha > 127),
        "haze": matte.haze(alpha),
        "completeness": completeness.by_geometry(alpha > 127),
        "sharpness": quality.sharpness(crop[..., :3]),
    }
    return {**facts(crop, scores, base), "height": layer.shape[0], "width": layer.shape[1]}


def rendered_background(photo: Photo) -> Made:
    """A procedural scene without its solids."""
    plate = photo.layered()[0].background
    scores = background_scores(plate, saliency_model(photo.options.saliency, photo.weights))
    return {"background": plate}, facts(plate, scores, plate)


@lru_cache(maxsize=1)
def _rendered(seed: int, size: int) -> tuple[mulan.LayeredPicture, U8]:
    """The scene of a seed; kept, for each of its solids is prepared apart."""
    from ..toolkit.procedural import scene as procedural  # torch, which no other source needs here

    return procedural.render([seed], size).layered(0)


def layer_asset(photo: Photo) -> Made:
    """One layer of a picture that came in layers, as an asset."""
    picture, base = photo.layered()
    layer = picture.layers[photo.layer]
    return asset_of(layer[..., :3], matte.clean_alpha(layer[..., 3]), photo.size, base)


def facts(picture: U8, scores: Mapping[str, float], photo: U8) -> dict[str, Any]:
    """Size, scores, and the perceptual hashes of the picture and of the photograph it comes from, as JSON types."""
    height, width = picture.shape[:2]
    hashes = {"phash": similarity.perceptual_hash(picture), "photo_phash": similarity.perceptual_hash(photo)}
    return {"height": height, "width": width, **hashes, "scores": all_scores(scores)}


def seed_of_input(data: bytes) -> int:
    """Of the input, so that all recipes share the result."""
    return int(hashlib.sha256(data).hexdigest()[:8], 16)


def _scaled(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))

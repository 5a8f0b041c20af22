"""Prepare what a source yields, once: cut-outs as RGBA assets, photographs taken apart, backgrounds measured.

Every outcome is a row, kept or dropped with its reason. Pixels go into the cache; rows carry the bundle's key.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import Entry, Seed, Use
from ..manifests.errors import BadImage
from ..manifests.licences import allowed
from ..toolkit import compose, cutout, images, inpaint, matte, quality, saliency, similarity
from .cache import Cache, bundle_key
from .filters import Drop, all_scores, judge
from .recipe import CutOptions, Mix, Recipe

U8 = NDArray[np.uint8]

_STEP = 3  # raised when a change here makes other pixels of the same input


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One usable thing (a foreground, a background, or a photograph taken apart), or why it is none.

    Attributes:
        use: ``foreground``, ``background`` or ``cut``.
        id: entry's id, and the object's where it has several.
        group: the entry's id: things of one group show the same photograph.
        source, path, licence, author, url, sha256: where it comes from.
        caption: what it shows.
        bundle: key of its pixels in the cache; empty for a background that is used as it is.
        height, width: px, as prepared.
        phash: perceptual hash.
        stance: of an object.
        ground: of a background.
        scores: what was measured.
        models: role to ``name@revision`` of what ran.
        drop: the reason for a refusal, or None.
    """

    use: Use
    id: str
    group: str
    source: str
    path: str
    licence: str
    author: str
    url: str
    sha256: str
    caption: str
    bundle: str = ""
    height: int = 0
    width: int = 0
    phash: int = 0
    stance: str = "standing"
    ground: float = 0.5
    scores: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    drop: Drop | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What a worker needs to prepare entries for one use in one mix: picklable."""

    recipe: Recipe
    mix: Mix
    use: Use
    cache: Path
    weights: Path | None

    def __call__(self, entries: list[Entry]) -> list[Prepared]:
        """Prepare a chunk of entries; every one gives at least one row."""
        return [row for entry in entries for row in self.rows(entry)]

    def rows(self, entry: Entry) -> Iterator[Prepared]:
        """The rows of one entry, judged."""
        blank = _blank(entry, self.use)
        if not allowed(entry.licence, self.recipe.allow_licence):
            yield replace(blank, drop=Drop("licence", detail=f"{entry.licence} is not among --allow-licence"))
            return
        try:
            data = images.read_bytes(entry.path)
            blank = replace(blank, sha256=hashlib.sha256(data).hexdigest())
            for row in self._prepare(entry, data, blank):
                yield replace(row, drop=row.drop or judge(row.scores, self.mix.filters))
        except BadImage as error:
            yield replace(blank, drop=Drop(error.reason, detail=error.detail))

    def _prepare(self, entry: Entry, data: bytes, blank: Prepared) -> Iterator[Prepared]:
        seeds = [seed for seed in entry.seeds if self.use in seed.uses]
        if self.use == "background":
            yield self._background(entry, data, blank)
        elif entry.kind == "rgba":
            yield self._cached(blank, entry, None, data, _rgba_asset)
        elif entry.seeds and not seeds:
            yield replace(
                blank, drop=Drop("no_object", detail=f"the source offers no object of this picture for {self.use}")
            )
        else:
            make = _cut if self.use == "cut" else _photo_asset
            wanted: list[Seed | None] = [*seeds] or [None]
            for seed in wanted:
                named = (
                    replace(blank, id=f"{entry.id}/{seed.id}", caption=seed.caption, stance=seed.stance)
                    if seed
                    else blank
                )
                yield self._cached(named, entry, seed, data, make)

    def _background(self, entry: Entry, data: bytes, blank: Prepared) -> Prepared:
        if entry.seeds:  # a photograph with known objects is a background once they are gone
            return self._cached(blank, entry, None, data, _cleared)
        picture = images.decode(data)
        return _measured(blank, picture, side=min(picture.shape[:2]))

    def _cached(self, blank: Prepared, entry: Entry, seed: Seed | None, data: bytes, make: Any) -> Prepared:
        """Run ``make`` or take its outcome from the cache; a drop is an outcome too."""
        models = self._models(make, seed)
        parameters = {
            "version": _STEP,
            "seeds": [asdict(s) for s in ([seed] if seed else entry.seeds)],
            "options": asdict(self.mix.cut),
            "models": models,
            "size": self.recipe.size,
        }
        key = bundle_key(blank.sha256, make.__name__, parameters)
        cache = Cache(self.cache)
        bundle = cache.get(key)
        if bundle is None:
            bundle = self._make(entry, seed, data, make)
            cache.put(key, bundle)
        facts = json.loads(bundle["json"])
        drop = Drop(**facts.pop("drop")) if "drop" in facts else None
        return replace(blank, bundle=key, models=models, drop=drop, **facts)

    def _make(self, entry: Entry, seed: Seed | None, data: bytes, make: Any) -> dict[str, bytes]:
        try:
            pictures, facts = make(_Photo(self, entry, seed, data))
        except BadImage as error:
            pictures, facts = {}, {"drop": asdict(Drop(error.reason, detail=error.detail))}
        return {**{f"{n}.png": images.encode_png(p) for n, p in pictures.items()}, "json": json.dumps(facts).encode()}

    def _models(self, make: Any, seed: Seed | None) -> dict[str, str]:
        """What ``make`` runs; part of the bundle's key, so another revision makes another bundle."""
        options = self.mix.cut
        if make is _rgba_asset:
            return {}
        models = {"segmentation": _version(seed.method if seed else "grabcut", "opencv-python-headless")}
        if make is not _cleared:
            models["matting"] = _matting_version(options)
            models["foreground_colour"] = _version("multi-level", "pymatting")
        if make is not _photo_asset:
            models["inpainting"] = model_name(_inpainter(options.inpainting, self.weights))
        if make is _cut or (seed is None and make is _photo_asset):
            models["saliency"] = model_name(saliency_model(options.saliency, self.weights))
        return models


@dataclass(frozen=True, slots=True)
class _Photo:
    """An entry at work: its picture, and the mask of the object in question."""

    preparation: Preparation
    entry: Entry
    seed: Seed | None
    data: bytes

    @property
    def options(self) -> CutOptions:
        return self.preparation.mix.cut

    def picture(self) -> tuple[U8, float]:
        """The photograph, at most twice the build's size on its shorter side, and the factor that took."""
        picture = images.decode(self.data)
        factor = min(1.0, 2 * self.preparation.recipe.size / min(picture.shape[:2]))
        size = (max(1, round(picture.shape[0] * factor)), max(1, round(picture.shape[1] * factor)))
        return compose.resize(picture, size), factor

    def mask(self, picture: U8, factor: float, seed: Seed | None) -> NDArray[np.bool_]:
        if seed is None:
            model = saliency_model(self.options.saliency, self.preparation.weights)
            return cutout.salient_object(picture, model(picture))
        left, top, width, height = (round(v * factor) for v in seed.box)
        box = matte.Box(top, left, top + height, left + width)
        scale = (
            [[v * factor for v in outline] for outline in seed.outlines],
            [[v * factor for v in h] for h in seed.holes],
        )
        return cutout.object_mask(picture, box, method=seed.method, outlines=scale[0], holes=scale[1])

    def hole(self, picture: U8, mask: NDArray[np.bool_]) -> tuple[U8, NDArray[np.bool_]]:
        """The picture with the object gone, and the hole that was filled."""
        radius = max(3, round(self.options.dilate * min(picture.shape[:2]) / 512))
        hole = inpaint.dilated(mask, radius)
        model = _inpainter(self.options.inpainting, self.preparation.weights)
        seed = int(
            hashlib.sha256(self.data).hexdigest()[:8], 16
        )  # of the picture, so that every recipe shares the result
        return inpaint.inpaint(model, picture, hole, seed=seed), hole


def _rgba_asset(photo: _Photo) -> tuple[dict[str, U8], dict[str, Any]]:
    """A cut-out that came as one: alpha cleaned, truncated objects seen by their border."""
    picture = images.decode(photo.data, alpha=True)
    if picture[..., 3].min() == 255:
        raise BadImage("no_alpha", f"{photo.entry.path} is opaque everywhere: expected an RGBA cut-out")
    alpha = matte.clean_alpha(picture[..., 3])
    return _asset(picture[..., :3], alpha, photo.preparation.recipe.size)


def _photo_asset(photo: _Photo) -> tuple[dict[str, U8], dict[str, Any]]:
    """An object of a photograph: mask, matte, colour."""
    picture, factor = photo.picture()
    alpha = _matte_of(photo, picture, photo.mask(picture, factor, photo.seed))
    return _asset(matte.estimate_colour(picture, alpha), alpha, photo.preparation.recipe.size)


def _matte_of(photo: _Photo, picture: U8, mask: NDArray[np.bool_]) -> U8:
    if not mask.any():
        raise BadImage("no_object", f"no object was found in {photo.entry.path}")
    return matte.clean_alpha(matte.refine(picture, mask, band=photo.options.band, method=photo.options.matting))


def _asset(colour: U8, alpha: U8, size: int) -> tuple[dict[str, U8], dict[str, Any]]:
    """Crop to the object, no longer than the build's size, and measure."""
    box = matte.bounding_box(alpha)
    if box is None:
        raise BadImage("no_object", "the alpha is zero everywhere")
    border = matte.border_share(alpha > 127)
    crop = np.dstack([colour, alpha])[box.grown(1, alpha.shape).slices]
    factor = min(1.0, size / max(crop.shape[:2]))
    rgba = compose.resize_rgba(crop, (max(1, round(crop.shape[0] * factor)), max(1, round(crop.shape[1] * factor))))
    rgba[rgba[..., 3] == 0] = 0
    scores = {
        "side": max(rgba.shape[:2]),
        "border": border,
        "fragments": matte.fragments(rgba[..., 3] > 127),
        "haze": matte.haze(rgba[..., 3]),
        "sharpness": quality.sharpness(rgba[..., :3]),
    }
    return {"foreground": rgba}, _facts(rgba, scores)


def _cleared(photo: _Photo) -> tuple[dict[str, U8], dict[str, Any]]:
    """A photograph without any of its known objects."""
    picture, factor = photo.picture()
    mask = np.zeros(picture.shape[:2], bool)
    for seed in photo.entry.seeds:
        mask |= photo.mask(picture, factor, seed)
    background, _ = photo.hole(picture, mask)
    scores = {"side": min(picture.shape[:2]), "sharpness": quality.sharpness(background)}
    return {"background": background}, _facts(background, scores)


def _cut(photo: _Photo) -> tuple[dict[str, U8], dict[str, Any]]:
    """A photograph taken apart: the object as RGBA, and what is behind it, inpainted."""
    picture, factor = photo.picture()
    alpha = _matte_of(photo, picture, photo.mask(picture, factor, photo.seed))
    foreground = np.dstack([matte.estimate_colour(picture, alpha), alpha])
    background, hole = photo.hole(picture, alpha > 0)
    model = saliency_model(photo.options.saliency, photo.preparation.weights)
    scores = {
        "side": min(picture.shape[:2]),
        "border": matte.border_share(alpha > 127),
        "haze": matte.haze(alpha),
        "sharpness": quality.sharpness(picture),
        "residual": saliency.residual(model(background), hole),
        "texture": inpaint.texture_ratio(background, hole),
    }
    return {"image": picture, "foreground": foreground, "background": background}, _facts(picture, scores)


def _facts(picture: U8, scores: Mapping[str, float]) -> dict[str, Any]:
    height, width = picture.shape[:2]
    phash = similarity.perceptual_hash(picture)
    return {"height": height, "width": width, "phash": phash, "scores": all_scores(scores)}


def _measured(blank: Prepared, picture: U8, side: int) -> Prepared:
    scores = {"side": side, "sharpness": quality.sharpness(picture)}
    return replace(blank, **_facts(picture, scores))


def _blank(entry: Entry, use: Use) -> Prepared:
    return Prepared(
        use=use,
        id=entry.id,
        group=entry.id,
        source=entry.source,
        path=str(entry.path),
        licence=entry.licence,
        author=entry.author,
        url=entry.url,
        sha256="",
        caption=entry.caption,
        ground=entry.ground,
    )


@lru_cache(maxsize=4)
def saliency_model(name: str, weights: Path | None) -> saliency.SaliencyModel:
    """The saliency model of this process, loaded once."""
    return saliency.load_saliency(name, weights)


@lru_cache(maxsize=2)
def _inpainter(name: str, weights: Path | None) -> inpaint.Inpainter:
    return inpaint.load_inpainter(name, weights)


def model_name(model: saliency.SaliencyModel | inpaint.Inpainter) -> str:
    """``name@revision``, as records name models."""
    return f"{model.name}@{model.revision}"


@lru_cache
def _version(name: str, package: str) -> str:
    from importlib.metadata import version

    return f"{name}@{package}-{version(package)}"


def _matting_version(options: CutOptions) -> str:
    package = "pymatting" if options.matting == "closed-form" else "opencv-python-headless"
    return _version(options.matting, package)

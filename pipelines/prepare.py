"""Prepare what a source yields, once: every outcome is a row, kept or dropped with its reason.

Pixels go into the cache; rows carry the bundle's key.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..manifests.entry import Entry, Seed, Use
from ..manifests.errors import BadImage
from ..manifests.licences import allowed
from ..manifests.sources.zips import read_member
from ..toolkit import images
from ..toolkit.procedural import world as procedural_world
from ..toolkit.saliency import SpectralResidual
from . import loaders
from .assets import (
    Maker,
    Photo,
    background_scores,
    cleared,
    facts,
    in_layers,
    layer_asset,
    photo_asset,
    plain_background,
    rendered_background,
    rgba_asset,
    taken_apart,
    upright,
)
from .cache import Cache, bundle_key
from .filters import Drop, judge
from .generated import generated_asset, generated_layers
from .recipe import Mix, Recipe

_STEP = 8  # raised when a change here or in assets makes other pixels of the same input


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One usable thing (a foreground, a background, or a photograph taken apart), or why it is none.

    Attributes:
        use: ``foreground``, ``background``, ``layers``, ``cut`` or ``generate``.
        id: entry's id, and the object's where it has several.
        group: the entry's id: things of one group show the same photograph.
        source, path, licence, author, url, sha256: where it comes from.
        companions: sha256 over the other files that it needs (base picture, masks), or empty.
        offset, length: the bytes of ``path`` that are the picture; length 0 is all of them.
        rotation: see :class:`~layerkit.manifests.entry.Entry`.
        layer: which layer of a picture in layers is meant.
        caption: what it shows.
        bundle: key of its pixels in the cache; empty for a background that is used as it is.
        height, width: px, as prepared.
        phash: perceptual hash.
        photo_phash: perceptual hash of the photograph that it comes from.
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
    companions: str = ""
    offset: int = 0
    length: int = 0
    rotation: int = 0
    layer: int = 0
    bundle: str = ""
    height: int = 0
    width: int = 0
    phash: int = 0
    photo_phash: int = 0
    stance: str = "standing"
    ground: float = 0.5
    scores: Mapping[str, float] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    drop: Drop | None = None

    @property
    def span(self) -> tuple[int, int] | None:
        """Offset and length of the picture in ``path``, or None for the whole file."""
        return (self.offset, self.length) if self.length else None


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
        if entry.drop:
            yield replace(blank, drop=_said(entry.drop))
            return
        if not allowed(entry.licence, self.recipe.allow_licence):
            yield replace(blank, drop=Drop("licence", detail=f"{entry.licence} is not among --allow-licence"))
            return
        try:
            data = _data(entry)
            blank = replace(blank, sha256=hashlib.sha256(data).hexdigest())
            for row in self._prepare(entry, data, blank):
                yield replace(row, drop=row.drop or judge(row.scores, self.mix.filters))
        except BadImage as error:
            yield replace(blank, drop=Drop(error.reason, detail=error.detail))

    def _prepare(self, entry: Entry, data: bytes, blank: Prepared) -> Iterator[Prepared]:
        if self.use == "background":
            yield self._background(entry, data, blank)
        elif entry.kind in ("layers", "procedural"):
            yield from self._layers(entry, data, blank)
        elif entry.kind == "rgba":
            yield self._cached(blank, entry, None, data, rgba_asset)
        elif entry.kind == "prompt":
            drawn = generated_layers if self.use == "generate" else generated_asset
            yield self._cached(blank, entry, None, data, drawn)
        elif self.mix.cut.mask == "source" or (entry.seeds and self.mix.cut.mask == "auto"):
            yield from self._objects(entry, data, blank)
        else:
            yield self._cached(blank, entry, None, data, self._maker)

    @property
    def _maker(self) -> Maker:
        return taken_apart if self.use == "cut" else photo_asset

    def _background(self, entry: Entry, data: bytes, blank: Prepared) -> Prepared:
        if entry.kind == "procedural":
            return self._cached(blank, entry, None, data, rendered_background)
        if entry.seeds:  # a photograph with known objects is a background once they are gone
            return self._cached(blank, entry, None, data, cleared)
        if self.mix.cut.saliency == "spectral":
            picture = upright(images.decode(data), entry.rotation)
            return replace(blank, **facts(picture, background_scores(picture, SpectralResidual()), picture))
        return replace(self._cached(blank, entry, None, data, plain_background), bundle="")

    def _layers(self, entry: Entry, data: bytes, blank: Prepared) -> Iterator[Prepared]:
        """A row for each layer of a picture in layers; all share one bundle, but where they become assets."""
        blank = replace(blank, companions=_companions(entry, entry.seeds))
        models = self._models(in_layers, entry, None)
        key, table = self._made(blank, entry, None, data, in_layers, models)
        if "drop" in table:
            yield replace(blank, drop=Drop(**table["drop"]))
            return
        for k, told in enumerate(table["layers"]):
            named = replace(blank, id=f"{entry.id}/{k}", layer=k, caption=told.pop("caption") or entry.caption)
            if self.use == "layers":
                yield replace(named, bundle=key, models=models, **told)
            else:
                yield self._cached(named, entry, None, data, layer_asset)

    def _objects(self, entry: Entry, data: bytes, blank: Prepared) -> Iterator[Prepared]:
        """A row for each object of a photograph that may serve, or one that says why none does."""
        offered = [seed for seed in entry.seeds if self.use in seed.uses]
        if not offered:
            detail = f"the source offers no object of this picture for {self.use}"
            yield replace(blank, drop=Drop("no_object", detail=detail))
        for seed in offered:
            named = replace(blank, id=f"{entry.id}/{seed.id}", caption=seed.caption, stance=seed.stance)
            if seed.drop:
                yield replace(named, drop=_said(seed.drop))
            else:
                yield self._cached(named, entry, seed, data, self._maker)

    def _cached(self, blank: Prepared, entry: Entry, seed: Seed | None, data: bytes, make: Maker) -> Prepared:
        """Run ``make`` or take its outcome from the cache; a drop is an outcome too.

        A mask file that cannot be read refuses this object alone, not the others of its picture.
        """
        models = self._models(make, entry, seed)
        try:
            blank = replace(blank, companions=_companions(entry, [seed] if seed else entry.seeds))
            key, table = self._made(blank, entry, seed, data, make, models)
        except BadImage as error:
            return replace(blank, drop=Drop(error.reason, detail=error.detail))
        drop = Drop(**table.pop("drop")) if "drop" in table else None
        return replace(blank, bundle=key, models=models, drop=drop, **table)

    def _made(
        self, blank: Prepared, entry: Entry, seed: Seed | None, data: bytes, make: Maker, models: dict[str, str]
    ) -> tuple[str, dict[str, Any]]:
        """Key and facts of the bundle that ``make`` makes, from the cache or now."""
        seeds = [seed] if seed else entry.seeds
        parameters = {
            "version": _STEP,
            "seeds": [asdict(replace(one, mask=None)) for one in seeds],
            "companions": blank.companions,
            "rotation": entry.rotation,
            "layer": blank.layer,
            "options": asdict(self.mix.cut) if make not in (rgba_asset, in_layers, layer_asset) else {},
            "models": models,
            "size": self.recipe.size,
        }
        key = bundle_key(blank.sha256, make.__name__, parameters)
        cache = Cache(self.cache)
        bundle = cache.get(key)
        if bundle is None:
            bundle = self._make(entry, seed, blank.layer, data, make)
            cache.put(key, bundle)
        return key, json.loads(bundle["json"])

    def _make(self, entry: Entry, seed: Seed | None, layer: int, data: bytes, make: Maker) -> dict[str, bytes]:
        photo = Photo(
            entry=entry,
            seed=seed,
            data=data,
            options=self.mix.cut,
            size=self.recipe.size,
            weights=self.weights,
            layer=layer,
        )
        try:
            pixels, table = make(photo)
        except BadImage as error:
            pixels, table = {}, {"drop": asdict(Drop(error.reason, detail=error.detail))}
        pictures = {f"{name}.png": images.encode_png(picture) for name, picture in pixels.items()}
        return {**pictures, "json": json.dumps(table).encode()}

    def _models(self, make: Maker, entry: Entry, seed: Seed | None) -> dict[str, str]:
        """What ``make`` runs; part of the bundle's key, so another revision makes another bundle."""
        options = self.mix.cut
        rendered = {"generator": f"procedural@{procedural_world.VERSION}"} if entry.kind == "procedural" else {}
        if make in (rgba_asset, in_layers, layer_asset):
            return rendered
        if make in (plain_background, rendered_background):
            return {**rendered, "saliency": loaders.model_name(loaders.saliency_model(options.saliency, self.weights))}
        if make is generated_asset:
            return {"generator": loaders.model_name(loaders.cutout_generator(options.generator, self.weights))}
        if make is generated_layers:
            return {
                "generator": loaders.model_name(loaders.layered_generator(options.generator, self.weights)),
                "saliency": loaders.model_name(loaders.saliency_model(options.saliency, self.weights)),
                **{f"{role}_judge": self._judge(role) for role in ("mask", "inpaint")},
                **self._depth(),
            }
        found = seed.method if seed else "threshold" if options.mask == "saliency" else "grabcut"
        models = {"segmentation": loaders.algorithm_name(found, "opencv-python-headless")}
        if make is not cleared:
            models |= self._cutting()
        if make is not photo_asset and entry.base is None:
            models["inpainting"] = loaders.model_name(loaders.inpainter(options.inpainting, self.weights))
        if make in (cleared, taken_apart) or (seed is None and make is photo_asset):
            models["saliency"] = loaders.model_name(loaders.saliency_model(options.saliency, self.weights))
        if make is taken_apart:
            models["inpaint_judge"] = self._judge("inpaint")
        return models

    def _judge(self, role: Literal["mask", "inpaint"]) -> str:
        name = self.mix.cut.mask_judge if role == "mask" else self.mix.cut.inpaint_judge
        return loaders.model_name(loaders.quality_judge(f"{role}-quality", name, self.weights))

    def _cutting(self) -> dict[str, str]:
        """What cuts an object out and judges how well."""
        options = self.mix.cut
        models = {"mask_judge": self._judge("mask")}
        if options.matting != "none":
            package = "pymatting" if options.matting == "closed-form" else "opencv-python-headless"
            models["matting"] = loaders.algorithm_name(options.matting, package)
            models["foreground_colour"] = loaders.algorithm_name("multi-level", "pymatting")
        return {**models, **self._depth()}

    def _depth(self) -> dict[str, str]:
        """What tells whether an object is complete, where a model does."""
        name = self.mix.cut.depth
        return {} if name == "none" else {"depth": loaders.model_name(loaders.depth_model(name, self.weights))}


def _said(text: str) -> Drop:
    """``reason: detail`` of a source as a drop."""
    reason, _, detail = text.partition(": ")
    return Drop(reason, detail=detail)


def _data(entry: Entry) -> bytes:
    """The bytes of an entry; of a scene to render its seed."""
    return entry.id.encode() if entry.kind == "procedural" else images.read_bytes(entry.path, entry.span)


def _companions(entry: Entry, seeds: Sequence[Seed]) -> str:
    """One digest of the files that an entry or its objects need beside its own; empty where there is none."""
    files = [images.read_bytes(entry.base)] if entry.base else []
    for seed in seeds:
        if seed.mask:
            member = seed.mask_member
            files.append(read_member(seed.mask, member) if member else images.read_bytes(seed.mask))
    digests = "".join(hashlib.sha256(data).hexdigest() for data in files)
    return hashlib.sha256(digests.encode()).hexdigest() if files else ""


def _blank(entry: Entry, use: Use) -> Prepared:
    offset, length = entry.span or (0, 0)
    return Prepared(
        use=use,
        id=entry.id,
        group=entry.id,
        source=entry.source,
        path=str(entry.path),
        offset=offset,
        length=length,
        rotation=entry.rotation,
        licence=entry.licence,
        author=entry.author,
        url=entry.url,
        sha256="",
        caption=entry.caption,
        ground=entry.ground,
    )

"""Training samples made on load: triplets composed from the pools of a build or rendered, and pairs of photographs."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...manifests.errors import BadImage, RunError, ShardError, UsageError
from ...toolkit import images
from ...toolkit.files import cache_folder
from ...toolkit.procedural.scene import render
from ...toolkit.shards import Members
from ..cache import Cache
from ..candidate import Candidate
from ..draw import generator
from ..filters import Drop, judge
from ..ledger import BuildFolder
from ..loaders import saliency_model
from ..pools import Pixels, Pool, Stock
from ..recipe import Mix, Recipe
from ..rows import pool_path
from ..run_file import read_run, recipe_of
from ..shard import ROUTES
from .sample import U8, Sample, View, identity_of, turn

_TOGETHER = 8  # scenes that are rendered at a time
_ATTEMPTS = 100  # candidates for one sample, before the mix is held for impossible
_FOLDERS = (("image", "background", "mask"), ("paste", "gt", "mask"), ("img", "gt", "mask"), ("source", "GT", "mask"))
_SHOWN = (0.02, 0.5)  # least and largest share of a picture that a rendered solid covers
_LARGEST = 0.5  # share of a picture that an object may cover: RORD's own masks are black where the object is
_PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


class ComposedData:
    """Triplets composed while training from the pools of a finished build: no two alike, in any number.

    LayerDecomp trains so (arXiv 2411.17864): random backgrounds, sizes and places for prepared objects.

    Sample ``k`` is drawn by a generator of (seed, k), judged by the filters of the mix, and drawn again where it fails.
    Pictures of the split alone are drawn from, so what a build holds out stays held out.

    Args:
        build: folder of the build; its cache of prepared assets must still be there.
        mix: name of the mix whose pools, route and options are used.
        split: ``train``, ``val`` or ``test``.
        view: triplets are composed at its size; its crop then has nothing to do.
        seed: another seed gives other triplets.
        cache: where the assets lie; the user's cache folder by default.
        weights: folder of pre-trained weights, for a mix that asks a neural saliency model.

    Raises:
        UsageError: no build, no such mix, no pools, or nothing of the split in them.
    """

    def __init__(
        self,
        build: Path,
        mix: str,
        split: str,
        view: View,
        seed: int = 0,
        *,
        cache: Path | None = None,
        weights: Path | None = None,
    ) -> None:
        folder = BuildFolder(build).resolved()
        recipe = recipe_of(read_run(folder), folder)
        self._mix = _find_mix(recipe, mix, folder)
        # Lossless: the background is then what the image was composed on, to the bit.
        self._recipe = replace(recipe, size=view.size, members=Members(background="png"))
        self._split, self._view, self._seed = split, view, seed
        self._paths = {use: pool_path(folder, self._mix, use) for use in self._mix.pools}
        self._cache, self._weights = Cache(cache or cache_folder()), weights
        self._local = threading.local()
        self._stock()

    def _stock(self) -> Stock:
        """What this thread draws from; what it keeps of rows and pixels is its own."""
        if not hasattr(self._local, "stock"):
            pools = {use: _open_pool(path, self._split) for use, path in self._paths.items()}
            saliency = saliency_model(self._mix.cut.saliency, self._weights)
            self._local.stock = Stock(pools, Pixels(self._cache), saliency)
        stock: Stock = self._local.stock
        return stock

    @property
    def size(self) -> int:
        """Side of the samples, px."""
        return self._view.size

    @cached_property
    def identity(self) -> str:
        """See :class:`Stream`."""
        names = [self._recipe.fingerprint, self._mix.name, self._split]
        return identity_of("composed", self._seed, self._view, names)

    def __getitem__(self, number: int) -> Sample:
        """See :class:`Stream`.

        Raises:
            RunError: a hundred candidates failed, or an asset changed or vanished.
        """
        stock = self._stock()
        for attempt in range(_ATTEMPTS):
            rng = generator(str(self._seed), "compose", number, attempt)
            candidate = ROUTES[self._mix.route](self._recipe, self._mix, stock, rng)
            drop = candidate if isinstance(candidate, Drop) else judge(candidate.scores, self._mix.filters)
            if isinstance(candidate, Candidate) and drop is None:
                layers = {name: getattr(candidate.layers, name) for name in self._view.layers}
                return self._view(layers, f"{candidate.name}-{number:09d}", rng, caption=candidate.caption)
        raise RunError(
            f"mix {self._mix.name}: {_ATTEMPTS} candidates of {self.size} px failed, the last by {drop}; "
            "train at a size nearer to the build's, or build with wider filters"
        )


def _find_mix(recipe: Recipe, name: str, folder: BuildFolder) -> Mix:
    for mix in recipe.mix:
        if mix.name == name:
            return mix
    known = ", ".join(mix.name for mix in recipe.mix)
    raise UsageError(f"{folder}: expected one of the mixes {known}, got {name!r}")


def _open_pool(path: Path, split: str) -> Pool:
    if not path.exists():
        raise UsageError(f"expected the pools of a finished build, {path} is missing; run build-triplets to its end")
    pool = Pool(path, split)
    if not len(pool):
        raise UsageError(f"{path}: nothing of it is in {split}; build with splits.{split} above 0")
    return pool


class PairData:
    """Photographs with and without an object, and its mask: the background is true, the foreground is not known.

    Args:
        root: folder with three folders of pictures of equal names but for the ending: ``image``, ``background`` and
            ``mask`` (white is the object, at most half of the picture), or as RORD, SmartEraser and RORem call them.
        view: see :class:`View`.
        seed: of the order and of every crop.
        shuffle: False reads in the order of the names, for validation.

    Raises:
        UsageError: no such folders, or no three pictures of one name in them.
    """

    def __init__(self, root: Path, view: View, seed: int = 0, *, shuffle: bool = True) -> None:
        self._view, self._seed, self._shuffle = view, seed, shuffle
        chosen = next((names for names in _FOLDERS if all((root / name).is_dir() for name in names)), None)
        if chosen is None:
            known = "; ".join(", ".join(names) for names in _FOLDERS)
            raise UsageError(f"expected a folder with three folders of one of these rows, got {root}: {known}")
        found = [_pictures(root / name) for name in chosen]
        self._keys = sorted(set.intersection(*map(set, found)))
        if not self._keys:
            raise UsageError(f"{root}: no picture of {chosen[0]}/ has one of the same name in {chosen[1]}/ and mask/")
        self._paths = [tuple(paths[key] for paths in found) for key in self._keys]

    @property
    def size(self) -> int:
        """Side of the samples, px."""
        return self._view.size

    @cached_property
    def identity(self) -> str:
        """See :class:`Stream`."""
        return identity_of("pairs", self._seed, self._view, self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, number: int) -> Sample:
        """See :class:`Stream`."""
        epoch, index = turn(number, len(self), self._seed, self._shuffle)
        key = self._keys[index]
        try:
            image, background, mask = (images.read(path) for path in self._paths[index])
        except BadImage as error:
            raise ShardError(f"pair {key}: {error.detail}") from error
        if not image.shape == background.shape == mask.shape:
            sizes = ", ".join(f"{one.shape[1]} x {one.shape[0]}" for one in (image, background, mask))
            raise ShardError(f"pair {key}: expected three pictures of one size, got {sizes}")
        covered = mask[..., 0] > 127
        if covered.mean() > _LARGEST:
            raise ShardError(f"pair {key}: {covered.mean():.0%} of the mask is white; white is the object: invert it?")
        layers = {
            "image": image,
            "foreground": np.zeros((*image.shape[:2], 4), np.uint8),
            "background": background,
            "mask": covered.astype(np.uint8) * 255,
            "shadow": np.zeros(image.shape[:2], np.uint8),
            "occluder": np.zeros((*image.shape[:2], 4), np.uint8),
        }
        return self._view(layers, key, generator(str(self._seed), "view", epoch, key), known=False)


class RenderedData:
    """Ray-cast solids rendered while training, one of each scene taken out: exact layers and shadows, without end.

    Sample ``k`` is drawn by a generator of (seed, split, k); scenes whose solid shows too little, or too much, of
    itself are drawn again. See :mod:`layerkit.toolkit.procedural`.

    Args:
        split: ``train`` or ``val``: no scene is in both.
        view: scenes are rendered at its size; its crop then has nothing to do.
        seed: another seed gives other scenes.
    """

    def __init__(self, split: str, view: View, seed: int = 0) -> None:
        self._split, self._view, self._seed = split, view, seed
        self._block = lru_cache(maxsize=8)(self._rendered)  # a worker asks for neighbours one after the other

    @property
    def size(self) -> int:
        """Side of the samples, px."""
        return self._view.size

    @cached_property
    def identity(self) -> str:
        """See :class:`Stream`."""
        return identity_of("rendered", self._seed, self._view, [self._split])

    def __getitem__(self, number: int) -> Sample:
        """See :class:`Stream`.

        Raises:
            RunError: a hundred scenes showed nothing that can be taken out.
        """
        block, place = divmod(number, _TOGETHER)
        return self._block(block)[place]

    def _rendered(self, block: int) -> tuple[Sample, ...]:
        """Neighbouring samples, whose scenes are rendered together: in half the time, to the same pixels."""
        found: dict[int, Sample] = {}
        missing = [block * _TOGETHER + place for place in range(_TOGETHER)]
        for attempt in range(_ATTEMPTS):
            found |= dict(self._drawn(missing, attempt))
            missing = [number for number in missing if number not in found]
            if not missing:
                return tuple(found[number] for number in sorted(found))
        raise RunError(f"{_ATTEMPTS} scenes of {self.size} px showed no solid of a fit size; train at a larger size")

    def _drawn(self, numbers: Sequence[int], attempt: int) -> Iterator[tuple[int, Sample]]:
        """Those samples whose scene, at this attempt, shows a solid of a fit size."""
        draws = [generator(str(self._seed), "rendered", self._split, number, attempt) for number in numbers]
        scene = render([int(rng.integers(2**62)) for rng in draws], self.size)
        solids = [int(rng.integers(count)) for rng, count in zip(draws, scene.count, strict=True)]
        taken = scene.triplets(solids)
        for place, (number, rng) in enumerate(zip(numbers, draws, strict=True)):
            if _SHOWN[0] <= float(taken.mask[place].mean()) <= _SHOWN[1]:
                layers = {name: _levels(getattr(taken, name)[place]) for name in self._view.layers}
                caption = scene.worlds[place].solids[solids[place]].caption
                yield number, self._view(layers, f"rendered-{self._split}-{number:09d}", rng, caption=caption)


def _levels(picture: Tensor) -> U8:
    """(C, H, W) in 0..1 to 8-bit (H, W, C), or (H, W) of one channel."""
    levels: U8 = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _pictures(folder: Path) -> dict[str, Path]:
    """Path without its ending, below ``folder``, to picture."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}

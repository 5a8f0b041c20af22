"""A recipe: what to build, as frozen dataclasses, read from a TOML file and a few overrides."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..manifests import recipes, schema
from ..manifests.entry import Use
from ..manifests.errors import UsageError
from ..manifests.licences import check_allow_list
from ..toolkit.shadow import ShadowOptions
from ..toolkit.shards import Members
from .filters import Limits

ALGORITHM = 2
"""Raised with every change that gives other bytes for the same recipe; part of the fingerprint."""

Route = Literal["paste", "cut", "layers", "generate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How route ``paste`` places objects, and route ``cut`` its crop.

    Attributes:
        scale: least and largest longer side of an object, as a share of the canvas.
        enlarge: an asset is never enlarged beyond this factor, or it would look blurred.
        inside: least share of an object's area that lies on the canvas.
        overlap: largest share of any object that others may hide.
        rotate: an object is turned by up to this many degrees either way; what stands should stay near 0.
        mirror: probability that an object (or crop) is mirrored.
        tries: placements drawn before a slot's attempt is given up.
    """

    scale: tuple[float, float] = (0.25, 0.7)
    enlarge: float = 1.5
    inside: float = 0.85
    overlap: float = 0.4
    rotate: float = 0.0
    mirror: float = 0.5
    tries: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 4:
            raise UsageError(f"scale: expected [least, most] within 0..4, got {list(self.scale)}")
        if not 0 <= self.rotate <= 180:
            raise UsageError(f"rotate: expected 0..180 degrees, got {self.rotate}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """How objects are cut out of photographs and what is put behind them.

    Attributes:
        mask: what says where the object is: ``source`` takes the source's own masks, boxes and outlines; ``auto`` does
            so and asks saliency where there are none; ``saliency`` always takes the pixels above ``threshold``, as
            Text2Layer does.
        threshold: of ``mask = "saliency"``; Text2Layer takes 0.1 of an ICON map.
        saliency: model that finds the object where the source knows none, and that the ``saliency`` filters ask.
        matting: refinement of the hard mask, ``closed-form`` or ``guided``; ``none`` takes the saliency map (or the
            hard mask) as alpha and the photograph's own pixels as colour, as Text2Layer does.
        band: half width of the band that matting decides, px.
        inpainting: model that fills the hole, prompted with the empty text.
        dilate: px by which the hole is wider than the object, at 512 px; grows with the photograph.
        generator: model that makes a cut-out of a prompt; of route ``generate`` one that draws layers, a name of
            ``layerkit ls generators`` or the folder of a run.
        depth: model that tells what stands in front of an object, for ``completeness``; ``none`` judges by the mask.
        mask_judge: ``heuristic``, or the folder that ``layerkit train mask-quality`` wrote.
        inpaint_judge: ``heuristic``, or the folder that ``layerkit train inpaint-quality`` wrote.
    """

    mask: Literal["auto", "source", "saliency"] = "auto"
    threshold: float = 0.1
    saliency: str = "spectral"
    matting: Literal["closed-form", "guided", "none"] = "closed-form"
    band: int = 4
    inpainting: str = "patchmatch"
    dilate: int = 9
    generator: str = "layerdiffuse-sdxl"
    depth: str = "none"
    mask_judge: str = "heuristic"
    inpaint_judge: str = "heuristic"

    def __post_init__(self) -> None:
        for name, least, most in (("threshold", 0.0, 1.0), ("band", 1, 256), ("dilate", 0, 512)):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"{name} must lie in {least}..{most}, got {getattr(self, name)}")

    @property
    def is_neural(self) -> bool:
        """Whether anything here runs pre-trained weights, so that a GPU helps."""
        classical = {"spectral", "patchmatch", "telea", "navier-stokes", "none", "heuristic"}
        return not {self.saliency, self.inpainting, self.depth, self.mask_judge, self.inpaint_judge} <= classical


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A share of a build that is made one way.

    Attributes:
        name: part of the shard names, ``[a-z0-9-]+``.
        share: relative to the other mixes' shares.
        route: ``paste`` (objects on a background), ``cut`` (a photograph taken apart), ``layers`` (a picture that came
            in layers) or ``generate`` (a text that layers are drawn of).
        foregrounds: source of the objects, route ``paste``.
        backgrounds: source of the backgrounds, route ``paste``.
        photos: source of the pictures, routes ``cut`` and ``layers``; of the prompts, route ``generate``.
        objects: least and largest number of objects, route ``paste``.
        harmonise: least and largest strength of the colour transfer from the background to each object, route
            ``paste``; 0 is none, 1 gives the object the background's mean and spread.
        placement: see :class:`Placement`.
        shadow: see :class:`~layerkit.toolkit.shadow.ShadowOptions`.
        cut: see :class:`CutOptions`.
        filters: limits that take the place of the recipe's own in this mix.
    """

    name: str
    share: float
    route: Route
    foregrounds: str = ""
    backgrounds: str = ""
    photos: str = ""
    objects: tuple[int, int] = (1, 3)
    harmonise: tuple[float, float] = (0.0, 0.0)
    placement: Placement = field(default_factory=Placement)
    shadow: ShadowOptions = field(default_factory=ShadowOptions)
    cut: CutOptions = field(default_factory=CutOptions)
    filters: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        where = f"mix {self.name!r}"
        if not re.fullmatch(r"[a-z0-9-]{1,32}", self.name):
            raise UsageError(f"{where}: a name is 1 to 32 of a-z, 0-9 and '-'; it becomes part of file names")
        if self.share < 0:
            raise UsageError(f"{where}: share must not be negative, got {self.share}")
        if not 1 <= self.objects[0] <= self.objects[1] <= 8:
            raise UsageError(f"{where}: objects must be [least, most] within 1..8, got {list(self.objects)}")
        if not 0 <= self.harmonise[0] <= self.harmonise[1] <= 1:
            raise UsageError(f"{where}: harmonise must be [least, most] within 0..1, got {list(self.harmonise)}")
        needed = ("foregrounds", "backgrounds") if self.route == "paste" else ("photos",)
        for name in needed:
            if not getattr(self, name):
                raise UsageError(f'{where}: route {self.route!r} needs {name} = "SOURCE"')

    @property
    def pools(self) -> dict[Use, str]:
        """Use to source of what the route draws from."""
        if self.route == "paste":
            return {"foreground": self.foregrounds, "background": self.backgrounds}
        return {self.route: self.photos}


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Shares of the build that are held out, see :mod:`.splits`; the rest is ``train``."""

    val: float = 0.0
    test: float = 0.0

    def __post_init__(self) -> None:
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise UsageError(f"expected shares val and test that sum to less than 1, got {self.val} and {self.test}")

    def shares(self) -> dict[str, float]:
        """Split to share, those without a share left out."""
        shares = {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}
        return {split: share for split, share in shares.items() if share > 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What a recipe says of a source that cannot say it itself.

    Attributes:
        licence: of every picture of the source.
        author: of every picture of the source.
    """

    licence: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A build, whole.

    Attributes:
        name: of the recipe.
        count: triplets to keep.
        size: height and width of every triplet, px.
        seed: another seed gives another build.
        shard_size: triplets in a shard.
        attempts: candidates drawn for one triplet before its place stays empty.
        mix: the mixes.
        members: file formats.
        sources: options of sources by name.
        allow_licence: licences or classes that may be used; empty allows all.
        splits: shares that are held out.
        exclude: names of benchmarks whose pictures must not be used; where they lie is said at the command line.
    """

    name: str
    count: int
    size: int = 512
    seed: int = 0
    shard_size: int = 1000
    attempts: int = 8
    mix: tuple[Mix, ...]
    members: Members = field(default_factory=Members)
    sources: Mapping[str, SourceOptions] = field(default_factory=dict)
    allow_licence: tuple[str, ...] = ()
    splits: Splits = field(default_factory=Splits)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in (
            ("count", 1, 10**9),
            ("size", 32, 4096),
            ("shard_size", 1, 10**6),
            ("attempts", 1, 1000),
        ):
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"{name} must lie in {least}..{most}, got {getattr(self, name)}")
        names = [mix.name for mix in self.mix]
        if len(set(names)) < len(names):
            raise UsageError(f"mix names must differ, got {', '.join(names)}")
        if sum(mix.share for mix in self.mix) <= 0:
            raise UsageError(f"the shares of the mixes must sum to more than 0, got {[mix.share for mix in self.mix]}")
        check_allow_list(self.allow_licence)
        for benchmark in self.exclude:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", benchmark):  # it becomes part of a file name
                raise UsageError(f"exclude: expected names of A-Z, a-z, 0-9, '_' and '-', got {benchmark!r}")

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the bytes."""
        return hashlib.sha256(json.dumps(self.table(), sort_keys=True).encode()).hexdigest()

    def table(self) -> dict[str, Any]:
        """The recipe as plain JSON types, with the version of the algorithm."""
        return {"algorithm": ALGORITHM, **json.loads(json.dumps(asdict(self)))}


def load(recipe: str, overrides: Mapping[str, Any], settings: Iterable[str] = ()) -> Recipe:
    """Read a shipped or own recipe.

    Args:
        recipe: a shipped name or a path.
        settings: ``KEY=VALUE`` with a dotted key and a TOML value; a key of a mix, such as ``cut.saliency``, is set in
            every mix.
        overrides: top-level keys that replace the file's, but ``exclude``, which adds to it; None leaves the file's.

    Raises:
        UsageError: names the file and the key.
    """
    path = recipes.find(recipe)
    table = {"name": path.stem, **_unlocked(recipes.load_table(path), path)}
    excluded = {*table.get("exclude", ()), *(overrides.get("exclude") or ())}
    table |= {key: value for key, value in overrides.items() if value is not None}
    table["exclude"] = sorted(excluded)
    defaults = table.pop("filters", {})
    schema.parse(Limits, defaults, f"{path}: recipe.filters")  # so that an error names this table, not a mix
    mixes = table.get("mix")
    if not isinstance(mixes, list) or not all(isinstance(mix, Mapping) for mix in mixes) or not mixes:
        raise UsageError(f"{path}: expected at least one [[mix]] table, got {mixes!r}")
    table["mix"] = [{**mix, "filters": {**defaults, **mix.get("filters", {})}} for mix in mixes]
    for setting in settings:
        _set(table, setting)
    return schema.parse(Recipe, table, f"{path}: recipe")


def _set(table: dict[str, Any], setting: str) -> None:
    """Put the value of ``KEY=VALUE`` into the table, or into each of its mixes where the key is one of a mix."""
    key, value = recipes.parse_setting(setting)
    of_a_mix = {one.name for one in fields(Mix)} - {"name"}
    for place in table["mix"] if key[0] in of_a_mix else [table]:
        recipes.assign(place, key, value)


def _unlocked(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """The recipe inside a ``recipe.lock.toml``; any other table as it is."""
    if "recipe" not in table:
        return table
    recipe = dict(table["recipe"])
    made = recipe.pop("algorithm", None)
    if made != ALGORITHM:
        raise UsageError(
            f"{path}: expected a lock of algorithm {ALGORITHM}, got {made}; take layerkit {table.get('layerkit')}"
        )
    return recipe


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys in which two recipe tables differ, each with both values."""
    found: list[str] = []
    for key in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(key), theirs.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif (
            isinstance(a, list)
            and isinstance(b, list)
            and len(a) == len(b)
            and all(isinstance(x, Mapping) for x in a + b)
        ):
            for k, (x, y) in enumerate(zip(a, b, strict=True)):
                found += differences(x, y, f"{prefix}{key}[{k}].")
        elif a != b:
            found.append(f"{prefix}{key}: {b!r} there, {a!r} now")
    return found

"""Reader ``rord``: RORD, frames of a static camera with and without objects (Sagong et al., BMVC 2022).

Five layouts go round. Which one lies under a root is told by what is there, below ``test`` or ``val`` (or ``train``),
below the root, or below a folder of it:

====================  =====================================================  ==============================  =========
layout                pictures                                               masks                           truth
====================  =====================================================  ==============================  =========
mirror                ``img/SCENE/*.jpg``, the plate is ``*_G0001.jpg``      ``label/SCENE/STEM.json`` and   raw plate
                                                                             ``mask/SCENE/STEM_M.png``
raw                   ``jpg/SCENE/*.jpg``, the plate as above                ``M/SCENE/STEM_M.json``         raw plate
preprocessed          ``img/STEM.png`` and ``gt/STEM.png``                   ``mask/STEM.png``               blended
smarteraser           ``paste/STEM.jpg`` and ``gt/STEM.jpg``                 ``mask/STEM.jpg``               raw plate
tars of finegrain     ``….tar`` with ``STEM.before.jpg``, ``.after.jpg``     ``STEM.mask.png``               raw plate
====================  =====================================================  ==============================  =========

Labels hold polygons of the objects: ``tight`` masks. ``STEM_M.png`` is coarse: the ``loose`` mask, black where the
object is, as are the preprocessed masks; the others are white there. The preprocessed truth is the plate blended into
the frame after its brightness was matched, another protocol than the raw plate, and the scenes of its test set were
drawn without a seed. No licence of the data is stated.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath

from ..errors import BadImage, UsageError
from ..pairs import File, MaskFile, Pair, Truth
from .foreign import is_plain
from .tars import members

URL = "https://github.com/Forty-lock/RORD"

_SPLITS = {"test": ("test", "val", "val_rord", "validation"), "train": ("train", "training")}
_FRAME = re.compile(r"I-(\d+_[A-Z0-9]+_[TW]\d+)_[FG]\d+")
_RANDOM_PREFIX = re.compile(r"\d{6}_(?=I-)")
_PLATE = re.compile(r".+_G\d+")
_PICTURES = (".jpg", ".jpeg", ".png")

_Masks = Mapping[str, tuple[MaskFile, ...]]


def pairs(root: Path, split: str = "test") -> Iterator[Pair]:
    """Yield a pair a frame in the order of its path.

    Args:
        root: where the data set lies.
        split: ``test``, the held-out scenes whatever the layout calls them, or ``train``.

    Raises:
        UsageError: none of the layouts is there.
    """
    for folder in _places(root, split):
        if tars := _tars(folder, split):
            return chain.from_iterable(map(_tar, tars))
        for fits, read in _LAYOUTS:
            if fits(folder):
                return read(folder)
    here = ", ".join(path.name for path in _visible(root)[:8]) or "nothing"
    raise UsageError(
        f"{root}: expected RORD in {', '.join(_SPLITS[split])} or directly: img/SCENE with label or mask, jpg/SCENE "
        f"with M, img with gt and mask, paste with gt and mask, or tars of *.before.jpg; got {here}"
    )


def _places(root: Path, split: str) -> Iterator[Path]:
    """Folders to look into: those that are named as the split is first, and never one of another split."""
    other = {name for key, names in _SPLITS.items() if key != split for name in names}
    inner = [path for path in _visible(root) if path.is_dir() and path.name.lower() not in other]
    for top in (root, *inner):
        yield from (top / name for name in _SPLITS[split] if (top / name).is_dir())
    yield from (root, *inner)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def _by_stem(folder: Path, *endings: str) -> dict[str, Path]:
    """The files of a folder with one of the endings by stem, in the order of their names."""
    return {path.stem: path for path in _visible(folder) if path.suffix.lower() in endings}


def _pictures(folder: Path) -> dict[str, Path]:
    return _by_stem(folder, *_PICTURES)


def _scenes(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def scene_of(stem: str) -> str:
    """The scene of a frame by its name, so that draws are alike in every layout; another name is its own scene."""
    named = _FRAME.fullmatch(stem)
    return named[1] if named else stem


def _mirror(folder: Path) -> Iterator[Pair]:
    for scene in _scenes(folder / "img"):
        labels = _labels(folder / "label" / scene.name)
        coarse = _pictures(folder / "mask" / scene.name)
        loose = {
            stem.removesuffix("_M"): MaskFile(file=File(path=path), white_is_object=False)
            for stem, path in coarse.items()
        }
        yield from _scene(scene, {"tight": labels, "loose": loose})


def _raw(folder: Path) -> Iterator[Pair]:
    for scene in _scenes(folder / "jpg"):
        yield from _scene(scene, {"tight": _labels(folder / "M" / scene.name)})


def _labels(folder: Path) -> dict[str, MaskFile]:
    found = _by_stem(folder, ".json").items()
    return {stem.removesuffix("_M"): MaskFile(file=File(path=path), format="rord-label") for stem, path in found}


def _scene(folder: Path, masks: Mapping[str, Mapping[str, MaskFile]]) -> Iterator[Pair]:
    """The frames of a scene; its plate is the one picture named ``*_G0001``."""
    pictures = _pictures(folder)
    plates = [stem for stem in pictures if _PLATE.fullmatch(stem)]
    plate = File(path=pictures[plates[0]]) if len(plates) == 1 else None
    for stem, path in pictures.items():
        if stem not in plates:
            found = {name: (files[stem],) for name, files in masks.items() if stem in files}
            yield _pair(stem, File(path=path), plate, found)


def _flat(folder: Path, inputs: str, truth: Truth, *, white_is_object: bool) -> Iterator[Pair]:
    """Three folders whose files share their stems."""
    plates, masks = _pictures(folder / "gt"), _pictures(folder / "mask")
    for stem, path in _pictures(folder / inputs).items():
        mask = MaskFile(file=File(path=masks[stem]), white_is_object=white_is_object) if stem in masks else None
        plate = File(path=plates[stem]) if stem in plates else None
        yield _pair(stem, File(path=path), plate, {"tight": (mask,)} if mask else {}, truth)


def _has(folder: Path, *names: str) -> bool:
    return all((folder / name).is_dir() for name in names)


_LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Iterator[Pair]]], ...] = (
    (lambda at: _has(at, "paste", "gt"), lambda at: _flat(at, "paste", "background", white_is_object=True)),
    (lambda at: _has(at, "img", "gt"), lambda at: _flat(at, "img", "blended", white_is_object=False)),
    (lambda at: _has(at, "jpg", "M"), _raw),
    (lambda at: bool(_scenes(at / "img")), _mirror),
)


def _tars(folder: Path, split: str) -> list[Path]:
    """The tars of a split by their names, or else all that do not name another one."""
    tars = [path for path in _visible(folder) if path.suffix == ".tar"]
    named = {path: path.stem.rpartition("-")[0] for path in tars}
    other = {name for key, names in _SPLITS.items() if key != split for name in names}
    own = [path for path in tars if named[path] in _SPLITS[split]]
    return own or [path for path in tars if named[path] not in other]


def _tar(path: Path) -> Iterator[Pair]:
    listed, fault = members(path)
    frames: dict[str, dict[str, File]] = {}
    for name, span in listed:
        stem, _, kind = PurePosixPath(name).name.partition(".")
        if is_plain(stem):
            frames.setdefault(_RANDOM_PREFIX.sub("", stem), {})[kind] = File(path=path, span=span)
    for stem, found in frames.items():
        if image := found.get("before.jpg"):
            masks: _Masks = {"tight": (MaskFile(file=found["mask.png"]),)} if "mask.png" in found else {}
            yield _pair(stem, image, found.get("after.jpg"), masks)
    if fault:
        drop = f"unreadable_tar: {path} {fault}"
        yield Pair(source="rord", id=path.name, scene="", image=File(path=path), url=URL, drop=drop)


def _pair(id_: str, image: File, plate: File | None, masks: _Masks, truth: Truth = "background") -> Pair:
    lacks = "" if plate else "missing_plate: expected one clean plate"
    if plate and not masks:
        lacks = "missing_mask: expected a mask or a label"
    return Pair(
        source="rord",
        id=id_,
        scene=scene_of(id_),
        image=image,
        truth=truth,
        background=plate,
        masks=masks,
        url=URL,
        drop=f"{lacks} of {image.path.name if image.span else image.path}" if lacks else "",
    )


def outlines(data: bytes) -> tuple[tuple[tuple[float, ...], ...], tuple[int, int]]:
    """The polygons of the objects in a label, each flat x, y, x, y …, and the (width, height) that they are given in.

    Objects are the annotations whose ``Class_ID`` begins with F; polygons of fewer than six numbers are no areas.

    Raises:
        BadImage: ``bad_label``.
    """
    try:
        table = json.loads(data.decode("utf-8-sig"))
        width, height = (int(side) for side in table["Raw_Data_Info."]["Resolution"].split(","))
        drawn = [
            tuple(float(value) for value in item["segmentation"])
            for item in table["Learning_Data_Info."]["Annotation"]
            if item["Class_ID"].startswith("F") and len(item["segmentation"]) >= 6
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadImage("bad_label", f"expected a label of RORD, got {data[:40]!r}: {error!r}") from error
    if width < 1 or height < 1 or not all(math.isfinite(value) for polygon in drawn for value in polygon):
        raise BadImage("bad_label", f"expected a resolution and finite coordinates, got {width}x{height}")
    return tuple(polygon[: len(polygon) // 2 * 2] for polygon in drawn), (width, height)

"""``layerkit decompose``: pictures taken apart by any model, into folders of layers.

    OUT/NAME/background.png foreground.png recomposition.png strip.png mask.png decomposition.json

With several masks the objects go one after the other, the topmost first, each out of the background that the last one
left, as LayerDecomp does; their foregrounds are then ``foreground-1.png``, the topmost, and so on.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, UsageError
from ..toolkit import images
from ..toolkit.compose import over_u8
from ..toolkit.cutout import salient_object
from ..toolkit.decomposers.predictions import SUFFIXES
from ..toolkit.decomposition import Checked, Decomposition
from ..toolkit.files import write_atomically
from ..toolkit.metrics.pixels import psnr
from ..toolkit.pictures import sheet
from ..toolkit.saliency import SaliencyModel
from .draw import generator
from .options import Progress, Report

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

RECORD = "decomposition.json"
_SIDE = 256  # px of a panel of the strip
_LARGEST = 0.95  # share of a picture that a mask may cover


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One row of the result, and ``decomposition.json`` of a picture.

    Attributes:
        name: of the folder.
        image: path of the picture.
        mask: paths of its masks; empty where it was proposed.
        proposed_by: the saliency model that proposed a mask, or empty.
        model: that took it apart.
        revision: of the model.
        seed: of its randomness.
        foregrounds: file names, the topmost first; none of a model that only removes.
        recomposition_psnr: of the recomposition, dB; None without a foreground, or where it is exact.
        fault: why there is nothing, or empty.
    """

    name: str
    image: str
    mask: tuple[str, ...] = ()
    proposed_by: str = ""
    model: str
    revision: str
    seed: int
    foregrounds: tuple[str, ...] = ()
    recomposition_psnr: float | None = None
    fault: str = ""

    def describe(self) -> str:
        """The row in words."""
        if self.fault:
            return f"{self.name}: {self.fault}"
        mask = f"mask proposed by {self.proposed_by}" if self.proposed_by else "mask given"
        psnr = "" if self.recomposition_psnr is None else f", recomposition {self.recomposition_psnr:.2f} dB"
        return f"{self.name}: {mask}{psnr}"


def decompose(
    source: Path,
    masks: Sequence[Path],
    model: Checked,
    out: Path,
    saliency: SaliencyModel,
    *,
    seed: int = 0,
    overwrite: bool = False,
    report: Report | None = None,
) -> list[Made]:
    """Take a picture, or all of a folder, apart.

    Args:
        source: a picture, or a folder of them.
        masks: of the picture, the topmost object first; of a folder, one folder with masks of the same names. White is
            the object. None lets ``saliency`` propose one.
        model: see ``toolkit.decomposers.load``.
        out: gets a folder a picture.
        saliency: proposes masks.
        seed: with a picture's name, of the model's randomness.
        overwrite: write over what is there.
        report: called after every picture.

    Returns:
        A row a picture; of a folder, one that cannot be used is a row with its fault.

    Raises:
        UsageError: no picture, or something is in the way; of a single picture also where it or a mask is of no use.
        BadImage: a single picture cannot be read.
    """
    pictures = _pictures(source)
    wanted = [(path, _masks_of(path, source, masks)) for path in pictures]
    _expect_free([out / path.stem for path in pictures], overwrite=overwrite)
    rows = []
    for path, own in wanted:
        try:
            rows.append(_one(path, own, model, out / path.stem, saliency, seed))
        except (BadImage, UsageError) as error:
            if source.is_file():
                raise
            rows.append(_row(path, own, model, seed, fault=str(error)))
        if report:
            report(Progress(stage="decompose", done=len(rows), total=len(pictures), kept=len(rows)))
    return rows


def _pictures(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(path for path in source.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UsageError(f"expected a picture or a folder of them ({', '.join(sorted(SUFFIXES))}), got {source}")
    names = [path.stem for path in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{source}: expected one picture of every name, got {twice} twice; rename one")
    return found


def _masks_of(path: Path, source: Path, masks: Sequence[Path]) -> list[Path]:
    """The mask files of a picture; none where they are to be proposed."""
    if source.is_file() or not masks:
        return list(masks)
    if len(masks) > 1 or not masks[0].is_dir():
        raise UsageError(
            f"--mask: expected one folder of masks for a folder of pictures, got {', '.join(map(str, masks))}"
        )
    return sorted(one for one in masks[0].glob(f"{path.stem}.*") if one.suffix.lower() in SUFFIXES)[:1] or [
        masks[0] / f"{path.stem}.png"
    ]


def _expect_free(folders: Sequence[Path], *, overwrite: bool) -> None:
    taken = [folder for folder in folders if (folder / RECORD).exists()]
    if taken and not overwrite:
        raise UsageError(f"--out: {taken[0]} is there already; name another folder, or add --overwrite")


def _one(path: Path, masks: list[Path], model: Checked, out: Path, saliency: SaliencyModel, seed: int) -> Made:
    """Take one picture apart and write its layers; the record last."""
    image = images.read(path)
    objects = [_mask(mask, image) for mask in masks] or [_proposed(image, path, saliency)]
    made = list(_layers(image, objects, model, path.stem, seed))
    background = made[-1].background
    foregrounds = [one.foreground for one in made if one.foreground is not None]
    names = _names(len(foregrounds))
    recomposition = reduce(lambda below, top: over_u8(top, below), reversed(foregrounds), background)
    files = {"background.png": background, **dict(zip(names, foregrounds, strict=True))}
    files["mask.png"] = np.any(objects, axis=0).astype(np.uint8) * 255
    files["strip.png"] = _strip(path.stem, image, files, recomposition if foregrounds else None)
    if foregrounds:
        files["recomposition.png"] = recomposition
    _clear(out)
    for name, picture in files.items():
        write_atomically(out / name, images.encode_png(picture))
    decibel = psnr(recomposition, image) if foregrounds else math.inf
    row = _row(
        path,
        masks,
        model,
        seed,
        proposed_by="" if masks else f"{saliency.name}@{saliency.revision}",
        foregrounds=tuple(names),
        recomposition_psnr=decibel if math.isfinite(decibel) else None,
    )
    write_atomically(out / RECORD, json.dumps(asdict(row), indent=1).encode())
    return row


def _clear(out: Path) -> None:
    """Make the folder, and take out what an earlier decomposition left there, its record first."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / RECORD, out / "recomposition.png", *out.glob("foreground*.png")):
        path.unlink(missing_ok=True)


def _row(path: Path, masks: Sequence[Path], model: Checked, seed: int, **known: object) -> Made:
    fixed = {"model": model.name, "revision": model.revision, "seed": seed}
    return Made(name=path.stem, image=str(path), mask=tuple(map(str, masks)), **fixed, **known)  # type: ignore[arg-type]


def _names(count: int) -> list[str]:
    return ["foreground.png"] if count == 1 else [f"foreground-{k + 1}.png" for k in range(count)]


def _layers(image: U8, objects: Sequence[Bool], model: Checked, name: str, seed: int) -> Iterator[Decomposition]:
    """Object after object out of what the last one left."""
    for turn, mask in enumerate(objects):
        made = model(image, mask, generator(str(seed), "decompose", name, turn), name)
        image = made.background
        yield made


def _mask(path: Path, image: U8) -> Bool:
    try:
        picture = images.read(path)
    except BadImage as error:
        raise UsageError(
            f"--mask: expected a picture, white where the object is, got {path}: {error.detail}"
        ) from error
    if picture.shape != image.shape:
        expected, got = ("x".join(map(str, one.shape[1::-1])) for one in (image, picture))
        raise UsageError(f"{path}: expected a mask of the picture's size, {expected}, got {got}")
    mask: Bool = picture.max(axis=2) > 127
    if not 0 < mask.mean() <= _LARGEST:
        raise UsageError(f"{path}: expected a mask that is white where the object is, {mask.mean():.0%} of it is white")
    return mask


def _proposed(image: U8, path: Path, saliency: SaliencyModel) -> Bool:
    mask = salient_object(image, saliency(image))
    if not mask.any():
        raise UsageError(f"{path}: {saliency.name} finds nothing salient; give --mask")
    return mask


def _strip(name: str, image: U8, files: dict[str, U8], recomposition: U8 | None) -> U8:
    shown = {"image": image, "mask": files["mask.png"], "background": files["background.png"]}
    shown |= {Path(file).stem: picture for file, picture in files.items() if file.startswith("foreground")}
    if recomposition is not None:
        shown["recomposition"] = recomposition
    return sheet(list(shown), [(name, list(shown.values()))], _SIDE)

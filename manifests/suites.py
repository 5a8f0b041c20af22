"""Suites: what a score is a score of, frozen and versioned. Changing any field is a new version.

A metric is written ``name[:variant][@region]``, as ``psnr@mask``; names, variants and regions are those of
``layerkit.toolkit.metrics``. Without a variant it is the first of the metric, without a region the ``whole`` picture.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .errors import UsageError
from .suite import Suite
from .suites_of_holes import HOLES

_SETS = ("fid:clean-fid", "fid:clip", "kid:clean-fid")
_REMOVAL = ("psnr", "psnr@mask", "psnr@outside", "ssim", "lpips:alex", "lpips:alex@mask", "edge-gradient", *_SETS)
_LAYERS = ("recomposition-psnr", "iou:soft", "iou:hard", "sad", "matting-mse", "colour-error", "layer-distance")
_SHADOW = ("psnr@shadow", "psnr:all-pixels@shadow", "rmse@shadow", "ssim@shadow")

_RORD = Suite(
    name="rord-tight",
    about="RORD, tight masks, raw clean plates; LayerDecomp's 1,029 frames are not published, so ours are drawn evenly "
    "from all scenes",
    reader="rord",
    split="test",
    n=1029,
    draw="random",
    metrics=_REMOVAL,
    main="psnr",
)
_DESOBA = Suite(
    name="desobav2-tight",
    about="DESOBAv2, object masks; the object stays in the truth, so the shadow without the object is scored alone",
    reader="desobav2",
    split="test",
    n=750,
    dilate=10,
    truth="shadow-free",
    paste_back="raw",
    metrics=_SHADOW,
    main="psnr@shadow",
)

_OBER = Suite(
    name="ober-tight",
    about="OBER, every row of its test split with a truth, masks of the object; scores by subset, of which the papers "
    "print OBER-Test; the size of its authors is not stated",
    reader="ober",
    split="test",
    metrics=_REMOVAL,
    main="psnr",
)
_RES = Suite(
    name="res",
    about="ReS: the subject is moved to where the other view has it, and the picture compared with that view, which "
    "its authors call no exact truth; moved as their loader does it, between centres and not scaled",
    reader="res",
    split="moved",
    resize="shorter-side",
    dilate=1,
    truth="repositioned",
    paste_back="raw",
    metrics=("lpips:alex", "psnr", "ssim", "users:quality", "users:consistency"),
    main="lpips:alex",
)

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            name="demo",
            about="objects of the embedded photographs with cast shadows on others; every layer is known",
            reader="demo",
            split="all",
            n=48,
            size=256,
            resize="native",
            metrics=(*_REMOVAL, "psnr@shadow", *_LAYERS),
            main="psnr",
            ids_sha256="6f17303bb0ff24e5529f4b1751ddabf05955dbb8f00accf36e192f693136058b",
            pixels_sha256="3bc80f7d0906296dd931a0a8454de89b843d030276dd4444a6d891ac5a50918a",
        ),
        _RORD,
        replace(_RORD, name="rord-loose", mask="loose", about="RORD, coarse masks, raw clean plates; see rord-tight"),
        replace(
            _RORD,
            name="rord-scenes",
            n=0,
            draw="one-per-scene",
            about="RORD, one frame of every scene, tight masks, raw clean plates",
        ),
        replace(
            _RORD,
            name="rord-blended",
            truth="blended",
            about="RORD as its authors' script writes it: its masks, plates blended into the frames",
        ),
        Suite(
            name="mulan-layerdecomp",
            about="MuLAn over COCO without the top-most layer, mask dilated by 10 px; which 1,000 pictures LayerDecomp "
            "drew is not published",
            reader="mulan",
            split="coco",
            n=1000,
            draw="random",
            dilate=10,
            metrics=(*_REMOVAL, *_LAYERS, "jitter-fid:clean-fid"),
            main="psnr",
        ),
        Suite(
            name="mulan-outpaint",
            about="MuLAn over COCO at 1024 px without the top-most layer; which 526 pictures Outpaint-and-Remove took, "
            "and with which masks, is not published",
            reader="mulan",
            split="coco",
            n=526,
            draw="random",
            size=1024,
            metrics=(*_REMOVAL, *_LAYERS),
            main="psnr",
        ),
        _DESOBA,
        replace(
            _DESOBA,
            name="desobav2-loose",
            mask="loose",
            paste_back="both",
            about="DESOBAv2, masks of object and shadow; the shadow without the object is scored alone",
        ),
        _OBER,
        replace(
            _OBER,
            name="ober-loose",
            mask="loose",
            about="OBER, every row of its test split with a truth, masks of the object and its effects; see ober-tight",
        ),
        Suite(
            name="removalbench",
            about="RemovalBench, every pair, stretched to 1024 px; how its authors make that size is not stated",
            reader="removalbench",
            split="test",
            size=1024,
            metrics=(*_REMOVAL, "lpips:squeeze"),
            main="psnr",
        ),
        Suite(
            name="aim-500",
            about="AIM-500, alpha mattes at 1024 px of the longer side, which is ours; models are given all but the "
            "background of the trimap; nothing is known of what is behind the object",
            reader="aim-500",
            split="test",
            size=1024,
            resize="longer-side",
            mask="loose",
            truth="alpha",
            paste_back="raw",
            metrics=("sad", "matting-mse", "gradient", "connectivity", "iou:soft", "iou:hard"),
            main="sad",
        ),
        _RES,
        replace(
            _RES,
            name="res-scaled",
            split="scaled",
            about="ReS, the subject also scaled by the root of the ratio of its areas in both views: our addition",
        ),
        *HOLES,
        Suite(
            name="ll2i",
            about="layers drawn of captions, against the held-out pictures of a build of recipe text2layer, for the "
            "test set of Text2Layer is not published; IoU with BiRefNet's saliency for ICON's",
            reader="ll2i",
            split="held-out",
            n=20000,
            draw="random",
            size=256,
            paste_back="raw",
            metrics=(
                "fid:clean-fid@composed",
                "clip-score:vit-l-14@composed",
                "mask-iou:birefnet",
                "mask-iou:spectral",
                "mask-iou:human",
            ),
            main="fid:clean-fid@composed",
        ),
        Suite(
            name="layerfusion",
            about="layers drawn of prompts, against foregrounds of LayerDiffuse and backgrounds of SDXL drawn of the "
            "same; LayerFusion's prompts are not published",
            reader="layerfusion",
            split="",
            size=1024,
            paste_back="raw",
            metrics=(
                "clip-score:vit-bigg-14@foreground",
                "kid:torch-fidelity@foreground",
                "fid:first-pool@foreground",
                "clip-score:vit-bigg-14",
                "kid:torch-fidelity",
                "fid:first-pool",
            ),
            main="kid:torch-fidelity@foreground",
        ),
    )
}
"""Every shipped suite by name. Sizes, numbers and dilations are those of the papers that ``references.toml`` cites;
where a paper gives one side alone, as 512 px, both are stretched to it."""

GROUPS: dict[str, tuple[str, ...]] = {
    "rord": ("rord-tight", "rord-loose"),
    "mulan": ("mulan-layerdecomp", "mulan-outpaint"),
    "ober": ("ober-tight", "ober-loose"),
    "desobav2": ("desobav2-tight", "desobav2-loose"),
}
"""Names that stand for several suites."""

_BUILT = "triplets:"


def find(name: str) -> Suite:
    """The suite of a name, or of ``triplets:DIR``, the held-out split of a data set that was built.

    Raises:
        UsageError: unknown; the known names are listed.
    """
    if name.startswith(_BUILT) and name != _BUILT:
        return _built(Path(name.removeprefix(_BUILT)))
    if name not in SUITES:
        known = ", ".join([*SUITES, *GROUPS])
        raise UsageError(f"--suite: expected one of {known} or triplets:DIR, got {name!r}")
    return SUITES[name]


def resolve(names: Iterable[str]) -> tuple[Suite, ...]:
    """The suites of names and of groups' names, each once, in order.

    Raises:
        UsageError: see :func:`find`.
    """
    return tuple(dict.fromkeys(find(one) for name in names for one in GROUPS.get(name, (name,))))


def _built(folder: Path) -> Suite:
    return Suite(
        name=f"{_BUILT}{folder.resolve().name}",
        about="the held-out split of a data set of layerkit; every layer is known",
        reader="build",
        split="held-out",
        size=0,
        resize="native",
        metrics=SUITES["demo"].metrics,
        main="psnr",
        version=2,  # 1 took triplets on one background for scenes of their own
        folder=str(folder),
    )

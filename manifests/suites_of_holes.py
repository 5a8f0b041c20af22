"""Suites of inpainting and outpainting: the picture is its own truth, of which a model is not shown the hole.

Predictions are compared with the truth pasted back outside the hole, as ASUKA's scripts do it (arXiv 2312.04831).
"""

from dataclasses import replace

from .suite import Suite

_IDS = ("u-ids:in-sample", "u-ids:cross-validated", "p-ids:in-sample", "p-ids:cross-validated")
_SEEN = ("lpips:alex", "psnr", "ssim:grey")
_COMPOSITES = tuple(f"{metric}@composite" for metric in (*_SEEN, "fid:asuka", "fid:clean-fid", *_IDS))
_OF_ASUKA = ("u-ids:asuka@composite", "p-ids:asuka@composite")
_WIDE = tuple(f"{metric}:asuka-1024@composite" for metric in ("u-ids", "p-ids"))

_MISATO = Suite(
    name="misato",
    about="MISATO at 512 px, as ASUKA's scripts score it; the hole is shown to models as grey",
    reader="misato",
    split="512",
    n=2000,
    mask="given",
    truth="hidden",
    paste_back="raw",
    metrics=(*_COMPOSITES, *_OF_ASUKA, "psnr@mask", "edge-gradient"),
    main="lpips:alex@composite",
)
_PLACES2 = replace(
    _MISATO,
    name="places2",
    about="the validation pictures of Places365 at 512 px with free-form masks of ours, drawn from their ids, for "
    "those of ASUKA are not published",
    reader="places2",
    split="val",
    n=0,
    mask="drawn",
)

HOLES: tuple[Suite, ...] = (
    _MISATO,
    replace(
        _MISATO,
        name="misato-1024",
        about="MISATO at 1024 px, as ASUKA's scripts score it, whose discriminative scores then keep 1024 components",
        split="1024",
        n=1500,
        size=1024,
        metrics=(*_COMPOSITES, *_WIDE, "psnr@mask", "edge-gradient"),
    ),
    _PLACES2,
    replace(
        _PLACES2,
        name="places2-given",
        about="the validation pictures of Places365 at 512 px with masks of yours, in masks/ beside them: scores are "
        "comparable under the same masks alone",
        mask="given",
    ),
    replace(
        _PLACES2,
        name="outpainting",
        about="any folder of pictures at 512 px, as Flickr-Scenery, of which the middle half of both sides is given; "
        "which part SEELE gives is not stated",
        reader="outpainting",
        split="all",
        mask="outside",
    ),
)
"""Their rows in ``suites.SUITES``."""

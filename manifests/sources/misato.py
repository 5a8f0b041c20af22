"""Reader ``misato``: MISATO, pictures with a hole to fill (Wang et al., ASUKA, CVPR 2025).

``512/`` and ``1024/`` each hold ``image/*.png`` and ``mask/*.png``, white in the hole; in ``1024/`` a mask is called
``00`` and the picture's name. Numbers tell the category: 0 to 499 outdoor landscape, 500 to 999 indoor, 1000 to 1499
building, 1500 to 1999 background. ``1024/`` has 1,500 pairs, for COCO, where the backgrounds come from, lacks pictures
of that size; that its numbers are those of the other three is our reading. A name that is no number has no category.

ASUKA's scripts take a mask as white from 0.5 on for PSNR, LPIPS and SSIM, and above 0.5 for FID and the discriminative
scores, which is the same in 8 bits: above 127. Only their gradient blends by what is between.
"""

from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair

URL = "https://huggingface.co/datasets/yikaiwang/MISATO"

_BLOCK = 500
_CATEGORIES = ("outdoor landscape", "indoor", "building", "background")
_INDOOR = "indoor"  # Matterport3D, whose terms are to be signed


def pairs(root: Path, split: str = "512") -> Iterator[Pair]:
    """Yield a pair a picture, in the order of their names.

    Args:
        root: the folder with ``512`` and ``1024``, or one that holds it.
        split: ``512`` or ``1024``.

    Raises:
        UsageError: no such folder with ``image`` and ``mask``.
    """
    places = (root, *sorted(path for path in root.iterdir() if path.is_dir()))
    folder = next((place / split for place in places if (place / split / "image").is_dir()), None)
    if folder is None or not (folder / "mask").is_dir():
        raise UsageError(f"{root}: expected MISATO's {split}/image and {split}/mask, here or in a folder, found none")
    return (_pair(path) for path in sorted((folder / "image").glob("[!.]*.png")))


def _pair(path: Path) -> Pair:
    masks = path.parents[1] / "mask"
    named = (masks / f"00{path.name}", masks / path.name)
    mask = next((one for one in named if one.is_file()), None)
    category = _category(path.stem)
    return Pair(
        source="misato",
        id=path.stem,
        scene=path.stem,
        image=File(path=path),
        truth="hidden",
        masks={"given": (MaskFile(file=File(path=mask)),)} if mask else {},
        category=category,
        licence="matterport3d-terms" if category == _INDOOR else "unknown",
        url=URL,
        drop="" if mask else f"missing_mask: expected {' or '.join(map(str, named))}",
    )


def _category(stem: str) -> str:
    number = int(stem) // _BLOCK if stem.isascii() and stem.isdigit() and len(stem) < 9 else len(_CATEGORIES)
    return _CATEGORIES[number] if number < len(_CATEGORIES) else ""

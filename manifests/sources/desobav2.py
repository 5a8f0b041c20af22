"""Reader ``desobav2``: DESOBAv2, photographs beside themselves without the shadow of one object (Liu et al., 2024).

``train.txt`` and ``test.txt`` list stems, the latter also with an ending; six folders of ``STEM.jpg`` lie beside them.
``shadowfree_imgs`` still shows the object: there is no picture without it, so such a pair can only score the shadow,
without the object. That truth was itself made by detection and inpainting. Masks are JPEG, white in the region, and
read at a threshold of 127; the official evaluation maps them to -1..1 and takes what exceeds 0.5, in effect 191.

``background-shadow`` is among the masks where the set has it: a picture is ``bos`` where other objects cast shadows in
the background, else ``bos-free``.
"""

from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair
from .foreign import is_plain

URL = "https://github.com/bcmi/Object-Shadow-Generation-Dataset-DESOBAv2"

_FOLDERS = {
    "image": "shadow_imgs",
    "background": "shadowfree_imgs",
    "object": "object_masks",
    "shadow": "shadow_masks",
    "background-object": "background_object_masks",
    "background-shadow": "background_shadow_masks",
}
_NEEDED = ("image", "background", "object", "shadow")
_MISSING = {"image": "missing_image", "background": "missing_shadow_free", "object": "missing_mask"}


def pairs(root: Path, split: str = "test") -> Iterator[Pair]:
    """Yield a pair a line of the split's list.

    Raises:
        UsageError: no such list, or one that is no text.
    """
    places = (root, *sorted(path for path in root.iterdir() if path.is_dir()))
    listed = next((place / f"{split}.txt" for place in places if (place / f"{split}.txt").is_file()), None)
    if listed is None:
        raise UsageError(f"{root}: expected DESOBAv2's {split}.txt beside shadow_imgs, here or in a folder, found none")
    try:
        lines = listed.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{listed}: expected a list in UTF-8: {error}") from error
    names = dict.fromkeys(line.strip() for line in lines if line.strip())
    return (_pair(listed.parent, name) for name in names)


def _pair(root: Path, name: str) -> Pair:
    stem = name.removesuffix(".jpg").removesuffix(".png")
    files = {role: root / folder / f"{stem}.jpg" for role, folder in _FOLDERS.items()} if is_plain(stem) else {}
    there = {role: path for role, path in files.items() if path.is_file()}
    masks = {role: MaskFile(file=File(path=path)) for role, path in there.items() if role not in _NEEDED[:2]}
    lacks = next((role for role in _NEEDED if role not in there), "")
    drop = f"{_MISSING.get(lacks, 'missing_mask')}: expected {files.get(lacks)}" if lacks else ""
    return Pair(
        source="desobav2",
        id=stem,
        scene=stem,
        image=File(path=files.get("image", root)),
        truth="shadow-free",
        background=File(path=there["background"]) if "background" in there else None,
        masks={role: (mask,) for role, mask in masks.items()} | _policies(masks),
        url=URL,
        drop=drop if files else f"path_outside_root: expected the stem of a file, got {name[:200]!r}",
    )


def _policies(masks: dict[str, MaskFile]) -> dict[str, tuple[MaskFile, ...]]:
    """``tight`` is the object, ``loose`` the object with its shadow."""
    if "object" not in masks or "shadow" not in masks:
        return {}
    return {"tight": (masks["object"],), "loose": (masks["object"], masks["shadow"])}

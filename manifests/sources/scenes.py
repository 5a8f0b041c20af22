"""Readers ``places2`` and ``outpainting``: folders of pictures, each its own truth, with holes that are drawn.

``places2`` is the validation set of Places365 in any of its published layouts: ``val/CLASS/*.jpg`` of
``places365standard_easyformat``, and the flat ``val_256`` and ``val_large`` that torchvision unpacks. The masks that
ASUKA scored it with are not published. So each picture has one drawn from its name (``drawn``), and another
(``given``) where one lies in ``masks/`` beside, with the same folders and stems: white is the hole.

``outpainting`` is any folder of pictures, of any nesting, such as Flickr-Scenery: all but the middle is the hole.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair
from .photos import picture_ids

_FOLDERS = ("val", "val_256", "val_large")


def places(root: Path, split: str = "val") -> Iterator[Pair]:
    """Yield a pair a picture of the validation set; its category is its class, where folders tell that.

    Args:
        root: the folder that is unpacked, or one that holds it.
        split: ``val``; there is no other.

    Raises:
        UsageError: no such folder, or no picture in it.
    """
    tops = (root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name not in _FOLDERS))
    folder = next((top / name for top in tops for name in _FOLDERS if (top / name).is_dir()), None)
    if folder is None:
        raise UsageError(
            f"{root}: expected Places365 in {', '.join(_FOLDERS)}, here or in a folder, found none of them"
        )
    given = _masks(folder.parent / "masks")
    for name in picture_ids(folder):
        id_ = PurePosixPath(name).with_suffix("").as_posix()
        image = File(path=folder / name)
        masks = {"drawn": (MaskFile(file=image, format="free-form", seed=id_),)}
        if id_ in given:
            masks["given"] = (MaskFile(file=File(path=given[id_])),)
        yield Pair(
            source="places2",
            id=id_,
            scene=id_,
            image=image,
            truth="hidden",
            masks=masks,
            category=id_.rpartition("/")[0],
            licence="places2-terms",
            url="http://places2.csail.mit.edu",
        )


def _masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder by the path of their stems; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    return {PurePosixPath(name).with_suffix("").as_posix(): folder / name for name in picture_ids(folder)}


def outpainting(root: Path, split: str = "all") -> Iterator[Pair]:
    """Yield a pair a picture below ``root``; its id is its path.

    Args:
        root: see the module.
        split: not looked at; there is one.

    Raises:
        UsageError: no picture, or a folder that cannot be read.
    """
    for name in picture_ids(root):
        image = File(path=root / name)
        yield Pair(
            source="outpainting",
            id=name,
            scene=name,
            image=image,
            truth="hidden",
            masks={"outside": (MaskFile(file=image, format="outside-crop"),)},
        )

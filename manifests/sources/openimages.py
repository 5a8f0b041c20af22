"""Source ``openimages``: Open Images V5 to V7 (Kuznetsova et al. 2020; Benenson et al. 2019), as it lies on disk.

Two layouts are known, and any part of the data set will do, for what is listed is what is there:

- as downloaded: ``train/<ImageID>.jpg`` (or ``train_0.tar`` … unpacked from ``.tar.gz`` once), the tables in the root,
  ``annotations/`` or ``metadata/`` under their own names, masks in ``train-masks-0/`` … or ``masks/``, or as
  downloaded in ``train-masks-0.zip`` …, which are read in place;
- by FiftyOne: ``train/data/``, ``train/labels/{detections,segmentations}.csv``, ``train/labels/masks/``,
  ``train/metadata/{classes,image_ids}.csv``; one split's folder may be the root as well.

A picture with listed masks has a seed each; one that cannot serve carries why: a flag that is set or unknown
(``occluded``, ``unknown_inside`` …, ``unknown_flags`` without a row of boxes), ``touches_border``, ``missing_mask``,
``path_outside_root``. A picture without is a background. A mask may have another size than its picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..entry import Entry, Seed, Use
from ..errors import UsageError
from .foreign import is_plain, licence_of, touches_border
from .openimages_pictures import Masks, Place, find_pictures
from .openimages_tables import ImageRow, Instance, judge_by_boxes, read_classes, read_images, read_instances

SPLITS = ("train", "validation", "test")

_TABLES = {
    "images": (
        "{split}-images-boxable-with-rotation.csv",
        "{split}-images-with-rotation.csv",
        "oidv6-{split}-images-with-labels-with-rotation.csv",
        "image_ids_and_rotation.csv",
        "image_ids.csv",
    ),
    "boxes": ("oidv6-{split}-annotations-bbox.csv", "{split}-annotations-bbox.csv", "detections.csv"),
    "masks": ("{split}-annotations-object-segmentation.csv", "segmentations.csv"),
    "classes": (
        "class-descriptions-boxable.csv",
        "oidv6-class-descriptions-boxable.csv",
        "oidv7-class-descriptions-boxable.csv",
        "classes.csv",
    ),
}


@dataclass(frozen=True, slots=True)
class _Split:
    name: str
    root: Path
    base: Path  # of what is this split's alone; the root itself where that is all there is

    def pictures(self) -> dict[str, Place]:
        """Its pictures by ImageID."""
        folders = [self.base / "data"] if self.base == self.root else [self.base / "data", self.base]
        return find_pictures(folders, [self.root, self.root / "tar", self.root / self.name], self.name)

    def table(self, kind: str) -> Path | None:
        """A table of this split, FiftyOne's own folders first."""
        near = [self.base / "labels", self.base / "metadata", self.base]
        far = [self.root, self.root / "annotations", self.root / "metadata", self.root / "labels"]
        names = [name.format(split=self.name) for name in _TABLES[kind]]
        return next((folder / name for folder in near + far for name in names if (folder / name).is_file()), None)

    def instances(self, pictures: dict[str, Place]) -> dict[str, list[Instance]]:
        """Its segmented objects by ImageID, flags looked up."""
        masks, boxes = self.table("masks"), self.table("boxes")
        instances = read_instances(masks, pictures) if masks else {}
        if boxes and instances:
            judge_by_boxes(boxes, instances)
        return instances

    def masks(self) -> Masks:
        """Where its masks lie."""
        return Masks([self.base, self.root, self.root / "annotations"], self.name)


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a picture that is there, in the order of the tables of pictures, then of the ids.

    Held in memory: the names of one split's pictures and its masks; the table of pictures is streamed.

    Raises:
        UsageError: no picture, or a table, tar or zip that cannot be read.
    """
    found = False
    for split in _splits(root):
        pictures = split.pictures()
        if pictures:
            found = True
            yield from _entries(split, pictures)
    if not found:
        raise UsageError(
            f"{root}: expected Open Images pictures in train/, validation/ or test/ (<ImageID>.jpg, FiftyOne's "
            "data/<ImageID>.jpg) or in train_0.tar …, found none"
        )


def _splits(root: Path) -> list[_Split]:
    alone = (root / "data").is_dir() and not any((root / name).is_dir() for name in SPLITS)
    if alone:
        return [_Split(root.name if root.name in SPLITS else "train", root, root)]
    return [_Split(name, root, root / name) for name in SPLITS]


def _entries(split: _Split, pictures: dict[str, Place]) -> Iterator[Entry]:
    """Take ``pictures`` and the instances apart, so that memory goes down as entries go out."""
    instances, masks = split.instances(pictures), split.masks()
    table, classes = split.table("images"), split.table("classes")
    names = read_classes(classes) if classes else {}

    def entry(row: ImageRow) -> Entry:
        seeds = tuple(_seed(instance, masks, names) for instance in instances.pop(row.id, ()))
        return _entry(split.name, row, pictures.pop(row.id), seeds)

    for row in read_images(table) if table else ():
        if row.id in pictures:
            yield entry(row)
        elif not is_plain(row.id):
            yield Entry(source="openimages", id=f"{split.name}/{row.id}", path=split.base, drop="path_outside_root")
    for id_ in sorted(pictures):
        yield entry(ImageRow(id_, "", "", "", ""))


def _entry(split: str, row: ImageRow, place: Place, seeds: tuple[Seed, ...]) -> Entry:
    path, span = place
    rotation = _degrees(row.rotation)
    uses: tuple[Use, ...] = ("foreground", "background", "cut") if seeds else ("background", "cut")
    return Entry(
        source="openimages",
        id=f"{split}/{row.id}",
        path=path if span else path / f"{row.id}.jpg",
        span=span,
        rotation=rotation or 0,
        uses=uses,
        licence=licence_of(row.licence),
        author=row.author,
        url=row.url,
        seeds=seeds,
        drop=f"bad_rotation: {row.rotation}" if rotation is None else "",
    )


@cache
def _degrees(text: str) -> int | None:
    """``Rotation`` as degrees counter-clockwise, 0 where it is not known, None where it is no quarter turn."""
    try:
        degrees = float(text if text.lower() not in ("", "nan") else 0)
    except ValueError:
        return None
    return int(degrees) if degrees in (0, 90, 180, 270) else None


def _seed(instance: Instance, masks: Masks, names: dict[str, str]) -> Seed:
    drop = _offence(instance)
    # Also of one that is no foreground: a background must be rid of it.
    place = masks.find(instance.mask) if is_plain(instance.mask) else None
    mask, member = place or (None, "")
    return Seed(
        id=instance.id,
        method="mask",
        mask=mask,
        mask_member=member,
        caption=names.get(instance.label, ""),
        drop=drop or ("" if place else "missing_mask"),
    )


def _offence(instance: Instance) -> str:
    """Why the tables rule an instance out; empty where they do not."""
    left, right, top, bottom = instance.box
    if not is_plain(instance.mask):
        return "path_outside_root"
    return instance.drop or ("touches_border" if touches_border(left, top, right, bottom) else "")

"""Small roots of MuLAn, LayerDiffuse and Open Images in their published layouts, from the pictures of ../shared/data.

COCO photographs stand in for all: their outlines become the layers of MuLAn and the masks of Open Images. What the
layouts allow is here once: both folders of base pictures and one base that is missing, prompts in jsonl, masks in
folders and in zips, a rotation, a flag that is set and one that is unknown, a licence that nobody knows.
"""

import hashlib
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from skimage import data as skimage_data

from layerkit.toolkit import images, matte

U8 = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

IMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation"
)
BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
CLICKS = ",XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
MASKS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
BY = "https://creativecommons.org/licenses/by/2.0/"


class Object(NamedTuple):
    """An object of a photograph: its class, its mask, and whether it goes on beyond the border."""

    name: str
    mask: Mask
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photograph with the objects in it that are neither tiny nor most of the picture."""

    id: str
    picture: U8
    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A picture of Open Images as the tables tell it."""

    id: str
    split: str
    rotation: int = 0
    licence: str = BY


def write_roots(folder: Path, shared: Path, side: int, count: int = 36) -> dict[str, Path]:
    """Write all three roots; pictures are at most ``side`` px long, ``count`` of them are COCO's.

    Returns:
        Source name to folder.
    """
    photos = list(_coco(shared / "coco128", side, count))
    layered = [photo for photo in photos if sum(not one.truncated for one in photo.objects)][::3]
    taken = {photo.id for photo in layered}
    roots = {name: folder / name for name in ("mulan", "layerdiffuse", "openimages")}
    write_mulan(roots["mulan"], layered)
    write_layerdiffuse(roots["layerdiffuse"], shared, side)
    plain = [Photo(name, _shrunk(getattr(skimage_data, name)(), side), ()) for name in ("rocket", "coffee", "chelsea")]
    write_openimages(roots["openimages"], [*(photo for photo in photos if photo.id not in taken), *plain])
    return roots


def _coco(root: Path, side: int, count: int) -> Iterator[Photo]:
    """Photographs with objects and some without, from COCO's instances."""
    table = json.loads((root / "annotations" / "instances_train2017.json").read_bytes())
    names = {row["id"]: row["name"] for row in table["categories"]}
    for image in table["images"][:count]:
        picture = images.read(root / "images" / "train2017" / image["file_name"])
        rows = [row for row in table["annotations"] if row["image_id"] == image["id"] and not row["iscrowd"]]
        size = (image["height"], image["width"])
        objects = [_object(names[row["category_id"]], row, size) for row in rows]
        small = _shrunk(picture, side)
        wanted = [one for one in objects if 0.015 < one.mask.mean() < 0.45]
        resized = [one._replace(mask=_resized(one.mask, small.shape)) for one in wanted]
        yield Photo(Path(image["file_name"]).stem, small, tuple(resized))


def _object(name: str, row: dict[str, Any], size: tuple[int, int]) -> Object:
    mask = np.zeros(size, np.uint8)
    for outline in row["segmentation"]:
        cv2.fillPoly(mask, [np.rint(outline).astype(np.int32).reshape(-1, 1, 2)], 1)
    left, top, width, height = row["bbox"]
    margin = min(left / size[1], top / size[0], 1 - (left + width) / size[1], 1 - (top + height) / size[0])
    return Object(name, mask > 0, margin < 0.01)


def _shrunk(picture: U8, side: int) -> U8:
    factor = min(1, side / max(picture.shape[:2]))
    height, width = (round(factor * edge) for edge in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def _resized(mask: Mask, shape: tuple[int, ...]) -> Mask:
    return np.asarray(cv2.resize(mask.astype(np.uint8), shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)


# MuLAn


def write_mulan(root: Path, photos: Sequence[Photo]) -> None:
    """Annotations of COCO's part over lossless pictures under COCO's names, and one whose base is not there."""
    annotations = root / "annotations"
    annotations.mkdir(parents=True)
    for k, photo in enumerate(photos):
        folder = root / ("val2017" if k % 4 == 3 else "train2017")
        folder.mkdir(exist_ok=True)
        Image.fromarray(photo.picture).save(folder / f"{photo.id}.jpg", format="png", compress_level=1)
        (annotations / f"{photo.id}.p.zl").write_bytes(annotation(photo))
    (annotations / "000000999999.p.zl").write_bytes(annotation(photos[0]))


def annotation(photo: Photo) -> bytes:
    """``<id>.p.zl`` of a photograph: whole objects as instances, the largest lowest; what was behind them is filled."""
    whole = sorted((one for one in photo.objects if not one.truncated), key=lambda one: -one.mask.sum())[:3]
    covered = _grown(np.logical_or.reduce([one.mask for one in whole]), 9)
    above = [np.logical_or.reduce([np.zeros_like(covered), *(one.mask for one in whole[k + 1 :])]) for k in range(3)]
    table = {
        "captioning": {"llava": "llava-v1", "blip2": "blip2-opt", "clip": np.float32(0.3)},
        "image": {"llava": " and ".join(one.name for one in whole), "blip2": "a photo"},
        "background": {"llava": "the scene", "blip2": "", **_part(photo.picture, ~covered, covered)},
        "instances": {
            k: {"blip2": f"a {one.name}", "instance_alpha": _soft(one.mask)}
            | _part(photo.picture, one.mask & ~above[k], _grown(one.mask, 5))
            for k, one in enumerate(whole)
        },
    }
    return zlib.compress(pickle.dumps(table, 4), 1)


def _part(picture: U8, kept: Mask, needed: Mask) -> dict[str, Any]:
    """What is kept of the base, and the difference that fills the rest of what is needed."""
    missing = (needed & ~kept).astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(picture), missing, 3, cv2.INPAINT_TELEA)
    return {"original_image_mask": kept, "inpainted_delta": filled * missing[..., None]}


def _soft(mask: Mask) -> Image.Image:
    return Image.fromarray(cv2.GaussianBlur(mask.astype(np.uint8) * 255, (3, 3), 0))


def _grown(mask: Mask, width: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8)) > 0)


# LayerDiffuse


def write_layerdiffuse(root: Path, shared: Path, side: int) -> None:
    """RGBA outputs, straight alpha, with prompts in a jsonl; one row names a picture that is not there."""
    root.mkdir(parents=True)
    rows = []
    for k, (name, picture, alpha) in enumerate(_mattes(shared)):
        margin = side // 20  # the photographs cut their objects off at the border; LayerDiffuse leaves them room
        small, alpha = (
            np.pad(_shrunk(one, side), [(margin, margin)] * 2 + [(0, 0)] * (one.ndim - 2)) for one in (picture, alpha)
        )
        Image.fromarray(np.dstack([matte.estimate_colour(small, alpha), alpha])).save(root / f"{k:04d}.png")
        rows.append({"file": f"{k:04d}.png", "prompt": f"{name}, high quality", "seed": k})
    rows.append({"file": "gone.png", "prompt": "nothing"})
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _mattes(shared: Path) -> Iterator[tuple[str, U8, U8]]:
    """Photographs with their alpha."""
    animals = shared / "gfm_am2k" / "demo" / "src" / "am2k"
    for path in sorted(animals.glob("*.jpg")):
        yield "an animal", images.read(path), images.read(path.with_suffix(".png"))[..., 0]
    training = shared / "alphamatting" / "Training"
    for path in sorted((training / "Images").glob("*.png")):
        yield "a toy", images.read(path), images.read(training / "GroundTruth" / path.name)[..., 0]
    lemur = images.read(shared / "pymatting" / "data" / "lemur" / "lemur_cutout.png", alpha=True)
    yield "a lemur", lemur[..., :3], lemur[..., 3]


# Open Images


def write_openimages(root: Path, photos: Sequence[Photo]) -> None:
    """Two splits: ``train`` with masks in folders, ``validation`` with masks in the zips that they come in.

    Every fifth picture is stored on its side, and its Rotation says so; the last one has no known licence.
    """
    rows = [
        (Row(_image_id(photo.id), "validation" if k % 3 == 2 else "train", 90 if k % 5 == 4 else 0), photo)
        for k, photo in enumerate(photos)
    ]
    rows[-1] = (Row(rows[-1][0].id, rows[-1][0].split, licence=""), photos[-1])
    labels = {one.name: f"/m/0{k}x" for k, one in enumerate(one for photo in photos for one in photo.objects)}
    _lines(root / "class-descriptions-boxable.csv", *(f"{mid},{name.title()}" for name, mid in labels.items()))
    _write_split(root, [row for row in rows if row[0].split == "train"], labels, "oidv6-train", CLICKS)
    _write_split(root, [row for row in rows if row[0].split == "validation"], labels, "validation", "")


def _write_split(
    root: Path, rows: Sequence[tuple[Row, Photo]], labels: dict[str, str], boxes_of: str, clicks: str
) -> None:
    split = rows[0][0].split
    pictures, boxes, masks = [IMAGES], [BOXES + clicks], [MASKS]
    for row, photo in rows:
        _save_picture(root / split / f"{row.id}.jpg", _lying(photo.picture, row.rotation))
        by = '"Wen, L."' if row.licence else ""
        told = f"{row.id},{split},https://o,https://land/{row.id},{row.licence},https://p,{by},A title,1,m==,https://t"
        pictures.append(f"{told},{row.rotation:.1f}")
        for k, one in enumerate(photo.objects):
            mask = _lying(one.mask, row.rotation)
            box = ",".join(f"{share:.6f}" for share in _box(mask))
            flags = "0,1,0,0,0" if one.truncated else ("-1,0,0,0,0" if k == 2 else "0,0,0,0,0")
            boxes.append(f"{row.id},xclick,{labels[one.name]},1,{box},{flags}" + 8 * ",0.3" * bool(clicks))
            name = f"{row.id}_{labels[one.name].replace('/', '')}_{k:08x}.png"
            masks.append(f"{name},{row.id},{labels[one.name]},{k:08x},{box},0.9,0.3 0.4 1")
            _save_mask(root, split, name, mask)
    kind = "images-boxable-with-rotation" if clicks else "images-with-rotation"
    _lines(root / f"{split}-{kind}.csv", *pictures)
    _lines(root / f"{boxes_of}-annotations-bbox.csv", *boxes)
    _lines(root / f"{split}-annotations-object-segmentation.csv", *masks)


def _save_picture(path: Path, picture: U8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_jpeg(np.ascontiguousarray(picture), 95))


def _save_mask(root: Path, split: str, name: str, mask: Mask) -> None:
    """One bit a pixel and another size than the picture's, as published."""
    height, width = mask.shape
    png = io.BytesIO()
    Image.fromarray(mask).resize((width * 3 // 4, height * 3 // 4), Image.Resampling.NEAREST).save(png, "png")
    if split == "train":
        folder = root / f"{split}-masks-{name[0]}"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(png.getvalue())
        return
    with zipfile.ZipFile(root / f"{split}-masks-{name[0]}.zip", "a") as archive:
        archive.writestr(name, png.getvalue())


def _lying(picture: Any, rotation: int) -> Any:
    """As stored: turned clockwise by what the table says to turn it back counter-clockwise."""
    return np.ascontiguousarray(np.rot90(picture, -rotation // 90))


def _box(mask: Mask) -> tuple[float, float, float, float]:
    """XMin, XMax, YMin, YMax as shares."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    height, width = mask.shape
    return columns[0] / width, (columns[-1] + 1) / width, rows[0] / height, (rows[-1] + 1) / height


def _image_id(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

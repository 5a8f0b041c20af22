"""The one table of data sets that ``layerkit fetch`` knows: what may be downloaded, and the steps where a person must.

Addresses and terms change at their owners' will; where one is gated, the steps name the page and not a way around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Files on a plain web server.

    Attributes:
        address: of the server; the paths of ``lists`` are below it.
        lists: split to the tables that describe it: annotations, and the pictures there are.
        classes: path of the table of class identifiers and names.
        masks: path of an archive of mask pictures, with ``{split}`` and ``{digit}``, the first of the picture's id.
        pictures: of the server with ``SPLIT/ID.jpg``.
        counts: split to the number of its pictures.
    """

    address: str
    lists: Mapping[str, tuple[str, ...]]
    classes: str
    masks: str
    pictures: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One row of the table.

    Attributes:
        name: what ``layerkit fetch`` calls it.
        kind: ``files`` from a web server, ``hub`` from the Hugging Face hub, or ``manual``.
        about: what it is, in a line.
        licence: as its owners state it.
        files: where the files are, for ``files``.
        repo: data set on the hub, for ``hub``.
        revision: branch, tag or commit on the hub.
        steps: what a person does: all of it where ``manual``, what is left after the download elsewhere.
    """

    name: str
    kind: Literal["files", "hub", "manual"]
    about: str
    licence: str
    files: Files | None = None
    repo: str = ""
    revision: str = "main"
    steps: tuple[str, ...] = ()


_OPEN_IMAGES = Files(
    address="https://storage.googleapis.com/openimages/",
    lists=MappingProxyType(
        {
            "train": (
                "2018_04/train/train-images-boxable-with-rotation.csv",
                "v6/oidv6-train-annotations-bbox.csv",
                "v5/train-annotations-object-segmentation.csv",
            ),
            "validation": (
                "2018_04/validation/validation-images-with-rotation.csv",
                "v5/validation-annotations-bbox.csv",
                "v5/validation-annotations-object-segmentation.csv",
            ),
            "test": (
                "2018_04/test/test-images-with-rotation.csv",
                "v5/test-annotations-bbox.csv",
                "v5/test-annotations-object-segmentation.csv",
            ),
        }
    ),
    classes="v5/class-descriptions-boxable.csv",
    masks="v5/{split}-masks/{split}-masks-{digit}.zip",
    pictures="https://open-images-dataset.s3.amazonaws.com/",
    counts=MappingProxyType({"train": 1_743_042, "validation": 41_620, "test": 125_436}),
)

_ROWS = (
    Download(
        name="openimages",
        kind="files",
        about="Open Images V7: pictures by split (train 513 GB, validation 12 GB, test 36 GB), boxes, masks",
        licence="annotations CC BY 4.0; pictures listed as CC BY 2.0, to be verified one by one",
        files=_OPEN_IMAGES,
    ),
    Download(
        name="mulan",
        kind="hub",
        about="MULAN: 44,862 pictures of COCO and LAION taken apart into layers, about 21 GB",
        licence="cc-by-nc-sa-4.0",
        repo="mulan-dataset/v1.0",
        steps=(
            "Join and unpack the parts: unrar x mulan.part001.rar (the others are found beside it).",
            "Get the pictures under the annotations: train2017.zip and val2017.zip of COCO 2017 "
            "(https://cocodataset.org/#download); MULAN uses both.",
            "The addresses of the LAION half were never released: without its pictures those annotations are rejects.",
        ),
    ),
    Download(
        name="rorem",
        kind="hub",
        about="RORem: more than 200,000 removal triplets, about 100 GB; MULAN rendered as triplets among them",
        licence="Apache-2.0 by its card; cc-by-nc-sa-4.0 for the part made of MULAN",
        repo="LetsThink/RORem_dataset",
        steps=(
            "Unpack each RORem_dataset.part*.tar.gz with tar -xzf, and each zip with unzip; the triplets "
            "lie in source/, mask/ and GT/, listed in meta.json.",
        ),
    ),
    Download(
        name="rord",
        kind="manual",
        about="RORD: real pairs of a scene with and without the object, from video",
        licence="no licence of the data was found: for research only",
        steps=(
            "The page of the data: https://github.com/Forty-lock/RORD, which names two ways.",
            "The original: apply for data set 487 at AI-Hub (https://aihub.or.kr, in Korean).",
            "The 960x540 copy: the Google Drive link of that page. It was seen to hold img/ and gt/ but no masks; "
            "check for mask/ before you build on it.",
            "Lay it out as {train,val}/img/SCENE/*.jpg, mask/SCENE/*_M.png and label/SCENE/*.json.",
        ),
    ),
    Download(
        name="desobav2",
        kind="manual",
        about="DESOBAv2: 21,575 outdoor pictures with 28,573 pairs of object and shadow",
        licence="Apache-2.0 (the repository)",
        steps=(
            "Open https://github.com/bcmi/Object-Shadow-Generation-Dataset-DESOBAv2 and take desobav2-256x256.rar or "
            "desobav2-full-resolution-version.rar from its Dropbox or Baidu link.",
            "Unpack it with unrar x; train.txt and test.txt must lie beside shadowfree_imgs/, shadow_imgs/, "
            "object_masks/, shadow_masks/, background_object_masks/ and background_shadow_masks/.",
        ),
    ),
    Download(
        name="places2",
        kind="manual",
        about="Places2 (Places365): scenes by class",
        licence="non-commercial research and education, no redistribution",
        steps=(
            "Agree to the terms at http://places2.csail.mit.edu/download.html.",
            "Take val_256.tar (36,500 pictures), or places365standard_easyformat.tar for train and val by class.",
            "Unpack it with tar -xf; the source photos reads the folder, its licence is places2-terms.",
            "The suite places2 reads val/ by class, val_256/ and val_large/; places2-given also masks/ beside them.",
        ),
    ),
    Download(
        name="misato",
        kind="manual",
        about="MISATO: 2,000 pictures with holes, landscape, indoor, building and background, at 512 and 1024 px",
        licence="pictures keep their own licences; those of Matterport3D need its signed terms",
        steps=(
            "Sign the terms of Matterport3D: https://niessner.github.io/Matterport.",
            "Accept what https://huggingface.co/datasets/yikaiwang/MISATO asks for, and log in: hf auth login.",
            "Download: hf download yikaiwang/MISATO --repo-type dataset --local-dir DIR",
            "512/ and 1024/ then hold image/ and mask/ (white = hole); a mask of 1024/ is called 00 and the picture's "
            "name.",
        ),
    ),
    Download(
        name="res",
        kind="manual",
        about="ReS: 100 pairs of photographs between which one subject was moved, with masks of it",
        licence="research purposes (the repository); no licence file",
        steps=(
            "Open https://github.com/Yikai-Wang/ReS and take the archive from its Google Drive or Baidu link.",
            "Unpack it; p1_1.jpg, p1_2.jpg, p1_1_mask.png and so on lie in one folder, the --root of the suite res.",
        ),
    ),
    Download(
        name="ober",
        kind="manual",
        about="OBER: photographs with and without an object and its effects, 808 test rows, 28.9 GB with train",
        licence="non-commercial, gated",
        steps=(
            "Fill in the form that https://huggingface.co/datasets/sczhou/OBERDataset_ObjectClear links to, wait for "
            "access, and log in: hf auth login.",
            "Download the test split, 0.3 GB: hf download sczhou/OBERDataset_ObjectClear --repo-type dataset "
            "--include 'data/test-*' --local-dir DIR",
        ),
    ),
    Download(
        name="removalbench",
        kind="hub",
        about="RemovalBench of OmniEraser: 70 pictures with masks and clean plates",
        licence="not stated",
        repo="BaiLing/RemovalBench",
        steps=("If it comes packed, unpack it: images/, masks/ and gt/ must lie beside one another.",),
    ),
    Download(
        name="aim-500",
        kind="manual",
        about="AIM-500: 500 photographs with alpha mattes and trimaps of salient objects",
        licence="MIT, by its release agreement",
        steps=(
            "Open https://github.com/JizhiziLi/AIM, read the agreement and take AIM-500 from its Google Drive or Baidu "
            "link.",
            "original/, mask/ and trimap/ must lie beside one another, aim_category_type.json beside them or above.",
        ),
    ),
    Download(
        name="flickr-scenery",
        kind="manual",
        about="Flickr-Scenery: landscapes for outpainting, of InfinityGAN",
        licence="pictures keep their own licences",
        steps=(
            "Open https://github.com/hubert0527/infinityGAN and follow its section on preparing the data.",
            "Any nesting of folders will do: --suite outpainting --root outpainting=DIR reads every picture below DIR.",
        ),
    ),
)

DOWNLOADS: Mapping[str, Download] = {row.name: row for row in _ROWS}
"""Every data set that ``layerkit fetch`` knows."""


def find(name: str) -> Download:
    """The row of a data set.

    Raises:
        UsageError: unknown; the known names are listed.
    """
    if name not in DOWNLOADS:
        raise UsageError(f"fetch: expected one of {', '.join(DOWNLOADS)}, got {name!r}")
    return DOWNLOADS[name]

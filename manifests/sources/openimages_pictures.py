"""Where the pictures and masks of an Open Images split lie: in folders, as spans of plain tars, or in zips."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from .tars import Header
from .zips import members

Place = tuple[Path, tuple[int, int] | None]
"""The folder that holds ``<ImageID>.jpg``, or a tar with offset and length of the picture in it."""


def find_pictures(folders: list[Path], tar_folders: list[Path], split: str) -> dict[str, Place]:
    """Every picture of a split by its ImageID; a folder goes before a tar. Of tars only the headers are read.

    Raises:
        UsageError: a tar that cannot be read, or a compressed one that has not been unpacked.
    """
    pictures: dict[str, Place] = {}
    for folder in filter(Path.is_dir, folders):
        place = (folder, None)  # one for all its pictures
        for id_ in _ids(folder):
            pictures.setdefault(id_, place)
    for folder in filter(Path.is_dir, tar_folders):
        for path in sorted([*folder.glob(f"{split}.tar"), *folder.glob(f"{split}_*.tar")]):
            for id_, span in _spans(path):
                pictures.setdefault(id_, (path, span))
    for folder in filter(Path.is_dir, tar_folders):
        _refuse_compressed(folder, split, pictures)
    return pictures


def _ids(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as found:
        for item in found:
            if _is_picture(item.name) and item.is_file():
                yield item.name[:-4]


def _is_picture(name: str) -> bool:
    return name.endswith(".jpg") and not name.startswith(".")


def _spans(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header of 100,000
                name = member.name.rpartition("/")[2]
                if member.isreg() and not member.issparse() and _is_picture(name):
                    yield name[:-4], (member.offset_data, member.size)
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError(f"damaged header at byte {tar.offset}")
    except tarfile.TarError as error:
        raise UsageError(f"{path}: expected a plain tar: {error}; download it again or unpack it") from error


def _refuse_compressed(folder: Path, split: str, pictures: dict[str, Place]) -> None:
    """Raise for an archive whose pictures are not there as well: ``train_f.tar.gz`` holds the ids that begin with f."""
    for ending in (".tar.gz", ".tgz"):
        for path in sorted([*folder.glob(split + ending), *folder.glob(f"{split}_*{ending}")]):
            first = path.name.removesuffix(ending).removeprefix(split).removeprefix("_")
            if not any(id_.startswith(first) for id_ in pictures):
                raise UsageError(
                    f"{path}: pictures in a compressed tar cannot be addressed; unpack it (tar -xzf) into "
                    f"{folder / split}, or once to a plain tar (gunzip)"
                )


class Masks:
    """The mask files of a split, found by their MaskPath: in folders, else in zips, which are listed once.

    The archives are named by the first digit of the ImageID, and so are the folders that they are unpacked to; FiftyOne
    sorts by the same digit in upper case.
    """

    def __init__(self, bases: list[Path], split: str) -> None:
        self._bases = bases
        self._split = split
        self._folders: dict[str, list[Path]] = {}
        self._zips: dict[str, list[tuple[Path, dict[str, str]]]] = {}

    def find(self, name: str) -> tuple[Path, str] | None:
        """The file called ``name``, which must be a plain name, or its zip and the member there; None without.

        Raises:
            UsageError: a zip that cannot be read.
        """
        digit = name[0].lower()
        if digit not in self._folders:
            self._folders[digit] = [folder for folder in self._candidates(digit) if folder.is_dir()]
            zips = [base / f"{self._split}-masks-{digit}.zip" for base in self._zip_folders()]
            self._zips[digit] = [(path, members(path, ".png")) for path in zips if path.is_file()]
        for folder in self._folders[digit]:
            path = folder / name
            if os.path.isfile(path):  # pathlib raises for a name that is too long
                return path, ""
        return next(((path, listed[name]) for path, listed in self._zips[digit] if name in listed), None)

    def _candidates(self, digit: str) -> Iterator[Path]:
        archive = f"{self._split}-masks-{digit}"
        names = (archive, f"masks/{archive}", f"{self._split}-masks", f"masks/{self._split}", "masks")
        for base in self._bases:
            for name in (*names, f"masks/{digit.upper()}", f"labels/masks/{digit.upper()}"):
                yield base / name

    def _zip_folders(self) -> list[Path]:
        names = (".", f"{self._split}-masks", "masks", f"masks/{self._split}")
        return list(dict.fromkeys(base / name for base in self._bases for name in names))

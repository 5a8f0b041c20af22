"""Takes pictures that any other program wrote: a folder of files that are named as the cases are.

``DIR/ID.png`` or ``DIR/background/ID.png`` is a case's background and ``DIR/foreground/ID.png``, if there is one, its
foreground with straight alpha. Any picture format will do; an id with a slash is a file in a folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ...manifests.errors import BadImage, RunError, UsageError
from ...manifests.weights import revision_of
from ..compose import resize_rgba
from ..decomposition import U8, Decomposition, Traits
from ..images import read

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_LAYERS = ("background", "foreground")


@dataclass(frozen=True, kw_only=True)
class Predictions(Traits):
    """A ``Stored`` decomposer over a folder; made by :func:`load_predictions`."""

    folder: Path
    backgrounds: dict[str, Path] = field(repr=False)
    foregrounds: dict[str, Path] = field(repr=False)
    on_missing: Literal["error", "skip"]
    resize: bool

    def find(self, case: str, size: tuple[int, int]) -> Decomposition:
        """Read a case's pictures; bit for bit where they are lossless.

        Raises:
            UsageError: there is no background of this name, or a picture is of another size than (H, W) ``size``.
            BadImage: ``no_prediction`` with ``on_missing="skip"``; ``unreadable`` and the like.
            RunError: a background is not opaque.
        """
        path = self.backgrounds.get(case)
        if path is None:
            wanted = f"expected a picture named {case} in {self.folder}, which has {len(self.backgrounds)} others"
            if self.on_missing == "skip":
                raise BadImage("no_prediction", wanted)
            raise UsageError(f"{wanted}; add it, or give --on-missing skip")
        background = self._read(path, size)
        if (background[..., 3] != 255).any():
            raise RunError(f"expected an opaque background, {path} has alpha; put cut-outs in {self.folder}/foreground")
        foreground = self.foregrounds.get(case)
        return Decomposition(
            np.ascontiguousarray(background[..., :3]), None if foreground is None else self._read(foreground, size)
        )

    def _read(self, path: Path, size: tuple[int, int]) -> U8:
        rgba = read(path, alpha=True)
        if rgba.shape[:2] == size:
            return rgba
        if not self.resize:
            expected, got = (f"{width}x{height}" for height, width in (size, rgba.shape[:2]))
            raise UsageError(f"expected {expected} px, as the case is, got {got} ({path}); or allow resizing")
        return resize_rgba(rgba, size)


def load_predictions(
    folder: Path, *, on_missing: Literal["error", "skip"] = "error", resize: bool = False
) -> Predictions:
    """List the pictures of a folder by the ids of their cases.

    Args:
        folder: as the module describes it.
        on_missing: what a case without a background is: an error, or a drop with its reason.
        resize: allow pictures of another size and resize them, alpha weighted; else they are an error.

    Raises:
        UsageError: no such folder, no picture in it, or two pictures of one name.
    """
    if not folder.is_dir():
        raise UsageError(f"expected a folder of predictions, got {folder}, which is none")
    inside = folder / "background"
    backgrounds = _by_id(inside if inside.is_dir() else folder)
    if not backgrounds:
        raise UsageError(f"expected pictures ({', '.join(sorted(SUFFIXES))}) in {folder}, found none")
    return Predictions(
        name=f"predictions:{folder}",
        revision=revision_of(folder),
        licence="unknown",
        needs=frozenset(),
        is_random=False,
        folder=folder,
        backgrounds=backgrounds,
        foregrounds=_by_id(folder / "foreground"),
        on_missing=on_missing,
        resize=resize,
    )


def _by_id(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _pictures(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UsageError(f"expected one picture for case {name}, got {found[name]} and {path}; remove one")
        found[name] = path
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and path.relative_to(folder).parts[0] not in _LAYERS:
            yield path

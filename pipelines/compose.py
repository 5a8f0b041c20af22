"""``layerkit compose``: edit a layer of a decomposed or generated picture and put the picture together again."""

import json
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, UsageError
from ..toolkit import images
from ..toolkit.compose import over_u8
from ..toolkit.edit import Edit, edited
from ..toolkit.files import write_atomically
from . import decompose, generate

U8 = NDArray[np.uint8]


def compose(folder: Path, edit: Edit, out: Path, *, layer: int = 1, overwrite: bool = False) -> Path:
    """Edit the ``layer``-th foreground of what ``layerkit decompose`` or ``generate`` wrote, and recompose.

    Args:
        folder: of one picture, with ``decomposition.json`` or ``generation.json``.
        edit: what is done.
        out: the picture to write, a PNG.
        layer: 1 is the topmost.
        overwrite: write over what is there.

    Returns:
        ``out``.

    Raises:
        UsageError: the folder holds no foreground of that number, or ``out`` is there already.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out: expected a PNG file, got {out}")
    if out.exists() and not overwrite:
        raise UsageError(f"--out: {out} is there already; name another file, or add --overwrite")
    names = _foregrounds(folder)
    if not 1 <= layer <= len(names):
        raise UsageError(f"--layer: expected 1..{len(names)}, the foregrounds of {folder}, got {layer}")
    layers = [_read(folder / name, alpha=True) for name in names]
    layers[layer - 1] = edited(layers[layer - 1], edit)
    picture = reduce(lambda below, top: over_u8(top, below), reversed(layers), _read(folder / "background.png"))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, images.encode_png(picture))
    return out


def _foregrounds(folder: Path) -> list[str]:
    generated = folder / generate.RECORD
    path = generated if generated.is_file() else folder / decompose.RECORD
    try:
        names: list[str] = json.loads(path.read_bytes())["foregrounds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"expected a folder that layerkit decompose or generate wrote, got {folder}: {error!r}"
        ) from error
    if not names:
        raise UsageError(f"{folder}: expected a foreground, got none; its model only removes: take another one")
    return [Path(name).name for name in names]


def _read(path: Path, *, alpha: bool = False) -> U8:
    try:
        return images.read(path, alpha=alpha)
    except BadImage as error:
        raise UsageError(f"{path}: expected a layer of a decomposed or generated picture: {error.detail}") from error

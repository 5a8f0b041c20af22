"""Inputs of the speed scripts: JPEG backgrounds and RGBA cut-outs made from photographs that PyPI packages ship."""

from pathlib import Path

import numpy as np
from PIL import Image

from layerkit.manifests.sources import entries
from layerkit.pipelines.pools import Pixels, Pool
from layerkit.toolkit import images

RECIPE = """
count = {count}
size = {size}
shard_size = {shard_size}
seed = {seed}

[[mix]]
name = "paste"
share = 1
route = "paste"
foregrounds = "rgba"
backgrounds = "photos"
objects = [1, 3]
filters = {{ near_duplicate = -1, side = [16, inf], sharpness = [0, inf] }}
"""


def make_backgrounds(folder: Path, count: int = 200) -> list[Path]:
    """Write ``count`` JPEGs of 1024 x 768 px and quality 90: mosaics of four crops at the photographs' own scale.

    Enlarged crops would lack detail, and cost any encoder less time than real pictures of that size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    photos = [images.read(entry.path) for entry in entries("embedded", {})]
    photos = [photo for photo in photos if photo.shape[0] >= 384 and photo.shape[1] >= 512]
    paths = []
    for k in range(count):
        tiles = [_tile(photos[int(rng.integers(len(photos)))], rng) for _ in range(4)]
        mosaic = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
        path = folder / f"{k:04d}.jpg"
        path.write_bytes(images.encode_jpeg(mosaic, 90))
        paths.append(path)
    return paths


def _tile(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = int(rng.integers(photo.shape[0] - 383)), int(rng.integers(photo.shape[1] - 511))
    tile = photo[top : top + 384, left : left + 512]
    return tile[:, ::-1] if rng.random() < 0.5 else tile


def make_cutouts(folder: Path, pool: Pool, pixels: Pixels, side: int = 480) -> list[Path]:
    """The larger prepared objects as RGBA PNGs of ``side`` px on their longer side, on a clear canvas."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(pool)):
        rgba = Image.fromarray(pixels.of(pool[k])["foreground"])
        if max(rgba.size) < side / 2:  # enlarged, a coin would be smoother than any photograph
            continue
        factor = side / max(rgba.size)
        rgba = rgba.resize((round(rgba.width * factor), round(rgba.height * factor)))
        canvas = Image.new("RGBA", (side + 16, side + 16))
        canvas.paste(rgba, (8, 8))
        path = folder / f"{k:04d}.png"
        canvas.save(path, compress_level=1)
        paths.append(path)
    return paths

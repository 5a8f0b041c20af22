"""Inputs of the speed scripts: JPEG backgrounds and RGBA cut-outs made from photographs that PyPI packages ship."""

from pathlib import Path

import cv2
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


def make_backgrounds(folder: Path, count: int = 200, size: tuple[int, int] = (1024, 768)) -> list[Path]:
    """``count`` JPEGs of quality 90: random crops of the embedded photographs, enlarged and mirrored."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    photos = [images.read(entry.path) for entry in entries("embedded", {}) if "background" in entry.uses]
    paths = []
    for k in range(count):
        photo = photos[k % len(photos)]
        height, width = photo.shape[:2]
        side = int(rng.integers(min(height, width) * 3 // 4, min(height, width)))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side * 3 // 4 + 1))
        part = photo[top : top + side, left : left + side][:, :: -1 if rng.random() < 0.5 else 1]
        path = folder / f"{k:04d}.jpg"
        path.write_bytes(images.encode_jpeg(cv2.resize(part, size, interpolation=cv2.INTER_CUBIC), 90))
        paths.append(path)
    return paths


def make_cutouts(folder: Path, pool: Pool, pixels: Pixels, side: int = 480) -> list[Path]:
    """The prepared embedded objects as RGBA PNGs of ``side`` px on their longer side, uncropped on a clear canvas."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(len(pool)):
        rgba = Image.fromarray(pixels.of(pool[k])["foreground"])
        factor = side / max(rgba.size)
        rgba = rgba.resize((round(rgba.width * factor), round(rgba.height * factor)))
        canvas = Image.new("RGBA", (side + 16, side + 16))
        canvas.paste(rgba, (8, 8))
        path = folder / f"{k:04d}.png"
        canvas.save(path, compress_level=1)
        paths.append(path)
    return paths

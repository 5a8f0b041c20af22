"""How long a MuLAn annotation takes to decode, beside the plain pickle that its own script loads; and to list 20,000.

    python benchmarks/speed/mulan_decode.py

The annotation is synthetic: 640 x 480 px, three instances, masks as bool, differences as uint8 or int64.
"""

import argparse
import pickle
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from layerkit.manifests.sources import entries
from layerkit.toolkit.mulan import decode_annotation, recompose_layers

HEIGHT, WIDTH = 480, 640


def main() -> None:
    """Print milliseconds a picture, the least of ten rounds, and entries a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    files = parser.parse_args().files
    cv2.setNumThreads(1)
    base = smooth(0)
    for kind in (np.uint8, np.int64):
        data = zlib.compress(pickle.dumps(annotation(kind), 4))
        picture = decode_annotation(data, base)
        print(f"differences as {np.dtype(kind)}: {len(data) / 1e6:.2f} MB, {len(picture.layers)} layers")
        print(
            f"  pickle.loads(zlib.decompress)   {milliseconds(lambda d=data: pickle.loads(zlib.decompress(d))):7.2f} ms"
        )
        print(f"  ... and the arithmetic in numpy {milliseconds(lambda d=data: plain(d, base)):7.2f} ms")
        print(f"  decode_annotation               {milliseconds(lambda d=data: decode_annotation(d, base)):7.2f} ms")
        print(f"  recompose_layers                {milliseconds(lambda p=picture: recompose_layers(p)):7.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        print(f"index of {files} annotations and pictures: {listing(Path(folder), files):.2f} s")


def smooth(seed: int) -> np.ndarray:
    """A picture with slopes and a little noise, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.float32)
    fine = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine + rng.normal(0, 3, fine.shape), 0, 255).astype(np.uint8)


def annotation(kind: type) -> dict:
    """A background and three instances, each an ellipse of the base picture with inpainting around it."""
    parts = []
    for k in range(4):
        alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(alpha, (150 + 110 * k, 240), (90, 150), 10 * k, 0, 360, 255, -1, cv2.LINE_AA)
        mask = alpha > 127
        delta = np.where(mask[..., None], 0, smooth(k + 1)).astype(kind)
        part = {"blip2": "a thing", "original_image_mask": mask, "inpainted_delta": delta}
        parts.append({**part, "instance_alpha": Image.fromarray(alpha)})
    del parts[0]["instance_alpha"]
    return {"captioning": {}, "background": parts[0], "image": {}, "instances": dict(enumerate(parts[1:]))}


def plain(data: bytes, base: np.ndarray) -> list[Image.Image]:
    """The obvious way, unsafe and with the sum in wide integers."""
    table = pickle.loads(zlib.decompress(data))
    made = []
    for part in (table["background"], *table["instances"].values()):
        wide = base * part["original_image_mask"][..., None] + part["inpainted_delta"].astype(np.int32)
        picture = Image.fromarray(np.clip(wide, 0, 255).astype(np.uint8))
        if "instance_alpha" in part:
            picture.putalpha(part["instance_alpha"])
        made.append(picture)
    return made


def milliseconds(call: Callable[[], object], rounds: int = 10) -> float:
    """The least of ``rounds``."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def listing(root: Path, files: int) -> float:
    """Seconds to list ``files`` empty annotations with their base pictures."""
    for folder, ending in (("annotations", "p.zl"), ("train2017", "jpg")):
        (root / folder).mkdir()
        for k in range(files):
            (root / folder / f"{k:012d}.{ending}").touch()
    start = time.perf_counter()
    found = list(entries("mulan", {"mulan": root}))
    assert len(found) == files
    assert all(entry.base for entry in found)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""PNG writers: time, size, and whether another process writes the same bytes.

    python benchmarks/speed/png.py --processes 200

The same pictures (embedded photographs, whole and in small round crops) are written in many processes; a picture that
comes out in other bytes in any of them is counted.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
from isal import isal_zlib
from zlib_ng import zlib_ng

from layerkit.manifests.sources import entries
from layerkit.toolkit import images


def _runs(module: object) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        stream = module.compressobj(1, 8, 15, 9, 3)  # type: ignore[attr-defined]
        return bytes(stream.compress(data) + stream.flush())

    return compress


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib-ng, Z_RLE (ours)": _runs(zlib_ng),
    "zlib, Z_RLE": _runs(zlib),
    "zlib, level 1": lambda data: zlib.compress(data, 1),
    "zlib-ng, level 2": lambda data: bytes(zlib_ng.compress(data, 2)),
    "isal, level 1": lambda data: bytes(isal_zlib.compress(data, 1)),
    "isal, level 2": lambda data: bytes(isal_zlib.compress(data, 2)),
}


def filtered_rows() -> list[bytes]:
    """Up-filtered pictures, as every writer gets them: five whole photographs and 400 crops of 64 px."""
    photos = [images.read(entry.path) for entry in entries("embedded", {})][:5]
    rng = np.random.default_rng(0)
    crops = []
    for _ in range(400):
        photo = photos[int(rng.integers(len(photos)))]
        top, left = int(rng.integers(photo.shape[0] - 64)), int(rng.integers(photo.shape[1] - 64))
        crop = photo[top : top + 64, left : left + 64].copy()
        crop[np.hypot(*np.mgrid[-32:32, -32:32]) > rng.integers(8, 32)] = 0  # as a cut-out on clear ground
        crops.append(crop)
    return [_filtered(picture) for picture in [*photos, *crops]]


def _filtered(picture: np.ndarray) -> bytes:
    rows = picture.reshape(picture.shape[0], -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    return np.hstack([np.full((len(rows), 1), 2, np.uint8), rows - above]).tobytes()


def digests() -> dict[str, list[str]]:
    """Writer to a digest of each picture."""
    data = filtered_rows()
    return {name: [hashlib.md5(write(one)).hexdigest() for one in data] for name, write in WRITERS.items()}


def main() -> None:
    """Print a row a writer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(digests()))
        return
    first, changed = digests(), dict.fromkeys(WRITERS, 0)
    for _ in range(arguments.processes):
        other = json.loads(
            subprocess.run([sys.executable, __file__, "--child"], capture_output=True, check=True).stdout
        )
        for name in WRITERS:
            changed[name] += sum(a != b for a, b in zip(first[name], other[name], strict=True))
    data = filtered_rows()
    written = arguments.processes * len(data)
    for name, write in WRITERS.items():
        began = time.process_time()
        size = sum(len(write(one)) for one in data[:5])
        milliseconds = (time.process_time() - began) / 5 * 1e3
        print(f"{name:24s} {milliseconds:6.2f} ms {size / 5 / 1024:7.0f} KiB   {changed[name]} of {written} differ")


if __name__ == "__main__":
    main()

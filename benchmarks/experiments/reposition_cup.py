"""An embedded photograph for ``layerkit reposition``: scikit-image's cup of coffee, its mask, and that of its shadow.

The README has the commands.
"""

import argparse
from pathlib import Path

import numpy as np

from layerkit.manifests.sources import embedded
from layerkit.toolkit import images
from layerkit.toolkit.cutout import object_mask
from layerkit.toolkit.matte import Box

_SHADOW = (70, 225, 64, 262, 66, 300, 78, 335, 98, 368, 120, 390, 135, 399, 430, 399, 440, 350, 300, 300, 150, 200)


def main() -> None:
    """Write the three pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/cup"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    photo = next(one for one in embedded.index(Path()) if one.id == "coffee")
    image, whole = images.read(photo.path), Box(0, 0, 400, 600)
    cup = object_mask(image, whole, method="outline", outlines=photo.seeds[0].outlines)
    shadow = object_mask(image, whole, method="outline", outlines=[_SHADOW]) & ~cup
    for name, picture in {"image": image, "mask": cup * np.uint8(255), "shadow": shadow * np.uint8(255)}.items():
        (out / f"{name}.png").write_bytes(images.encode_png(picture))


if __name__ == "__main__":
    main()

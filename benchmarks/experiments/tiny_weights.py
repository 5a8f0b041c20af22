"""Writes random weights of tiny networks in the layout of ``--weights``, to see the commands run without a download.

    python benchmarks/experiments/tiny_weights.py --out WEIGHTS
    layerkit generate "a red mug" --model layerfusion --weights WEIGHTS --size 64 --out out/tiny

What comes out is noise: nothing here was trained.
"""

import argparse
from pathlib import Path

from layerkit.toolkit.models.tiny_sdxl import write_tiny_sdxl


def main() -> None:
    """Parse, write and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    if folder.exists():
        parser.error(f"--out: expected a folder that is not there yet, got {folder}")
    print(f"random weights in {write_tiny_sdxl(folder)}")


if __name__ == "__main__":
    main()

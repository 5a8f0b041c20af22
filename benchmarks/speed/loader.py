"""The training loader beside webdataset's own decoding, on the same shards, in one run.

    python benchmarks/speed/loader.py --size 512 --count 96

The shards are built on the fly from the demo recipe, with JPEG images and backgrounds and PNG foregrounds, masks and
occluders.

- ``layerkit``: :class:`ShardData` in batches of 8, whole pictures, mirrored at random; then the same with random crops
  shrunk to half the size and all mask policies.
- ``webdataset``: ``decode("pil")`` of the same five members and of all, to arrays, in the same batches. It drops alpha.
- ``composed``: :class:`ComposedData` on the pools of the same build.

Rates are triplets a second of process-CPU time, one thread, the median of rounds in turn: what one core does, also on a
machine that others use. ``threads`` are the wall-clock rates of as many, which are right on an idle machine alone.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import webdataset as wds

from layerkit.pipelines.build import build
from layerkit.pipelines.launch_local import one_thread
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load
from layerkit.pipelines.training.composed import ComposedData
from layerkit.pipelines.training.data import Batches, ShardData
from layerkit.pipelines.training.sample import Stream, View
from layerkit.toolkit.mask_augment import POLICIES

BATCH = 8
MEMBERS = ["image.jpg", "foreground.png", "background.jpg", "mask.png", "occluder.png"]


def make_build(folder: Path, size: int, count: int) -> Path:
    """A build of the demo recipe with JPEG images."""
    settings = ["members.image=jpg", "members.background=jpg"]
    recipe = load("demo", {"count": count, "size": size, "shard_size": max(1, count // 4)}, settings)
    build(recipe, BuildOptions(out=folder), lambda progress: None)
    return folder


def ours(data: Stream, workers: int = 0) -> Iterator[object]:
    """Our batches."""
    return iter(Batches(data, BATCH, workers=workers))


def theirs(folder: Path, members: list[str] | None) -> Iterator[object]:
    """Samples of webdataset, stacked to batches of arrays; None decodes all members."""
    urls = sorted(str(path) for path in (folder / "data").glob("*.tar"))
    samples = iter(wds.WebDataset(urls, shardshuffle=False).repeat().decode("pil", only=members))
    while True:
        taken = list(itertools.islice(samples, BATCH))
        yield [np.stack([np.asarray(sample[name]) for sample in taken]) for name in MEMBERS]


def rate(batches: Iterator[object], number: int, clock: Callable[[], float]) -> float:
    """Triplets a second over ``number`` batches, the first not counted."""
    next(batches)
    began = clock()
    for _ in range(number):
        next(batches)
    return number * BATCH / (clock() - began)


def measure(folder: Path, size: int, number: int, rounds: int) -> dict[str, float]:
    """Median rate of each reader."""
    whole = ShardData([folder], "train", View(size=size))
    half = ShardData([folder], "train", View(size=size // 2, masks=dict.fromkeys(POLICIES, 1.0)))
    composed = {side: ComposedData(folder, "paste", "train", View(size=side)) for side in (size, size // 4)}
    runs: dict[str, tuple[Callable[[], Iterator[object]], Callable[[], float]]] = {
        "layerkit": (lambda: ours(whole), time.process_time),
        "layerkit, cropped to half the size": (lambda: ours(half), time.process_time),
        "webdataset pil, the same members": (lambda: theirs(folder, MEMBERS), time.process_time),
        "webdataset pil, all members": (lambda: theirs(folder, None), time.process_time),
        f"composed at {size} px": (lambda: ours(composed[size]), time.process_time),
        f"composed at {size // 4} px": (lambda: ours(composed[size // 4]), time.process_time),
        "layerkit, 1 thread, wall": (lambda: ours(whole, 1), time.perf_counter),
        "layerkit, 2 threads, wall": (lambda: ours(whole, 2), time.perf_counter),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (batches, clock) in runs.items():
            rates[name].append(rate(batches(), number, clock))
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def main() -> None:
    """Measure and print triplets a second, and the time to read the headers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    one_thread()
    warnings.filterwarnings("ignore", module="webdataset")
    with tempfile.TemporaryDirectory() as name:
        folder = make_build(Path(name) / "build", arguments.size, arguments.count)
        began = time.process_time()
        read = len(ShardData([folder], "train", View(size=arguments.size)))
        headers = (time.process_time() - began) / read
        rates = measure(folder, arguments.size, arguments.batches, arguments.rounds)
    ratio = rates["layerkit"] / rates["webdataset pil, the same members"]
    figures = {"microseconds_per_sample_of_headers": round(1e6 * headers), "times_webdataset": round(ratio, 2)}
    print(json.dumps({"size": arguments.size, "triplets_per_second": rates, **figures}, indent=1))


if __name__ == "__main__":
    main()

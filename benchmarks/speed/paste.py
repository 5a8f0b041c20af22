"""Route ``paste`` beside a naive builder and the floor of unavoidable work, in one run.

    python benchmarks/speed/paste.py --size 512 --count 600

- ``layerkit``: the real shard job, assets prepared, on 1 and 2 processes; shards written, fsynced, read back.
- ``naive``: what a paste script does: PIL decode and LANCZOS, PyMatting per triplet, a PIL-blurred shadow, float64
  composite, PNG level 6, ``tarfile``.
- ``floor``: two JPEG decodes, two resamples, one composite, one shadow, the encodes and one write; no choice of scene,
  no second object, no filter, no record.

Times are wall seconds of the building alone; ratios hold within one run, for the machine may be noisy.
"""

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFilter

from layerkit.pipelines import build, launch, plan, recipe
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.pools import Pixels, Pool
from layerkit.pipelines.shard import ShardJob
from layerkit.toolkit import images

from inputs import RECIPE, make_backgrounds, make_cutouts  # isort: skip  (a sibling script, not a package)


def prepare_embedded(cache: Path, scratch: Path) -> tuple[Pool, Pixels]:
    """The embedded foregrounds, prepared."""
    loaded = recipe.load("demo", {"count": 8})
    options = build.BuildOptions(out=scratch / "embedded", cache=cache)
    folder = build.open_folder(loaded, options)
    build.fill_pools(folder, loaded, options, lambda progress: None)
    return Pool(folder.state / "pools" / "paste-foreground.arrow"), Pixels(Cache(cache))


def ours(scratch: Path, roots: dict[str, Path], size: int, count: int, workers: int, seed: int) -> float:
    """Triplets a second of the shard job."""
    text = scratch / "recipe.toml"
    text.write_text(RECIPE.format(count=count, size=size, shard_size=max(1, count // (6 * workers)), seed=seed))
    loaded = recipe.load(str(text), {})
    out = scratch / f"out-{workers}-{seed}"
    options = build.BuildOptions(out=out, roots=roots, cache=scratch / "cache", workers=workers)
    folder = build.open_folder(loaded, options)
    build.fill_pools(folder, loaded, options, lambda progress: None)
    job = ShardJob(recipe=loaded, fingerprint=loaded.fingerprint, folder=folder, cache=options.cache)
    shards = list(plan.plan(loaded))
    commits = launch.run("local", job, iter(shards), workers)
    for _ in range(workers):  # the processes are up, modules and pools are loaded
        next(commits)
    began, kept = time.perf_counter(), 0
    for commit in commits:
        kept += commit.kept
    return kept / (time.perf_counter() - began)


def naive(scratch: Path, backgrounds: list[Path], cutouts: list[Path], size: int, count: int) -> float:
    """Triplets a second of a paste script."""
    from pymatting import estimate_foreground_ml

    rng = np.random.default_rng(0)
    estimate_foreground_ml(np.random.rand(8, 8, 3), np.random.rand(8, 8))  # its compilation is not counted
    began = time.perf_counter()
    with tarfile.open(scratch / "naive.tar", "w") as tar:
        for k in range(count):
            background = Image.open(backgrounds[k % len(backgrounds)]).convert("RGB")
            background = np.asarray(background.resize((size, size), Image.Resampling.LANCZOS)) / 255.0
            cutout = Image.open(cutouts[k % len(cutouts)])
            side = int(size * rng.uniform(0.25, 0.7))
            canvas = Image.new("RGBA", (size, size))
            at = (int(rng.integers(size - side)), int(rng.integers(size - side)))
            canvas.paste(cutout.resize((side, side), Image.Resampling.LANCZOS), at)
            rgba = np.asarray(canvas) / 255.0
            alpha = rgba[..., 3]
            colour = estimate_foreground_ml(rgba[..., :3], alpha)
            moved = Image.fromarray((alpha * 255).astype(np.uint8)).transform(
                (size, size), Image.Transform.AFFINE, (1, 0.4, -0.2 * size, 0, 2, -0.5 * size)
            )
            shadow = np.asarray(moved.filter(ImageFilter.GaussianBlur(8))) / 255.0 * 0.6
            total = 1 - (1 - alpha) * (1 - shadow)
            fore = np.dstack([colour * (alpha / np.maximum(total, 1e-6))[..., None], total])
            image = fore[..., :3] * total[..., None] + background * (1 - total[..., None])
            for name, picture in (("image", image), ("foreground", fore), ("background", background)):
                buffer = io.BytesIO()
                Image.fromarray((picture * 255).round().clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
                info = tarfile.TarInfo(f"{k:06d}.{name}.png")
                info.size = len(buffer.getvalue())
                tar.addfile(info, io.BytesIO(buffer.getvalue()))
    return count / (time.perf_counter() - began)


def floor(scratch: Path, backgrounds: list[Path], size: int, count: int) -> float:
    """Triplets a second of the work that no builder of these members can leave out."""
    alpha = np.zeros((size, size), np.uint8)
    cv2.ellipse(alpha, (size // 2, size // 2), (size // 4, size // 4), 0, 0, 360, 255, -1)
    began = time.perf_counter()
    with (scratch / "floor.bin").open("wb", buffering=1 << 22) as file:
        for k in range(count):
            fore = simplejpeg.decode_jpeg(backgrounds[k % len(backgrounds)].read_bytes())
            back = simplejpeg.decode_jpeg(backgrounds[(k + 1) % len(backgrounds)].read_bytes())
            fore = cv2.resize(fore, (size, size), interpolation=cv2.INTER_AREA)
            back = cv2.resize(back, (size, size), interpolation=cv2.INTER_AREA)
            small = cv2.resize(alpha, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
            matrix = np.array([[1, -0.4, 0.1 * size], [0, 0.5, 0.2 * size]])
            soft = cv2.blur(cv2.warpAffine(small, matrix, small.shape[::-1]), (9, 9))
            shade = cv2.resize(soft, (size, size))
            jpeg = images.encode_jpeg(back)
            back = simplejpeg.decode_jpeg(jpeg)
            total = cv2.max(alpha, shade)
            wide = cv2.merge([total] * 3)
            image = cv2.add(cv2.multiply(fore, wide, scale=1 / 255), cv2.multiply(back, 255 - wide, scale=1 / 255))
            rgba = cv2.merge([*cv2.split(cv2.bitwise_and(fore, wide)), total])
            for data in (images.encode_png(image), images.encode_png(rgba), jpeg, images.encode_png(shade)):
                file.write(data)
    return count / (time.perf_counter() - began)


def measure(size: int, count: int, rounds: int) -> dict[str, float]:
    """Median triplets a second of each builder over ``rounds``, in turn."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        from layerkit.toolkit.files import cache_folder

        cutouts = make_cutouts(scratch / "rgba", *prepare_embedded(cache_folder(), scratch))
        backgrounds = make_backgrounds(scratch / "photos")
        roots = {"rgba": scratch / "rgba", "photos": scratch / "photos"}
        runs: dict[str, Callable[[int], float]] = {
            "layerkit, 1 process": lambda k: ours(scratch, roots, size, count, 1, k),
            "layerkit, 2 processes": lambda k: ours(scratch, roots, size, 2 * count, 2, k),
            "naive, 1 process": lambda k: naive(scratch, backgrounds, cutouts, size, max(8, count // 20)),
            "floor, 1 process": lambda k: floor(scratch, backgrounds, size, count),
        }
        return {name: statistics.median(run(k) for k in range(rounds)) for name, run in runs.items()}


def main() -> None:
    """Measure and print triplets a second and the ratios that matter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    launch.one_thread()
    rates = measure(arguments.size, arguments.count, arguments.rounds)
    one = rates["layerkit, 1 process"]
    ratios = {
        "times the naive builder": one / rates["naive, 1 process"],
        "of the floor's time": rates["floor, 1 process"] / one,
        "speed-up by the second process": rates["layerkit, 2 processes"] / one,
    }
    print(json.dumps({"size": arguments.size, "triplets_per_second": rates, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()

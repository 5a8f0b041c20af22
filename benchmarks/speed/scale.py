"""What 100,000 and 10 million triplets take: measured slopes of every step whose cost grows with the build.

    python benchmarks/speed/scale.py --triplets-per-second 85 --megabytes 0.78

The steps that grow with the sources (writing a pool, near-duplicates, splits) and with the build (plan, manifests) run
on synthetic rows at three sizes, each in a process of its own, so that its peak of memory is its own. Building is
simulated from the rate and size of a measured build: ``memory.py`` gives both.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from layerkit.pipelines.filters import all_scores
from layerkit.pipelines.finish import write_tables
from layerkit.pipelines.ledger import BuildFolder, Commit
from layerkit.pipelines.plan import plan
from layerkit.pipelines.pool_file import column, open_table, write_rows
from layerkit.pipelines.prepare import Prepared
from layerkit.pipelines.recipe import Recipe, Splits, load
from layerkit.pipelines.splits import assign, identify
from layerkit.toolkit.similarity import near_duplicates

SHARD = 1000
SIZES = {
    "pool": (1_000, 100_000, 1_000_000),
    "plan": (10_000, 100_000, 10_000_000),
    "manifests": (1_000, 10_000, 50_000),
}


def recipe_of(count: int) -> Recipe:
    """The demo, of another count, with held-out splits."""
    demo = replace(load("demo", {"count": count, "shard_size": SHARD}), splits=Splits(val=0.01, test=0.01))
    return replace(demo, mix=demo.mix[:1])


def rows(number: int) -> Iterator[Prepared]:
    """Synthetic backgrounds, as an index of Open Images would give them."""
    hashes = np.random.default_rng(0).integers(0, 2**64, (number, 2), dtype=np.uint64).tolist()
    for k, (phash, photo) in enumerate(hashes):
        id_ = f"{k:016x}"
        yield Prepared(
            use="background",
            id=id_,
            group=id_,
            source="openimages",
            path=f"/data/openimages/train/{id_}.jpg",
            licence="cc-by-2.0",
            author="An Author",
            url=f"https://example.org/photos/{id_}",
            sha256=f"{phash:016x}" * 4,
            caption="a caption of some words",
            phash=phash,
            photo_phash=photo,
            scores=all_scores({"sharpness": 100.0}),
        )


def pool(number: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The steps between a source's rows and a pool."""
    path = folder / "pool.arrow"
    yield "write", lambda: write_rows(path, rows(number))
    yield "near-duplicates", lambda: near_duplicates(column(open_table(path), "phash"), 4)

    def split() -> object:
        table = open_table(path)
        hashes = np.random.default_rng(1).integers(0, 2**64, number, dtype=np.uint64)
        return assign(identify([table], 4), [hashes], {"train": 0.98, "val": 0.01, "test": 0.01})

    yield "splits", split


def plan_(number: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The plan, held whole."""
    yield "plan", lambda: list(plan(recipe_of(number)))


def manifests(number: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """The parquet tables and the statistics, from the rows of finished shards."""
    out, recipe = BuildFolder(folder), recipe_of(number)
    out.create()
    for use in recipe.mix[0].pools:
        (out.state / "pools" / f"{recipe.mix[0].name}-{use}.rejects.jsonl").touch()
    commits = [_commit(out, index, min(SHARD, number - first)) for index, first in enumerate(range(0, number, SHARD))]
    yield "tables", lambda: write_tables(out, recipe, commits)


def _commit(folder: BuildFolder, index: int, count: int) -> Commit:
    lines = [json.dumps({"kept": True, **_record(f"a-cup-on-a-table-{index:06d}-{k:04d}")}) for k in range(count)]
    folder.rows_path(index).write_text("\n".join(lines))
    tar = f"train-paste-{index:06d}.tar"
    numbers = {"shard": index, "bytes": 780_000 * count, "kept": count, "candidates": count}
    text = {"fingerprint": "f", "mix": "paste", "split": "train", "tar": tar, "sha256": "0" * 64, "licence": "mit"}
    return Commit(**text, **numbers, dropped={}, seconds=1.0)


def _record(key: str) -> dict[str, object]:
    names = ("foreground", "background", "occluder")
    origin = {"dataset": "openimages", "id": key, "licence": "cc-by-2.0", "author": "A", "url": "", "sha256": "0" * 64}
    numbers = {
        "schema": 1,
        "width": 512,
        "height": 512,
        "objects": 2,
        "recomposition_error": 0,
        "recomposition_bound": 0,
    }
    text = {"split": "train", "mix": "paste", "route": "paste", "caption": "a cup", "licence": "cc-by-2.0"}
    return {
        "key": key,
        **numbers,
        **text,
        "layers": [{"layer": name, **origin} for name in names],
        "models": {"foreground.matting": "closed-form@1", "saliency": "spectral@1"},
        "scores": all_scores({"area": 0.2, "haze": 0.1}),
        "composite_error": 1.0,
        "choices": json.dumps({"light": {"strength": 0.5}, "objects": [{"id": key}] * 2}),
    }


STEPS = {"pool": pool, "plan": plan_, "manifests": manifests}


def measure(name: str, number: int) -> None:
    """Run the steps of one kind and print seconds, rows a second and MiB above the start."""
    with tempfile.TemporaryDirectory() as scratch:
        before = peak()
        for step, run in STEPS[name](number, Path(scratch)):
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            line = (step, f"{number:,}", f"{seconds:.2f}", f"{number / seconds:,.0f}", f"{peak() - before:.0f}")
            print(f"| {' | '.join(line)} |", flush=True)


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def simulate(rate: float, megabytes: float) -> None:
    """What whole builds come to."""
    heads = ("triplets", "hours of building, one machine", "of 16 such", "TB", "tars", "files in all")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for count in (100_000, 1_000_000, 10_000_000):
        tars = count // SHARD
        hours = count / rate / 3600
        terabytes = count * megabytes / 1e6
        print(f"| {count:,} | {hours:.2f} | {hours / 16:.2f} | {terabytes:.2f} | {tars:,} | {3 * tars + 12:,} |")


def main() -> None:
    """Measure every kind of step at every size, then simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets-per-second", type=float, default=85.0)
    parser.add_argument("--megabytes", type=float, default=0.78, help="of one triplet")
    parser.add_argument("--only", nargs=2, metavar=("KIND", "ROWS"), help="one measurement, in this process")
    given = parser.parse_args()
    if given.only:
        measure(given.only[0], int(given.only[1]))
        return
    print("| step | rows | s | rows/s | MiB above the start |\n|---|---|---|---|---|", flush=True)
    for name, sizes in SIZES.items():
        for number in sizes:
            subprocess.run([sys.executable, __file__, "--only", name, str(number)], check=True)
    simulate(given.triplets_per_second, given.megabytes)


if __name__ == "__main__":
    main()

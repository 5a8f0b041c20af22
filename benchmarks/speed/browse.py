"""``layerkit browse``: samples a second, memory, the second call, and seconds until a browser shows them.

    python benchmarks/speed/browse.py --count 10000 --size 256 --out FOLDER

The build is made from the demo recipe and stays in ``--out``; FiftyOne gets a database of its own in there.

- ``load``: all samples out of the tars into FiftyOne, with every field and overlay, in a process of its own.
- ``again``: the same call once more; of it ``dataset``, without FiftyOne's import and its database's start.
- ``naive``: what one writes without layerkit: unpack all tars, then a grouped data set of the same four pictures, with
  recomposition by Pillow and the record as it is, but no thumbnails, no overlays and no views.
- ``app``: from the command, in an empty database, until headless Chromium shows pictures of a build as large as the
  demo's. Needs Chromium and playwright.

Seconds are wall-clock; memory is the largest resident set of the process, in MiB.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ENDINGS = {"background": "jpg"}
SLICES = ("image", "foreground", "background", "recomposition")


def make_build(folder: Path, count: int, size: int) -> None:
    """A build of the demo recipe, unless it is there."""
    from layerkit.pipelines.build import build
    from layerkit.pipelines.options import BuildOptions
    from layerkit.pipelines.recipe import load

    recipe = load("demo", {"count": count, "size": size})
    build(recipe, BuildOptions(out=folder, workers=os.cpu_count() or 1), lambda progress: None)


def loaded(build: Path, count: int) -> dict[str, float]:
    """Load it, here and now."""
    from layerkit.pipelines.browse import dataset
    from layerkit.pipelines.browsing.database import connect

    began = time.perf_counter()
    connect()
    connected = time.perf_counter()
    held = dataset(build, limit=count)
    return told(len(held), began, connected)


def naive(build: Path, count: int) -> dict[str, float]:
    """Unpack everything, then make a data set of it."""
    import fiftyone
    from PIL import Image

    from layerkit.pipelines.browsing.database import connect

    began = time.perf_counter()
    connect()
    connected = time.perf_counter()
    media = build.parent / "naive"
    for tar in sorted((build / "data").glob("*.tar")):
        with tarfile.open(tar) as archive:
            archive.extractall(media, filter="data")
    held = fiftyone.Dataset("naive", overwrite=True)
    held.add_group_field("group", default="image")
    samples = []
    for path in sorted(media.glob("*.json")):
        key, record = path.stem, json.loads(path.read_bytes())
        files = {name: media / f"{key}.{name}.{ENDINGS.get(name, 'png')}" for name in (*SLICES[:3], "occluder")}
        whole = Image.open(files["background"]).convert("RGBA")
        for name in ("foreground", "occluder"):
            whole = Image.alpha_composite(whole, Image.open(files[name]))
        files["recomposition"] = media / f"{key}.recomposition.png"
        whole.convert("RGB").save(files["recomposition"])
        group = fiftyone.Group()
        fields = {name: record[name] for name in ("key", "mix", "licence", "caption")} | record["scores"]
        samples += [fiftyone.Sample(str(files[name]), group=group.element(name), **fields) for name in SLICES]
    held.add_samples(samples, progress=False)
    return told(len(held), began, connected)


def told(count: int, began: float, connected: float) -> dict[str, float]:
    """Seconds and memory of this process."""
    now = time.perf_counter()
    return {
        "samples": count,
        "seconds": now - began,
        "dataset": now - connected,
        "rate": count / (now - connected),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def apart(way: str, build: Path, count: int, env: dict[str, str]) -> dict[str, float]:
    """Run one of the ways in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--out", str(build.parent), "--count", str(count)],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def app(build: Path, env: dict[str, str]) -> dict[str, float]:
    """Seconds from the command to its address, and to pictures in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        began = time.perf_counter()
        command = [sys.executable, "-m", "layerkit", "browse", str(build)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.startswith("open"))
        served = time.perf_counter() - began
        page.goto(url)
        page.locator("[data-cy=looker] canvas").first.wait_for(timeout=120_000)
        seen = time.perf_counter() - began
        browser.close()
        process.send_signal(signal.SIGINT)
        process.wait()
    return {"address": served, "seen": seen}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--way", choices=("load", "naive"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out = given.out.resolve()
    large, small = given.out / f"build-{given.count}", given.out / "build-demo"
    if given.way:
        print(json.dumps({"load": loaded, "naive": naive}[given.way](large, given.count)))
        return
    make_build(large, given.count, given.size)
    make_build(small, 96, 512)
    env = {**os.environ, "FIFTYONE_DATABASE_DIR": str(given.out / "db"), "LAYERKIT_CACHE": str(given.out / "cache")}
    for name, way in (("load", "load"), ("again", "load"), ("naive", "naive")):
        measured = apart(way, large, given.count, env)
        print(name, " ".join(f"{key} {value:.1f}" for key, value in measured.items()), flush=True)
    for turn in range(3):
        empty = env | {"FIFTYONE_DATABASE_DIR": str(given.out / f"db-{turn}")}
        print("app", " ".join(f"{key} {value:.1f}" for key, value in app(small, empty).items()), flush=True)


if __name__ == "__main__":
    main()

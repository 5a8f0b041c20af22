"""Peak memory and wall time of whole builds of several counts: memory must not grow with the count.

    python benchmarks/speed/memory.py --count 2000 --count 20000 --out FOLDER

Every build is a process of its own (``layerkit build-triplets`` of the paste recipe of ``inputs.py``), sampled ten
times a second with all its workers; then ``layerkit verify`` reads everything back. FOLDER needs about
0.7 MB a triplet.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from paste import prepare_embedded

from layerkit.toolkit.files import cache_folder

from inputs import RECIPE, make_backgrounds, make_cutouts  # isort: skip  (a sibling script, not a package)


def peak_of(process: subprocess.Popen[bytes], peaks: dict[str, int]) -> None:
    """Sample the resident memory of a process, its largest worker, and their sum, until it ends."""
    while process.poll() is None:
        try:
            parent = psutil.Process(process.pid)
            sizes = [parent.memory_info().rss, *(child.memory_info().rss for child in parent.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
        peaks["driver"] = max(peaks.get("driver", 0), sizes[0])
        peaks["worker"] = max(peaks.get("worker", 0), max(sizes[1:], default=0))
        peaks["all"] = max(peaks.get("all", 0), sum(sizes))
        time.sleep(0.1)


def timed(*command: str) -> tuple[float, dict[str, int], str]:
    """Wall seconds, peaks in bytes and standard output of a layerkit command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "layerkit", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    peaks: dict[str, int] = {}
    watcher = threading.Thread(target=peak_of, args=(process, peaks))
    watcher.start()
    output, errors = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(errors.decode())
    return time.perf_counter() - began, peaks, output.decode()


def measure(count: int, out: Path, workers: int) -> dict[str, object]:
    """Build and verify ``count`` triplets; MiB and seconds."""
    recipe = out / f"recipe-{count}.toml"
    recipe.write_text(RECIPE.format(count=count, size=512, shard_size=500, seed=0))
    folder = out / f"build-{count}"
    roots = ["--root", f"rgba={out / 'rgba'}", "--root", f"photos={out / 'photos'}"]
    flags = ["--workers", str(workers), "--json"]
    seconds, peaks, text = timed("build-triplets", str(recipe), "--out", str(folder), *roots, *flags)
    checked, checking, faults = timed("verify", str(folder), *flags)
    report = json.loads(text)
    return {
        "count": count,
        "kept": report["kept"],
        "gigabytes": round(report["bytes"] / 1e9, 2),
        "build_seconds": round(seconds, 1),
        "triplets_per_second": round(report["built"] / report["seconds"], 1),
        "build_peak_mib": {name: round(size / 2**20) for name, size in peaks.items()},
        "verify_seconds": round(checked, 1),
        "verify_peak_mib": {name: round(size / 2**20) for name, size in checking.items()},
        "faults": len(json.loads(faults)["faults"]),
    }


def main() -> None:
    """Measure every count and print a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_cutouts(arguments.out / "rgba", *prepare_embedded(cache_folder(), arguments.out))
    make_backgrounds(arguments.out / "photos")
    for count in arguments.count:
        print(json.dumps(measure(count, arguments.out, arguments.workers)), flush=True)


if __name__ == "__main__":
    main()

"""Near-duplicate search: seconds and peak memory at 1,000, 100,000 and 1,000,000 hashes.

    python benchmarks/speed/dedup.py --distance 4

Random hashes are the common case; copies, equal hashes and one dense cluster are what a real collection adds to them.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from layerkit.toolkit.similarity import matches, near_duplicates

RNG = np.random.default_rng(0)


def random(count: int) -> np.ndarray:
    """Uniform hashes."""
    return RNG.integers(0, 2**64, count, dtype=np.uint64)


def flipped(values: np.ndarray, bits: int) -> np.ndarray:
    """The values with up to ``bits`` bits flipped each."""
    for _ in range(bits):
        values = values ^ (np.uint64(1) << RNG.integers(0, 64, len(values)).astype(np.uint64))
    return values


def near(count: int) -> np.ndarray:
    """5 % lie within 3 bits of another."""
    hashes = random(count)
    hashes[: count // 20] = flipped(hashes[-(count // 20) :], 3)
    return RNG.permutation(hashes)


def equal(count: int) -> np.ndarray:
    """2 % are one and the same."""
    hashes = random(count)
    hashes[: count // 50] = hashes[0]
    return RNG.permutation(hashes)


def cluster(count: int) -> np.ndarray:
    """Up to 20,000 different ones lie within 4 bits of one."""
    hashes = random(count)
    close = np.unique(flipped(np.zeros(2 * count, np.uint64), 4))
    dense = RNG.permutation(close)[: min(count, 20_000)]
    hashes[: len(dense)] = dense
    return RNG.permutation(hashes)


SETS: dict[str, Callable[[int], np.ndarray]] = {
    "random": random,
    "5 % near-duplicates": near,
    "2 % equal": equal,
    "20,000 in a cluster": cluster,
}


def report(label: str, count: int, search: Callable[[], dict[int, int]]) -> None:
    """Print a row."""
    began = time.perf_counter()
    found = len(search())
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{label:28s} {count:9,d}  {seconds:7.3f} s  {found:7,d} found  peak so far {peak:5.0f} MiB")


def main() -> None:
    """Print a row a set and size, then the look-up of a data set in a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distance", type=int, default=4)
    distance = parser.parse_args().distance
    for count in (1_000, 100_000, 1_000_000):
        for label, make in SETS.items():
            hashes = make(count)
            report(label, count, lambda hashes=hashes: near_duplicates(hashes, distance))
    hashes = random(100_000)
    others = np.r_[random(9_000), flipped(hashes[:1_000], 4)]
    report("in a benchmark of 10,000", len(hashes), lambda: matches(hashes, others, distance))


if __name__ == "__main__":
    main()

"""``--dry-run``: a pilot of some samples, from which yield, time and size of the whole build are estimated."""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .build import open_folder
from .fill import fill_pools
from .options import BuildOptions, Report
from .plan import Shard, plan, shares
from .recipe import Recipe
from .shard import Kept, ShardJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build would take.

    Attributes:
        mix: name of the mix.
        triplets: to keep.
        acceptance: share of candidates that passed in the pilot.
        seconds: of one worker's time for all triplets of the mix.
        gigabytes: of its tars.
        samples: triplets in the pilot.
    """

    mix: str
    triplets: int
    acceptance: float
    seconds: float
    gigabytes: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The estimates of every mix, and what the whole build comes to.

    Attributes:
        mixes: an estimate each.
        shards: number of tars.
        minutes: wall time with the workers given.
        gigabytes: of all tars.
        preparation: seconds that preparing the sources took here (cached for the build).
    """

    mixes: tuple[Estimate, ...]
    shards: int
    minutes: float
    gigabytes: float
    preparation: float

    def describe(self, workers: int) -> str:
        """The estimates in words."""
        lines = [
            f"{mix.mix}: {mix.triplets} triplets, {mix.acceptance:.0%} of candidates pass, "
            f"{mix.seconds / 60:.1f} core minutes, {mix.gigabytes:.2f} GB (from {mix.samples} samples)"
            for mix in self.mixes
        ]
        together = f"together: {self.shards} shards, about {self.minutes:.1f} minutes with {workers} workers"
        return "\n".join([*lines, f"{together}, {self.gigabytes:.2f} GB; nothing was written but the cache"])


def pilot(recipe: Recipe, options: BuildOptions, report: Report, samples: int = 24) -> Pilot:
    """Prepare the sources (into the cache), build some samples of every mix in memory, and write nothing to ``out``.

    Raises:
        UsageError: a source cannot be read, or nothing of it is usable.
    """
    with tempfile.TemporaryDirectory(prefix="layerkit-pilot-") as scratch:
        options = replace(options, out=Path(scratch) / "build", store="", overwrite=False)
        folder = open_folder(recipe, options)
        began = time.perf_counter()
        fill_pools(folder, recipe, options, report)
        preparation = time.perf_counter() - began
        job = ShardJob(
            recipe=recipe,
            fingerprint=recipe.fingerprint,
            folder=folder,
            cache=options.cache,
            weights=options.weights,
        )
        first = {shard.mix: shard for shard in reversed(list(plan(recipe)))}
        wanted = dict(zip((mix.name for mix in recipe.mix), shares(recipe), strict=True))
        mixes = tuple(_estimate(job, shard, wanted[name], samples) for name, shard in first.items())
    return Pilot(
        mixes=mixes,
        shards=sum(1 for _ in plan(recipe)),
        minutes=sum(mix.seconds for mix in mixes) / options.workers / 60,
        gigabytes=sum(mix.gigabytes for mix in mixes),
        preparation=preparation,
    )


def _estimate(job: ShardJob, shard: Shard, triplets: int, samples: int) -> Estimate:
    candidates, sizes, times = 0, [], []
    shard = replace(shard, count=min(shard.count, samples))
    began = time.perf_counter()
    for outcome in job.outcomes(shard):
        candidates += 1
        if isinstance(outcome, Kept):
            sizes.append(sum(map(len, outcome.sample.values())))
            times.append(time.perf_counter() - began)
            began = time.perf_counter()
    typical = statistics.median(times) if times else 0.0  # the first samples also pay for opening the pools
    return Estimate(
        mix=shard.mix,
        triplets=triplets,
        acceptance=len(sizes) / max(1, candidates),
        seconds=typical * triplets,
        gigabytes=(statistics.fmean(sizes) if sizes else 0.0) * triplets / 1e9,
        samples=len(sizes),
    )

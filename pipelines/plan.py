"""The plan: which slots (places for a triplet) lie in which shard. A function of the recipe alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..manifests.errors import UsageError
from .recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar to be: slots ``first`` .. ``first + count - 1`` of the build, all of one mix and split."""

    index: int
    mix: str
    split: str
    first: int
    count: int

    @property
    def tar(self) -> str:
        """File name under ``data/``."""
        return f"{self.split}-{self.mix}-{self.index:06d}.tar"


def shares(recipe: Recipe) -> list[int]:
    """Triplets of each mix."""
    return _divided(recipe.count, [mix.share for mix in recipe.mix])


def _divided(count: int, parts: Sequence[float]) -> list[int]:
    """``count`` in proportion to ``parts`` by largest remainder, so that the counts sum to it."""
    total = math.fsum(parts)
    exact = [count * part / total for part in parts]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in by_remainder[: count - sum(counts)]:
        counts[k] += 1
    return counts


def plan(recipe: Recipe) -> Iterator[Shard]:
    """The shards in order, mix after mix, split after split; the last of each may be smaller."""
    index = slot = 0
    splits = recipe.splits.shares()
    for mix, triplets in zip(recipe.mix, shares(recipe), strict=True):
        for split, count in zip(splits, _divided(triplets, [*splits.values()]), strict=True):
            for start in range(0, count, recipe.shard_size):
                size = min(recipe.shard_size, count - start)
                yield Shard(index=index, mix=mix.name, split=split, first=slot + start, count=size)
                index += 1
            slot += count


@dataclass(frozen=True, slots=True)
class Part:
    """One machine's slice of the plan: shards number - 1, number - 1 + of, … of the plan; 1/1 is all of it."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"--part: expected I/N with 1 <= I <= N, got {self.number}/{self.of}")

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"

    def holds(self, shard: Shard) -> bool:
        """Whether the shard is of this part."""
        return shard.index % self.of == self.number - 1


def parse_part(text: str) -> Part:
    """``3/16`` to a :class:`Part`.

    Raises:
        UsageError: not of that form.
    """
    number, slash, of = text.partition("/")
    if not slash or not number.isdecimal() or not of.isdecimal():
        raise UsageError(f"--part: expected I/N such as 3/16, got {text!r}")
    return Part(int(number), int(of))


def slurm_part(environment: dict[str, str]) -> Part | None:
    """The part that a Slurm array task is, or None outside an array."""
    names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
    if not all(environment.get(name, "").isdecimal() for name in names):
        return None
    task, first, count = (int(environment[name]) for name in names)
    return Part(task - first + 1, count)

"""What became of every candidate: always reduced from what is on the disk, so a resumed build counts right."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .ledger import POOLS, BuildFolder
from .plan import plan
from .pools import Pool
from .recipe import Recipe

_PLURAL = {
    "foreground": "foregrounds",
    "background": "backgrounds",
    "cut": "photographs",
    "layers": "layers",
    "generate": "prompts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """What became of every candidate, sources and samples apart.

    Attributes:
        wanted: triplets that the recipe asks for (of this part).
        kept: triplets in finished shards.
        candidates: drawn for them.
        dropped: reason to number, of samples.
        sources_kept: usable pictures and objects of each pool, such as ``paste foregrounds``.
        sources_dropped: reason to number, of pictures and objects.
        bytes: of all tars.
        shards: finished.
        shards_missing: of the whole plan.
        built: triplets that this run added.
        seconds: that this run took to build them.
        rebuilt: tars that are, byte for byte, those of the lock that the recipe was read from.
    """

    wanted: int = 0
    kept: int = 0
    candidates: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    sources_kept: dict[str, int] = field(default_factory=dict)
    sources_dropped: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    shards: int = 0
    shards_missing: int = 0
    built: int = 0
    seconds: float = 0.0
    rebuilt: int = 0

    def describe(self, out: str) -> str:
        """The funnel in words, for a build at ``out``."""
        lines = [f"sources   {told(self.sources_kept)}"]
        if self.sources_dropped:
            lines.append(f"  dropped {told(self.sources_dropped)}")
        lines.append(f"triplets  {self.candidates} candidates, {self.kept} kept of {self.wanted} wanted")
        if self.dropped:
            lines.append(f"  dropped {told(self.dropped)}")
        lines.append(f"shards    {self.shards} in {out}/data, {self.bytes / 1e6:.1f} MB")
        if self.seconds:
            pace = self.built / self.seconds
            lines.append(f"time      {self.seconds:.1f} s of building this time, {pace:.1f} triplets/s")
        if self.rebuilt:
            lines.append(f"rebuilt   {self.rebuilt} shards, byte for byte those of the lock")
        if self.shards_missing:
            lines.append(f"missing   {self.shards_missing} shards; the run that ends last writes card and manifests")
        else:
            lines.append(f"card      {out}/README.md\npictures  {out}/card/contact_sheet.png")
            lines += [f"look      layerkit browse {out}"] * ("://" not in out)
        return "\n".join(lines)


def told(counts: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def funnel_of(folder: BuildFolder, recipe: Recipe) -> Funnel:
    """Reduce the commits and the pools' rejects to the funnel; always from what is on the disk."""
    dropped: Counter[str] = Counter()
    tars = folder.tars()
    kept = candidates = size = shards = missing = 0
    for shard in plan(recipe):
        commit = folder.read_commit(shard.index, recipe.fingerprint, tars)
        if commit is None:
            missing += 1
            continue
        dropped.update(commit.dropped)
        kept, candidates, size, shards = (
            kept + commit.kept,
            candidates + commit.candidates,
            size + commit.bytes,
            shards + 1,
        )
    sources_kept, sources_dropped = _source_counts(folder, recipe)
    return Funnel(
        wanted=recipe.count,
        kept=kept,
        candidates=candidates,
        dropped=dict(sorted(dropped.items())),
        sources_kept=sources_kept,
        sources_dropped=sources_dropped,
        bytes=size,
        shards=shards,
        shards_missing=missing,
    )


def _source_counts(folder: BuildFolder, recipe: Recipe) -> tuple[dict[str, int], dict[str, int]]:
    kept: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for mix in recipe.mix:
        for use in mix.pools:
            path = folder.state / POOLS / f"{mix.name}-{use}.arrow"
            if path.exists():
                kept[f"{mix.name} {_PLURAL[use]}"] = len(Pool(path))
                with path.with_suffix(".rejects.jsonl").open("rb") as rejects:
                    dropped.update(json.loads(line)["drop"]["reason"] for line in rejects)
    return kept, dict(sorted(dropped.items()))

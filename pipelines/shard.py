"""Build one shard: draw candidates for its slots, judge them, write the tar, check it, publish it."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..manifests.errors import RunError
from ..manifests.licences import strictest
from ..manifests.record import SCHEMA, Record
from ..toolkit.compose import recomposition_error
from ..toolkit.images import decode_member
from ..toolkit.layers import Layers
from ..toolkit.shards import Members, TarWriter, decode_layers, decode_record, encode_sample, read_samples
from .cache import Cache
from .candidate import Candidate
from .draw import generator
from .filters import Drop, all_scores, judge
from .layered import take_out
from .ledger import TMP, BuildFolder, Commit
from .loaders import model_name, saliency_model
from .paste import paste
from .plan import Shard
from .pools import Pixels, Pool, Stock
from .recipe import Mix, Recipe
from .rows import pool_path

ROUTES: dict[str, Callable[..., Candidate | Drop]] = {
    "paste": paste,
    "cut": take_out,
    "layers": take_out,
    "generate": take_out,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A triplet that passed every filter, encoded."""

    record: Record
    sample: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A candidate that did not."""

    slot: int
    attempt: int
    name: str
    drop: Drop
    scores: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """What a worker needs to build shards: picklable, equal on every machine."""

    recipe: Recipe
    fingerprint: str
    folder: BuildFolder
    cache: Path
    weights: Path | None = None

    def __call__(self, shard: Shard) -> Commit:
        """Build and publish one shard; only its commit goes back.

        Raises:
            RunError: the disk is full or cannot be written; nothing half-made stays.
        """
        folder = self.folder
        # A name of its own: a killed run's orphan, or a task that Ray started twice, may still write the same shard.
        tar = folder.state / TMP / f"{shard.index:06d}.{uuid.uuid4().hex}.tar"
        try:
            return self._build(shard, folder, tar)
        except OSError as error:
            tar.unlink(missing_ok=True)
            raise RunError(
                f"cannot write shard {shard.index} below {folder.root}: {error.strerror or error}; "
                "finished shards are kept: make room and run the same command again"
            ) from error

    def _build(self, shard: Shard, folder: BuildFolder, tar: Path) -> Commit:
        began = time.perf_counter()
        rows: list[dict[str, Any]] = []
        dropped: Counter[str] = Counter()
        with TarWriter(tar) as writer:
            for outcome in self.outcomes(shard):
                if isinstance(outcome, Kept):
                    writer.write(outcome.record.key, outcome.sample)
                    rows.append({"kept": True, **outcome.record.table()})
                else:
                    dropped[outcome.drop.reason] += 1
                    rows.append({"kept": False, "mix": shard.mix, "split": shard.split, **asdict(outcome)})
            sha256 = writer.close()
            size = writer.size
        kept = [row["key"] for row in rows if row["kept"]]
        licences = {row["licence"] for row in rows if row["kept"]}
        _check(tar, kept)
        commit = Commit(
            shard=shard.index,
            fingerprint=self.fingerprint,
            mix=shard.mix,
            split=shard.split,
            tar=shard.tar if kept else "",
            bytes=size if kept else 0,
            sha256=sha256 if kept else "",
            licence=strictest(licences) if kept else "",
            kept=len(kept),
            candidates=len(rows),
            dropped=dict(sorted(dropped.items())),
            seconds=round(time.perf_counter() - began, 3),
        )
        folder.publish(commit, tar, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        return commit

    def outcomes(self, shard: Shard) -> Iterator[Kept | Refused]:
        """For each slot the refused candidates, then the one that was kept, if any."""
        mix, stock = self._drawn_from(shard)
        for slot in range(shard.first, shard.first + shard.count):
            if lacking := [use for use, pool in stock.pools.items() if not len(pool)]:
                drop = Drop("empty_split", 0, 1, f"no {lacking[0]} of {mix.name} is in {shard.split}")
                yield self._judge(drop, mix, shard, slot, 0)
                continue
            for attempt in range(self.recipe.attempts):
                outcome = self._judge(self._draw(mix, stock, slot, attempt), mix, shard, slot, attempt)
                yield outcome
                if isinstance(outcome, Kept):
                    break

    def redraw(self, shard: Shard, slot: int, attempt: int) -> Candidate | Drop:
        """A candidate once more, as it was drawn for this slot at this attempt, whatever became of it.

        Raises:
            RunError: a source's file changed or vanished, or the cache was emptied.
            MissingWeights: the mix asks for a model that is not here.
        """
        return self._draw(*self._drawn_from(shard), slot, attempt)

    def _drawn_from(self, shard: Shard) -> tuple[Mix, Stock]:
        mix = next(mix for mix in self.recipe.mix if mix.name == shard.mix)
        root = self.folder.root
        return mix, _stock(root, mix, shard.split, self.cache, self.weights, _stamp(root, mix))

    def _draw(self, mix: Mix, stock: Stock, slot: int, attempt: int) -> Candidate | Drop:
        return ROUTES[mix.route](self.recipe, mix, stock, generator(self.fingerprint, slot, attempt))

    def _judge(self, candidate: Candidate | Drop, mix: Mix, shard: Shard, slot: int, attempt: int) -> Kept | Refused:
        if isinstance(candidate, Drop):
            return Refused(slot=slot, attempt=attempt, name="", drop=candidate, scores=all_scores({}))
        scores = all_scores(candidate.scores)
        drop = judge(scores, mix.filters)
        if drop is not None:
            return Refused(slot=slot, attempt=attempt, name=candidate.name, drop=drop, scores=scores)
        return self._encode(candidate, scores, mix, shard, slot, attempt)

    def _encode(
        self, candidate: Candidate, scores: dict[str, float], mix: Mix, shard: Shard, slot: int, attempt: int
    ) -> Kept:
        layers, members = candidate.layers, self.recipe.members
        height, width = layers.size
        image = members.encode_image(layers.image)
        choices = {"slot": slot, "attempt": attempt, "seed": self.recipe.seed, **candidate.choices}
        record = Record(
            schema=SCHEMA,
            key=f"{candidate.name}-{slot:06d}",
            split=shard.split,
            mix=mix.name,
            route=mix.route,
            width=width,
            height=height,
            caption=candidate.caption,
            objects=candidate.objects,
            licence=strictest(origin.licence for origin in candidate.origins),
            layers=candidate.origins,
            models={**candidate.models, "saliency": model_name(saliency_model(mix.cut.saliency, self.weights))},
            scores=scores,
            recomposition_error=_recomposition_error(layers, image, members),
            recomposition_bound=members.recomposition_bound,
            composite_error=round(candidate.composite_error, 6),
            choices=json.dumps(choices),
        )
        return Kept(record=record, sample=encode_sample(record, layers, image, members, candidate.background))


@lru_cache(maxsize=8)
def _stock(root: Path, mix: Mix, split: str, cache: Path, weights: Path | None, stamp: tuple[int, ...]) -> Stock:
    """The stock of a mix and split, kept while its pools are the files that ``stamp`` says."""
    pools = {use: Pool(pool_path(BuildFolder(root), mix, use), split) for use in mix.pools}
    return Stock(pools, Pixels(Cache(cache)), saliency_model(mix.cut.saliency, weights))


def _stamp(root: Path, mix: Mix) -> tuple[int, ...]:
    return tuple(pool_path(BuildFolder(root), mix, use).stat().st_mtime_ns for use in mix.pools)


def _recomposition_error(layers: Layers, image: bytes, members: Members) -> int:
    """Of the written members; a lossless image was composed from these very layers, so only JPEG can differ."""
    if members.image == "png":
        return 0
    return recomposition_error(layers.foreground, layers.background, layers.occluder, decode_member(image, "jpg"))


def _check(tar: Path, keys: list[str]) -> None:
    """Reopen what was written: every sample there, in order, and the first and last decode to what they promise.

    Raises:
        ShardError: it is not what was written.
    """
    found = []
    for key, sample in read_samples(tar):
        found.append(key)
        if key in (keys[0], keys[-1]):
            record, layers = decode_record(sample, key), decode_layers(sample, key)
            if layers.recomposition_error() > record.recomposition_bound:
                raise RunError(f"{tar}: {key} recomposes with an error of {layers.recomposition_error()} levels")
    if found != keys:
        raise RunError(f"{tar}: expected {len(keys)} samples, read {len(found)} back; is the disk sound?")

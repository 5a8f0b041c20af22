"""From the options of a run to its data: what is trained on, and what is held out."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...manifests.errors import ShardError, UsageError
from ...manifests.exclusions import read_keys
from ...manifests.record import NOT_MEASURED
from ..ledger import BuildFolder
from ..run_file import read_run, recipe_of
from ..tables import pieces
from .composed import ComposedData, PairData, RenderedData
from .config import DataOptions
from .data import ShardData
from .sample import Mixed, Sample, Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the data of a run lie.

    Attributes:
        builds: folders of finished builds.
        rendered: train on ray-cast scenes, see :class:`~.composed.RenderedData`, in the place of builds.
        pairs: folder of photographs with and without an object, see :class:`~.composed.PairData`; or None.
        exclude: text file with keys that are left out, one a line; or None.
        cache: of prepared assets, for what is composed while training; None is the user's.
        weights: the folder given by ``--weights``.
    """

    builds: tuple[Path, ...] = ()
    rendered: bool = False
    pairs: Path | None = None
    exclude: Path | None = None
    cache: Path | None = None
    weights: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.builds) == self.rendered:
            raise UsageError("--data: expected the folders of builds, or procedural alone, got both or nothing")


def trained_on(options: DataOptions, sources: Sources, seed: int, *, skip_broken: bool = False) -> Stream:
    """The endless stream of training samples.

    Raises:
        UsageError: no samples, or a share of something that is not there.
        ShardError: a shard is broken.
    """
    if sources.pairs and not options.pairs:
        raise UsageError("--pairs: expected a share of the pairs as well; add --set data.pairs=0.1")
    parts: list[tuple[Stream, float]] = []
    if sources.rendered:
        if options.scores:
            raise UsageError(
                "data.scores: expected none with --data procedural, whose scenes have none; leave them out"
            )
        parts.append((RenderedData("train", options.view(), seed), 1 - options.pairs))
    elif options.compose + options.pairs < 1:
        choose = _choice(options, sources, held_out=False)
        data = ShardData(sources.builds, "train", options.view(), seed, choose=choose, skip_broken=skip_broken)
        parts.append((data, 1 - options.compose - options.pairs))
    if options.compose and not sources.rendered:
        parts += _composed(options, sources, seed)
    if options.pairs:
        parts.append((_pairs(options, sources, seed), options.pairs))
    return parts[0][0] if len(parts) == 1 else Mixed(parts)


def validated_on(
    options: DataOptions, sources: Sources, seed: int, count: int, *, skip_broken: bool = False
) -> list[Sample]:
    """The first ``count`` held-out samples, neither cropped nor mirrored; fewer, or none, where a build has no more.

    Where none can be had, a line in the log says why.

    Raises:
        ShardError: a shard is broken.
    """
    view = replace(options.view(), crop=False, flip=0.0)
    if sources.rendered:
        return [RenderedData("val", view, seed)[k] for k in range(count)]
    split, choose = ("val" if _has_split(sources) else "train"), _choice(options, sources, held_out=True)
    try:
        data = ShardData(sources.builds, split, view, seed, shuffle=False, choose=choose, skip_broken=skip_broken)
    except UsageError as error:
        _log.warning("nothing is held out: %s", error)
        return []
    return list(islice(_readable(data, skip_broken), count))


def _readable(data: ShardData, skip_broken: bool) -> Iterator[Sample]:
    """The samples in their order, without the broken ones if those are to be skipped."""
    for number in range(len(data)):
        try:
            yield data[number]
        except ShardError as error:
            if not skip_broken:
                raise
            _log.warning("left a sample out of what is held out: %s", error)


def held_out_how(sources: Sources) -> str:
    """How the held-out samples were kept apart."""
    if sources.rendered:
        return "other scenes of the same kind"
    if _has_split(sources):
        return "the split val of the build, which shares no picture with what is trained on"
    return "held out by key alone: they share pictures with what is trained on, which flatters the model"


def _has_split(sources: Sources) -> bool:
    return all(any((build / "data").glob("val-*.tar")) for build in sources.builds)


def _choice(options: DataOptions, sources: Sources, *, held_out: bool) -> Callable[[str], bool]:
    """Which keys of the shards are read."""
    left_out = set(read_keys(sources.exclude)) if sources.exclude else set()
    if options.without:
        left_out.update(key for build in sources.builds for key in _made_of(build, options.without))
    if options.scores:
        left_out.update(key for build in sources.builds for key in _outside(build, options.scores))
    limit = None if _has_split(sources) else options.held_out * 2**32
    return lambda key: key not in left_out and (limit is None or (_hash(key) < limit) == held_out)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def _made_of(build: Path, datasets: Sequence[str]) -> Iterator[str]:
    """Keys of the samples whose foreground comes from one of these data sets."""
    for key, layers in _manifest(build, "layers", "without"):
        if any(layer["layer"] == "foreground" and layer["dataset"] in datasets for layer in layers):
            yield key


def _outside(build: Path, limits: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Keys of the samples of which a score that was measured lies outside of its limits."""
    for key, scores in _manifest(build, "scores", "scores"):
        for name, (low, high) in limits.items():
            if scores[name] != NOT_MEASURED and not low <= scores[name] <= high:
                yield key


def _manifest(build: Path, column: str, option: str) -> Iterator[tuple[str, Any]]:
    """Key and one column of every sample of a build; ``option`` is what asks for it."""
    path = BuildFolder(build).manifests / "samples.parquet"
    try:
        for rows in pieces(path, ["key", column]):
            yield from zip(rows["key"].to_pylist(), rows[column].to_pylist(), strict=True)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def _composed(options: DataOptions, sources: Sources, seed: int) -> Iterator[tuple[Stream, float]]:
    """A stream of every mix of every build, by the shares of the recipes."""
    for build in sources.builds:
        folder = BuildFolder(build).resolved()
        mixes = [mix for mix in recipe_of(read_run(folder), folder).mix if mix.share > 0]
        total = sum(mix.share for mix in mixes) * len(sources.builds) / options.compose
        for mix in mixes:
            data = ComposedData(
                build, mix.name, "train", options.view(), seed, cache=sources.cache, weights=sources.weights
            )
            yield data, mix.share / total


def _pairs(options: DataOptions, sources: Sources, seed: int) -> PairData:
    if sources.pairs is None:
        raise UsageError("data.pairs: expected --pairs with the folder of the photographs as well, got none")
    return PairData(sources.pairs, options.view(), seed)

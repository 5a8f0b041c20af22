"""Which pairs of a data set a suite draws: by hashes of their ids, so that a missing picture moves no other one."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ...manifests.errors import UsageError
from ...manifests.pairs import Pair
from ...manifests.sources import (
    build_pairs,
    desobav2,
    drawn_pairs,
    misato,
    mulan_pairs,
    res,
    rord,
    same_stems,
    scenes,
)
from ...manifests.suites import Suite
from . import ober

_READERS: Mapping[str, Callable[[Path, str], Iterator[Pair]]] = {
    "rord": rord.pairs,
    "mulan": mulan_pairs.pairs,
    "desobav2": desobav2.pairs,
    "misato": misato.pairs,
    "places2": scenes.places,
    "outpainting": scenes.outpainting,
    "res": res.pairs,
    "ober": ober.pairs,
    "removalbench": same_stems.removalbench,
    "aim-500": same_stems.aim,
    "build": build_pairs.pairs,
    "ll2i": build_pairs.pairs,
    "layerfusion": drawn_pairs.pairs,
}


def drawn(suite: Suite, roots: Mapping[str, Path], limit: int | None, seed: int) -> Iterator[Pair]:
    """The pairs up to the last one that is drawn, in that order, with those among them that cannot serve."""
    found = list(_named_once(_READERS[suite.reader](_root(suite, roots), suite.split)))
    _check(suite, found)
    ranked = _ranked(found, seed)
    if suite.draw == "one-per-scene":
        ranked = [(turn, pair) for turn, pair in ranked if turn < 1]
    left = min(count for count in (limit, suite.n or None, len(ranked)) if count is not None)
    for _, pair in ranked:
        if left == 0:
            return
        left -= not pair.drop
        yield pair


def _named_once(pairs: Iterator[Pair]) -> Iterator[Pair]:
    """The pairs; one whose id another had before cannot serve, for nothing could tell their scores apart."""
    seen: dict[str, int] = {}
    for pair in pairs:
        seen[pair.id] = times = seen.get(pair.id, 0) + 1
        drop = f"duplicate_id: expected every id once, got {pair.id} again, in {pair.image.path}"
        yield replace(pair, id=f"{pair.id}#{times}", drop=drop) if times > 1 else pair


def _ranked(pairs: list[Pair], seed: int) -> list[tuple[int, Pair]]:
    """Pairs in the order of a draw, each with its turn: one of every scene before a second of any.

    Faults of whole files come first, at turn -1. Within a scene, what can serve comes first.
    """
    ranks = {pair.id: _rank(seed, pair.id) for pair in pairs}
    seen: dict[str, int] = {}
    ranked: list[tuple[int, Pair]] = []
    for pair in sorted(pairs, key=lambda pair: (bool(pair.drop), ranks[pair.id], pair.id)):
        ranked.append((seen.get(pair.scene, 0) if pair.scene else -1, pair))
        seen[pair.scene] = seen.get(pair.scene, 0) + 1
    return sorted(ranked, key=lambda item: (item[0], _rank(seed, item[1].scene), ranks[item[1].id]))


def _rank(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def _root(suite: Suite, roots: Mapping[str, Path]) -> Path:
    root = Path(suite.folder) if suite.folder else roots.get(suite.reader)
    if root is None:
        raise UsageError(f"suite {suite.name} needs to know where {suite.reader} lies; add --root {suite.reader}=DIR")
    if not root.is_dir():
        raise UsageError(f"suite {suite.name}: expected a folder with {suite.reader}, got {root}")
    return root


def _check(suite: Suite, found: list[Pair]) -> None:
    """Raise where the data set is of another kind than the suite; single faults are drops."""
    if other := next((pair.truth for pair in found if pair.truth != suite.truth), None):
        raise UsageError(
            f"suite {suite.name} compares with a truth of the kind {suite.truth!r}, got a data set of the kind "
            f"{other!r}: another protocol; choose a suite for it (layerkit ls suites)"
        )
    masks = {name for pair in found for name in pair.masks if not pair.drop}
    if masks and suite.mask not in masks:
        raise UsageError(
            f"suite {suite.name} needs {suite.mask} masks, got a data set with {', '.join(sorted(masks))} only; "
            "add them, or choose another suite (layerkit ls suites)"
        )

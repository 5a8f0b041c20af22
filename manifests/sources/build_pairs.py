"""Reader ``build`` of the benchmarks: a data set that layerkit built, by its tars.

The members of a sample are found by the headers of the tar, and read by their spans. Nothing but the record is opened.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from ..errors import ShardError, UsageError
from ..exclusions import EXCLUDE, excluded_from
from ..pairs import File, MaskFile, Pair
from ..prompts import Prompt
from ..record import Record
from .tars import members

SHADOW = 12
"""Attenuation of 255 above which ground counts as shadow: a twentieth of the light."""

_SHARD = re.compile(r"(train|val|test)-.+-\d{6}\.tar")
_ROLES = ("image", "foreground", "background", "mask", "shadow", "occluder", "json")


def pairs(root: Path, split: str = "held-out") -> Iterator[Pair]:
    """A pair a sample in the order of the tars.

    Args:
        root: the folder of a build, with ``data/``.
        split: ``held-out`` is the build's ``test``, or ``val`` where it has none, or else all; or one of its splits.

    Yields:
        A pair; those that the build's own list excludes, and those that cannot be read, say so in ``drop``.

    Raises:
        UsageError: no build, or one without that split; or its list cannot be read.
    """
    shards: dict[str, list[Path]] = {}
    for path in sorted((root / "data").glob("*.tar")):
        if named := _SHARD.fullmatch(path.name):
            shards.setdefault(named[1], []).append(path)
    chosen = next((one for one in ("test", "val", "train") if one in shards), "") if split == "held-out" else split
    if chosen not in shards:
        raise UsageError(
            f"{root}: expected a data set of layerkit build-triplets with data/{chosen or 'test'}-*.tar, got "
            f"{', '.join(shards) or 'no shards'}"
        )
    excluded = excluded_from(root)
    return chain.from_iterable(_samples(shard, excluded) for shard in shards[chosen])


def _samples(shard: Path, excluded: frozenset[str]) -> Iterator[Pair]:
    listed, fault = members(shard)
    samples: dict[str, dict[str, File]] = {}
    for name, span in listed:
        key, _, member = name.partition(".")
        samples.setdefault(key, {})[member.partition(".")[0]] = File(path=shard, span=span)
    for key, roles in samples.items():
        pair = _pair(shard, key, roles)
        yield replace(pair, drop=f"excluded: left out by {EXCLUDE}") if key in excluded else pair
    if fault:
        drop = f"unreadable_tar: {shard} {fault}"
        yield Pair(source="build", id=shard.name, scene="", image=File(path=shard), drop=drop)


def _pair(shard: Path, key: str, roles: Mapping[str, File]) -> Pair:
    missing = [role for role in _ROLES if role not in roles]
    if missing:
        drop = f"missing_member: expected {', '.join(missing)} of {key} in {shard}"
        return Pair(source="build", id=key, scene=key, image=File(path=shard), kind="triplet", drop=drop)
    try:
        record = _record(roles["json"])
        prompt = Prompt(record.caption) if record.caption.strip() else None
    except (ShardError, OSError, UsageError) as error:
        drop = f"bad_record: {error}"
        return Pair(source="build", id=key, scene=key, image=roles["image"], kind="triplet", drop=drop)
    return Pair(
        source="build",
        id=key,
        scene=_scene(record, key),
        image=roles["image"],
        kind="triplet",
        background=roles["background"],
        foreground=roles["foreground"],
        occluder=roles["occluder"],
        masks={
            "tight": (MaskFile(file=roles["mask"]),),
            "shadow": (MaskFile(file=roles["shadow"], threshold=SHADOW),),
        },
        prompt=prompt,
        category=record.mix,
        licence=record.licence,
        author="; ".join(dict.fromkeys(layer.author for layer in record.layers if layer.author)),
        url=record.layers[0].url if record.layers else "",
    )


def _scene(record: Record, key: str) -> str:
    """The picture that the background comes from: triplets on one background are not independent of one another."""
    return next((f"{layer.dataset}/{layer.id}" for layer in record.layers if layer.layer == "background"), key)


def _record(file: File) -> Record:
    offset, length = file.span or (0, 0)
    with file.path.open("rb") as data:
        data.seek(offset)
        return Record.from_json(data.read(length), str(file.path))

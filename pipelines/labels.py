"""What people say of a build's samples: the labels file, and the samples that its labels speak of.

A labels file has one JSON object a line: ``{"key": KEY, "role": "mask-quality", "label": "good", "note": ""}``.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..manifests import schema
from ..manifests.errors import UsageError
from ..toolkit.judges import Role
from ..toolkit.layers import Layers
from ..toolkit.shards import read_samples
from .ledger import write_atomically

Kind = Literal["good", "bad"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SHOWN = 3  # keys that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One line of a labels file.

    Attributes:
        key: of the sample.
        role: what was looked at.
        label: what was said of it.
        note: why, in words, or empty.
    """

    key: str
    role: Role
    label: Kind
    note: str = ""


def read_labels(path: Path) -> list[Label]:
    """The labels of a file, one a role and key: of several, the last line wins.

    Raises:
        UsageError: the file cannot be read, or a line is no label; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a labels file: {error}") from error
    labels = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    return list({(label.role, label.key): label for label in labels}.values())


def _parse(line: str, where: str) -> Label:
    try:
        return schema.parse(Label, json.loads(line), where)
    except ValueError as error:
        raise UsageError(f"{where}: expected one JSON object a line: {error}") from error


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Write a labels file; it appears whole, or stays as it was.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(json.dumps(asdict(one), ensure_ascii=False).encode() + b"\n" for one in labels))
    except OSError as error:
        raise UsageError(f"--out: cannot write the labels file {path}: {error.strerror}") from error


def tars_of(build: Path) -> dict[str, str]:
    """Key to tar of every sample of a finished build, in its order.

    Raises:
        UsageError: the folder lacks the manifest that ``finish`` writes.
    """
    import pyarrow.parquet as pq

    path = build / "manifests" / "samples.parquet"
    if not path.is_file():
        raise UsageError(f"expected the folder of a finished build, but {path} is missing; build it to its end first")
    table = pq.read_table(path, columns=["key", "shard"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def samples_of(build: Path, keys: Collection[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and encoded members of these samples of a build, in its order; only their tars are opened.

    Raises:
        UsageError: the build is not finished, or has no sample of one of the keys.
        ShardError: a tar is damaged.
    """
    tars = tars_of(build)
    if strangers := [key for key in keys if key not in tars]:
        named = ", ".join(strangers[:_SHOWN]) + (" …" if len(strangers) > _SHOWN else "")
        raise UsageError(f"expected keys of samples of {build}, {len(strangers)} of {len(keys)} are not: {named}")
    wanted = set(keys)
    by_tar: dict[str, int] = defaultdict(int)
    for key, tar in tars.items():
        by_tar[tar] += key in wanted
    for tar in filter(by_tar.get, by_tar):
        yield from ((key, sample) for key, sample in read_samples(build / "data" / tar) if key in wanted)


def evidence(role: Role, layers: Layers) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Picture and mask of a triplet that a judge of this role is shown.

    For ``inpaint-quality`` the hole is wherever the foreground, with its effects, covers the background at all.
    """
    if role == "mask-quality":
        return layers.image, layers.mask > 0
    hole: Any = layers.foreground[..., 3] > 0
    return layers.background, hole

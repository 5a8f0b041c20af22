"""How ``bench`` is told to run."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..manifests.errors import UsageError
from ..toolkit.files import cache_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """How models are scored.

    Attributes:
        out: the report's folder.
        roots: name of a data set to its folder.
        weights: folder of pre-trained weights, beside the hub cache.
        cache: folder of feature vectors, shared by reports.
        device: of networks: ``cpu`` or ``cuda``.
        limit: cases of each suite, the first of its draw; None is all.
        seed: of the models' randomness.
        prompt: for the models that take one.
        exclude: ids of cases that are dropped.
        on_missing: for ``predictions``: a case without a picture is an error, or is dropped.
        resize: for ``predictions``: let pictures of another size in.
        workers: processes.
        part: which of ``of`` slices of the cases this process takes.
        of: see ``part``.
    """

    out: Path
    cache: Path
    roots: dict[str, Path] = field(default_factory=dict)
    weights: Path | None = None
    device: str = "cpu"
    limit: int | None = None
    seed: int = 0
    prompt: str = ""
    exclude: frozenset[str] = frozenset()
    on_missing: Literal["error", "skip"] = "error"
    resize: bool = False
    workers: int = 1
    part: int = 0
    of: int = 1


def options_of(device: str | None, **given: Any) -> BenchOptions:
    """Options as the command line gives them, with this machine's device and the slice that ``accelerate`` gives.

    Raises:
        UsageError: ``on_missing`` is another word, or several workers are asked for under ``accelerate``.
    """
    if given["on_missing"] not in ("error", "skip"):
        raise UsageError(f"--on-missing: expected error or skip, got {given['on_missing']!r}")
    of, part = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if of > 1 and given["workers"] > 1:
        raise UsageError(f"--workers: expected 1 in each of {of} processes of accelerate, got {given['workers']}")
    if of > 1 and device in (None, "cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if _has_cuda() else "cpu"
    device = device or ("cuda" if _has_cuda() else "cpu")
    return BenchOptions(device=device, cache=cache_folder(), of=of, part=part, **given)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()

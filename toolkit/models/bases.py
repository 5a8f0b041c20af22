"""Published pipelines as bases of systems: where one lies, and its networks, read, of random weights, or as mere sizes.

A base is a pipeline folder of diffusers, which is read and never downloaded. Of some the sizes are known to whoever
asks (``configs``, by the base's name), so that they can be counted on torch's meta device without their weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...manifests.errors import MissingWeights, UsageError
from ...manifests.weights import WEIGHTS, locate
from ..diffusers_folders import expect_pipeline, find_folder, load_part
from .system import Origin

DEBUG = "debug"
"""Name of the bases of a few random weights, always the same, which need no files."""

Configs = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Settings of networks by the base, then by the network; a published base's name is its repository's."""

_ROWS = {weights.repo: name for name, weights in WEIGHTS.items() if weights.repo}
_SEED = 0


def find_base(origin: Origin, pipeline: str, configs: Configs) -> Path | None:
    """Where a base lies; None for one that is known by its sizes, where these suffice.

    Args:
        origin: ``base`` is a pipeline folder, a name in the weights table, or a repository in the hub cache. With
            ``meta`` it may be empty, which is the first of ``configs``, and need not be here if ``configs`` knows it.
        pipeline: the class that the folder must name.
        configs: see :data:`Configs`.

    Raises:
        UsageError: no base is given, or it is another pipeline.
        MissingWeights: it is not on this machine.
    """
    published = next(iter(configs))
    base = origin.base or (published if origin.meta else "")
    if not base:
        raise UsageError(f"expected a base, a {pipeline} folder or a name in the hub cache; give --base {published}")
    if base == DEBUG:
        return None
    row = "" if Path(base).is_dir() else base if base in WEIGHTS else _ROWS.get(base, "")
    if origin.meta and (WEIGHTS[row].repo if row else base) in configs:
        return None
    folder = locate(row, origin.weights) if row else find_folder(base)
    expect_pipeline(folder, pipeline)
    return folder


def networks(
    folder: Path | None, origin: Origin, kinds: Mapping[str, Any], configs: Configs, dtype: torch.dtype
) -> list[Any]:
    """The networks of a base, in the order of ``kinds``.

    Args:
        folder: as :func:`find_base` gives it; None makes them from ``configs``, of random weights.
        origin: with ``meta`` only sizes are looked at.
        kinds: classes of diffusers by the name of their part.
        configs: see :data:`Configs`.
        dtype: of every weight.

    Raises:
        MissingWeights: a part is not there, or not complete.
    """
    with torch.device("meta" if origin.meta else "cpu"):
        made = (
            _known(origin, kinds, configs)
            if folder is None
            else [_read(kind, folder, name, dtype, origin.meta) for name, kind in kinds.items()]
        )
        return [cast(network, dtype) for network in made]


def _known(origin: Origin, kinds: Mapping[str, Any], configs: Configs) -> list[Any]:
    row = WEIGHTS.get(origin.base)
    base = row.repo if row else origin.base or next(iter(configs))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)  # torch.manual_seed would seed the accelerators too
        return [kind.from_config(configs[base][name]) for name, kind in kinds.items()]


def _read(kind: Any, folder: Path, name: str, dtype: torch.dtype, meta: bool) -> Any:
    if not meta:
        return load_part(kind.__name__, folder / name, dtype=dtype)
    try:
        return kind.from_config(kind.load_config(folder / name, local_files_only=True))
    except OSError as error:
        raise MissingWeights(f"expected the configuration of the {name} in {folder / name}: {error}") from error


def cast(module: Any, dtype: torch.dtype) -> Any:
    """Bring a model of diffusers to a dtype; its own ``to`` warns of parts to keep in float32, which none here has."""
    return nn.Module.to(module, dtype)


def factor_of(vae: Any) -> int:
    """Pixels along a latent pixel's side."""
    return 1 << (len(vae.config.block_out_channels) - 1)

"""Where a masked autoencoder is read from: a run of asuka-mae, or weights that others published."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...manifests import schema
from ...manifests.errors import MissingWeights, UsageError
from ...manifests.recipes import load_table
from ...manifests.weights import WEIGHTS, locate
from ..diffusers_folders import find_folder
from . import runs
from .bases import DEBUG
from .mae import MaeSizes, MaskedAutoencoder
from .tensor_files import check_tensors, read_tensors

PUBLISHED = "facebook/vit-mae-base"
SYSTEM = "asuka-mae"
PREFIX = "mae."
"""Of the autoencoder's tensors among those of a run."""

SMALL = MaeSizes(side=32, patch=4, width=32, depth=2, heads=2, decoder_width=32, decoder_depth=2, decoder_heads=2)
"""What ``debug`` has."""

_ROW = "vit-mae-base"
_CONFIG, _FILE = "config.json", "model.safetensors"
_SIZES = {
    "side": "image_size",
    "patch": "patch_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "decoder_width": "decoder_hidden_size",
    "decoder_depth": "decoder_num_hidden_layers",
    "decoder_heads": "decoder_num_attention_heads",
}
_RENAMED = (
    (r"^vit\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^vit\.embeddings\.", ""),
    (r"^vit\.layernorm\.", "norm."),
    (r"^vit\.encoder\.layer\.", "blocks."),
    (r"^decoder\.decoder_(layers|encoder\.layer)\.", "decoder_blocks."),
    (r"^decoder\.", ""),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)
_PARTS = tuple(f".attention.attention.{name}." for name in ("query", "key", "value"))
_PLACES = ("position_embeddings", "pos_embed")  # which are computed


def load_mae(source: str, weights: Path | None = None, *, meta: bool = False) -> MaskedAutoencoder:
    """A masked autoencoder, frozen and in evaluation mode.

    Args:
        source: folder of a run of ``asuka-mae``; or a ViTMAE of transformers, as a folder or a name in the hub cache,
            which is seen at 256 px with its own class token; or ``debug``, a small one of random weights, always the
            same. With ``meta`` it may be empty, or not be here yet, which is the paper's size.
        weights: the folder given by ``--weights``.
        meta: only its sizes matter; no weights are read.

    Raises:
        UsageError: nothing is named, or it is no such run or model.
        MissingWeights: it is not on this machine.
    """
    if source == DEBUG:
        return _frozen(debug())
    if not source and not meta:
        raise UsageError(
            f"mae: expected the folder of a run of {SYSTEM}, or the name of a ViTMAE such as {PUBLISHED}, got none; "
            f"train one with the recipe {SYSTEM}, and add --set model.mae=RUN"
        )
    if meta and not (source and Path(source).expanduser().is_dir()):
        return _frozen(MaskedAutoencoder(MaeSizes(class_token=source in (PUBLISHED, _ROW))))
    folder = find_mae(source, weights)
    return _frozen(_of_run(folder, meta) if (folder / runs.CONFIG).is_file() else _of_transformers(folder, meta))


def debug() -> MaskedAutoencoder:
    """The one of :data:`SMALL` sizes and random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return MaskedAutoencoder(SMALL)


def find_mae(source: str, weights: Path | None = None) -> Path:
    """The folder of a run or a published model.

    Raises:
        MissingWeights: it is not on this machine.
    """
    is_row = source in (_ROW, WEIGHTS[_ROW].repo) and not Path(source).is_dir()
    return locate(_ROW, weights) if is_row else find_folder(source)


def fill(mae: MaskedAutoencoder, folder: Path) -> None:
    """Fill an autoencoder with the weights of a run, or of a ViTMAE; a class token that it does not have is left out.

    Raises:
        UsageError: they are of other sizes.
        MissingWeights: they are not there.
    """
    of_run = (folder / runs.CONFIG).is_file()
    tensors = _tensors_of_run(folder) if of_run else read_transformers(folder / _FILE)
    if mae.cls_token is None:
        tensors.pop("cls_token", None)
    check_tensors(folder, tensors, mae)
    mae.load_state_dict(tensors)


def _frozen(mae: MaskedAutoencoder) -> MaskedAutoencoder:
    return mae.requires_grad_(False).eval()


def _of_run(folder: Path, meta: bool) -> MaskedAutoencoder:
    table = load_table(folder / runs.CONFIG)
    if table.get("system") != SYSTEM:
        raise UsageError(f"{folder / runs.CONFIG}: expected a run of {SYSTEM}, got one of {table.get('system')}")
    where = f"{folder / runs.CONFIG}: model.network"
    mae = MaskedAutoencoder(schema.parse(MaeSizes, table.get("model", {}).get("network", {}), where))
    if not meta:
        fill(mae, folder)
    return mae


def _tensors_of_run(folder: Path) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in read_tensors(folder / runs.WEIGHTS).items()}


def _of_transformers(folder: Path, meta: bool) -> MaskedAutoencoder:
    mae = MaskedAutoencoder(sizes_of(folder))
    if not meta:
        fill(mae, folder)
    return mae


def sizes_of(folder: Path) -> MaeSizes:
    """The sizes of a ViTMAE, at as many px a side as 16 patches have.

    Raises:
        UsageError: the folder holds another model.
        MissingWeights: it has no configuration.
    """
    try:
        table: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingWeights(f"expected a run of {SYSTEM} or a ViTMAE of transformers in {folder}: {error}") from error
    if table.get("model_type") != "vit_mae":
        raise UsageError(f"{folder / _CONFIG}: expected a model of the type vit_mae, got {table.get('model_type')!r}")
    found = {name: table[theirs] for name, theirs in _SIZES.items()}
    return MaeSizes(**{**found, "side": 16 * found["patch"], "class_token": True})


def read_transformers(path: Path) -> dict[str, Tensor]:
    """The tensors of a ViTMAE by the names of :class:`MaskedAutoencoder`, without those of fixed places.

    Raises:
        UsageError: the file is missing, or no safetensors.
    """
    theirs = read_tensors(path)
    tensors: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        part = next((part for part in _PARTS if part in name), None)
        if part is None and not name.endswith(_PLACES):
            tensors[renamed(name)] = tensor
        elif part == _PARTS[0]:
            ours = renamed(name.replace(part, ".attn.qkv."))
            tensors[ours] = torch.cat([theirs[name.replace(part, other)] for other in _PARTS])
    return tensors


def renamed(name: str) -> str:
    """The name in :class:`MaskedAutoencoder` of a tensor of transformers' ViTMAE."""
    for pattern, ours in _RENAMED:
        name = re.sub(pattern, ours, name)
    return name

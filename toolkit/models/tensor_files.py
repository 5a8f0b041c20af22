"""Safetensors files, held against the module that they are for."""

from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...manifests.errors import UsageError

_NAMES_TOLD = 8


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU as float32.

    Raises:
        UsageError: it is missing or no safetensors.
    """
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"expected safetensors in {path}, which cannot be read ({error}); get the file again"
        ) from error


def check_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    module: nn.Module,
    *,
    some: bool = False,
    names: Collection[str] | None = None,
) -> None:
    """Hold names and shapes against a module's own.

    Args:
        path: of the file, for errors.
        tensors: what was read from it.
        module: what it is for.
        some: allow the file to leave names out.
        names: of the module's tensors, those that the file is to hold; None is all.

    Raises:
        UsageError: tensors are missing, unexpected or of another shape; names the first of each.
    """
    wanted = {name: tensor for name, tensor in module.state_dict().items() if names is None or name in names}
    faults = {
        "missing": [] if some else [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {list(tensors[name].shape)} for {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
    }
    told = [f"{len(names)} {what}: {_first(names)}" for what, names in faults.items() if names]
    if told:
        raise UsageError(f"{path} does not hold the tensors of a {type(module).__name__}; {'; '.join(told)}")


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_TOLD]) + (" …" if len(names) > _NAMES_TOLD else "")

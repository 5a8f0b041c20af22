"""Reads the folders of diffusers that lie on this machine: its own classes and safetensors, no code and no pickles."""

import json
from pathlib import Path
from typing import Any

from ...manifests.errors import MissingWeights, UsageError


def load_pipeline(folder: Path, kind: str = "", device: str | None = None, **parts: Any) -> Any:
    """Load a pipeline folder as a class of diffusers, by default the one it names, with ``parts`` put in.

    Raises:
        UsageError: the folder names no pipeline of diffusers.
        MissingWeights: its safetensors are not complete.
    """
    place, dtype = placement(device)
    pipeline = load_part(kind or pipeline_name(folder), folder, dtype=dtype, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(place, dtype)


def placement(device: str | None) -> tuple[str, Any]:
    """Where and in which type networks run: bfloat16 on CUDA where there is one, else float32 on the CPU."""
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return place, torch.float32 if place == "cpu" else torch.bfloat16


def load_part(kind: str, folder: Path, **settings: Any) -> Any:
    """Load a model or pipeline folder as the class ``kind`` of diffusers, from safetensors on this machine."""
    import diffusers

    try:
        return getattr(diffusers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True, **settings)
    except OSError as error:
        raise MissingWeights(f"expected a complete {kind} with safetensors in {folder}: {error}") from error


def pipeline_name(folder: Path) -> str:
    """The class of diffusers that a pipeline folder names.

    Raises:
        UsageError: it names none.
    """
    import diffusers

    index = folder / "model_index.json"
    if not index.is_file():
        raise UsageError(f"expected a diffusers pipeline folder, but {folder} has no model_index.json")
    name = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    if not isinstance(name, str) or not hasattr(diffusers, name):
        raise UsageError(f"expected a pipeline of diffusers, but {index} names {name!r}")
    return name

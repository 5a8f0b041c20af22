"""Reads the folders of diffusers that lie on this machine: its own classes and safetensors, no code and no pickles."""

import json
from pathlib import Path
from typing import Any

from ..manifests.errors import MissingWeights, UsageError
from ..manifests.weights import hub_cache, hub_snapshot


def find_folder(source: str) -> Path:
    """Where a pipeline lies that a user names.

    Args:
        source: a folder, or ``organisation/name`` of the hub cache.

    Raises:
        MissingWeights: it is neither; says what to do.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    is_repo = source.count("/") == 1 and not source.startswith((".", "/", "~"))
    if is_repo and (snapshot := hub_snapshot(source)):
        return snapshot
    remedy = f"run: hf download {source} --revision main" if is_repo else "give a folder that exists"
    raise MissingWeights(f"no folder {source}, and nothing of that name in the hub cache {hub_cache()}; {remedy}")


def placement(device: str | None) -> tuple[str, Any]:
    """Where and in which type networks run: bfloat16 on CUDA where there is one, else float32 on the CPU."""
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return place, torch.float32 if place == "cpu" else torch.bfloat16


def load_pipeline(folder: Path, kind: str = "", device: str | None = None, **parts: Any) -> Any:
    """Load a pipeline folder as a class of diffusers, placed and silent.

    Args:
        folder: holds a ``model_index.json``.
        kind: the class; empty = the one that the folder names.
        device: see :func:`placement`.
        parts: what takes the place of the folder's own parts, by the names that the class gives them.

    Raises:
        UsageError: the folder names no pipeline of diffusers.
        MissingWeights: its safetensors are not complete.
    """
    place, dtype = placement(device)
    pipeline = load_part(kind or pipeline_name(folder), folder, dtype=dtype, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(place, dtype)


def load_part(kind: str, folder: Path, **settings: Any) -> Any:
    """Load the folder of a model or a pipeline as the class ``kind`` of diffusers, on the CPU.

    Args:
        kind: such as ``AutoencoderKL``.
        folder: of a pipeline, or of one part of it, such as ``PIPELINE/vae``.
        settings: of ``from_pretrained``; without ``dtype`` weights are float32.

    Raises:
        MissingWeights: its safetensors are not complete.
    """
    import diffusers

    expected = f"expected a complete {'pipeline' if kind.endswith('Pipeline') else kind} with safetensors in {folder}"
    if not folder.is_dir():
        raise MissingWeights(f"{expected}, which is no folder")
    try:
        return getattr(diffusers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True, **settings)
    except OSError as error:
        raise MissingWeights(f"{expected}: {error}") from error


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


def expect_pipeline(folder: Path, kind: str) -> None:
    """Make sure that a pipeline folder names the class ``kind`` of diffusers.

    Raises:
        UsageError: it names another one, or none.
    """
    if (name := pipeline_name(folder)) != kind:
        raise UsageError(f"expected a {kind} in {folder}, but its model_index.json names {name!r}")


def inpainting_name(folder: Path) -> str:
    """As :func:`pipeline_name`, of an inpainting pipeline.

    Raises:
        UsageError: it names none.
    """
    name = pipeline_name(folder)
    if not ("Inpaint" in name or "Fill" in name):
        raise UsageError(
            f"expected an inpainting pipeline of diffusers, but {folder / 'model_index.json'} names {name}; "
            "give an inpainting checkpoint, such as StableDiffusionInpaintPipeline"
        )
    return name

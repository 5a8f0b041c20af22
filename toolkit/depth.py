"""How near each pixel of a picture is, by a monocular depth network whose weights lie on this machine.

Depth Anything V2 (Yang et al., NeurIPS 2024) predicts inverse depth up to an unknown scale and offset, so a map says
which of two pixels is nearer, not by how many metres. LayerDecomp (Yang et al. 2024, sec. 4) orders objects with it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..manifests.errors import MissingWeights, UsageError
from ..manifests.weights import locate, revision_of

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class DepthModel(Protocol):
    """A named, versioned function from an 8-bit (H, W, 3) picture to (H, W) float32 in 0..1, 1 = nearest."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: a commit or a content hash."""

    def __call__(self, image: Bytes) -> Float:
        """Map the relative inverse depth of every pixel of an 8-bit (H, W, 3) picture; all 0 where it is constant."""


class TransformersDepth:
    """A network of transformers for relative inverse depth (Depth Anything 1 and 2), from a folder, offline.

    Only transformers' own classes and safetensors are loaded: no code and no pickle from the folder.

    Args:
        path: the folder: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``.
        name: what provenance records call it; the folder's name by default.
        device: None = CUDA (bfloat16) where there is one, else the CPU (float32).

    Raises:
        UsageError: the folder holds no such network; one for metric depth counts down towards the camera.
        MissingWeights: the folder is not complete, or holds no safetensors.

    """

    def __init__(self, path: Path, name: str | None = None, *, device: str | None = None) -> None:
        self.name, self.revision = name or f"transformers:{path.resolve().name}", revision_of(path)
        self._processor, self._network = _loaded(path, device)

    def __call__(self, image: Bytes) -> Float:
        """Map the relative inverse depth of an 8-bit (H, W, 3) picture, float32 (H, W): smallest 0, largest 1."""
        import torch

        pixels = self._processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            output = self._network(pixels.to(self._network.device, self._network.dtype)).predicted_depth
        small = output[0].float().cpu().numpy()
        height, width = image.shape[:2]
        return _min_max(np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32))


def _loaded(path: Path, device: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    reader: Any = AutoImageProcessor
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network = AutoModelForDepthEstimation.from_pretrained(path, local_files_only=True, use_safetensors=True)
        processor = reader.from_pretrained(path, local_files_only=True)
    except ValueError as error:
        raise UsageError(f"expected a depth network of transformers, but {path} cannot be read: {error}") from error
    except OSError as error:
        raise MissingWeights(f"expected a complete depth network with safetensors in {path}: {error}") from error
    kind = getattr(network.config, "depth_estimation_type", "unknown")
    if kind != "relative":
        raise UsageError(f"expected a network for relative depth (Depth Anything) in {path}, got one for {kind} depth")
    return processor, network.to(device, torch.float32 if device == "cpu" else torch.bfloat16).eval()


def _min_max(values: Float) -> Float:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _depth_anything(weights: Path | None) -> DepthModel:
    name = "depth-anything-v2-small"
    return TransformersDepth(locate(name, weights), name)


DEPTH: dict[str, Callable[[Path | None], DepthModel]] = {"depth-anything-v2-small": _depth_anything}


def load_depth(name: str, weights: Path | None = None) -> DepthModel:
    """Return the depth model called ``name``, its weights from ``weights`` (``--weights``) or the hub cache.

    Raises:
        UsageError: unknown name.
        MissingWeights: the model's files are in neither place.

    """
    loader = DEPTH.get(name)
    if loader is None:
        raise UsageError(f"expected a depth model ({', '.join(DEPTH)}), got {name!r}")
    return loader(weights)

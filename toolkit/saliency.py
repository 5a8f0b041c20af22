"""What stands out in a picture: saliency models, the mask they suggest, and how well a mask agrees with them.

A saliency model turns an 8-bit picture into a map in 0..1. ``spectral`` needs no weights; ``birefnet`` and ``u2net``
run an ONNX file. The ``cut`` route cuts out what is salient (Text2Layer: the pixels above 0.1 of an ICON map), and its
filters ask whether a mask covers what is salient (``agreement``) and whether anything salient was left behind in an
inpainted hole (``residual``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..manifests.errors import UsageError
from ..manifests.weights import locate, revision_of

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)

# A threshold of 1 or more would select nothing even where everything is salient.
_HIGHEST_THRESHOLD = 0.99


class SaliencyModel(Protocol):
    """A named, versioned function from an 8-bit (H, W, 3) picture to an (H, W) float32 map in 0..1."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: a commit, a content hash or an algorithm's year."""

    def __call__(self, image: Bytes) -> Float:
        """Map the saliency of every pixel of an 8-bit (H, W, 3) picture, 1 = most salient."""


# ---- without weights


def spectral_residual(image: Bytes, size: int = 64, *, small: bool = False) -> Float:
    """Spectral residual saliency (Hou & Zhang, CVPR 2007, eqs. 3-10) of an 8-bit (H, W, 3) picture.

    The residual spectrum exp(log A - mean3x3(log A)) with the picture's own phase is the spectrum S itself times
    exp(-mean3x3(log A)), so neither phase nor division is needed. The mean wraps round both axes, as a spectrum does.

    Args:
        image: (H, W, 3), 8-bit RGB.
        size: even side of the grey thumbnail that is analysed, in pixels; the paper's is 64.
        small: return the (size, size) map itself rather than one as large as the picture.

    Returns:
        float32 (H, W) or (size, size), smallest value 0, largest 1; all 0 for a picture of one grey level.

    Raises:
        UsageError: ``size`` is odd or below 8.

    """
    if size < 8 or size % 2:
        raise UsageError(f"expected an even saliency size of at least 8 px, got {size}")
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
    saliency = _residual_energy(grey.astype(np.float32)) if grey.min() < grey.max() else np.zeros_like(grey, np.float32)
    return saliency if small else _resized(saliency, image.shape[:2])


def _residual_energy(grey: Float) -> Float:
    spectrum = np.fft.rfft2(grey)
    # One grey level in one pixel: below it a spectrum holds rounding noise alone.
    log_amplitude = np.log1p(np.abs(spectrum)).astype(np.float32)
    whitened = spectrum * np.exp(-_wrapped_mean(log_amplitude))
    energy = np.fft.irfft2(whitened, s=grey.shape).astype(np.float32) ** 2
    return _min_max(np.asarray(cv2.GaussianBlur(energy, (0, 0), 2.5), np.float32))


def _wrapped_mean(half: Float) -> Float:
    """3×3 mean of an even real picture's half spectrum (n, n/2 + 1), whose other half is its point reflection."""
    reflected = half[-np.arange(len(half))]
    wide = np.hstack([reflected[:, 1:2], half, reflected[:, -2:-1]])
    tall = np.vstack([wide[-1:], wide, wide[:1]])
    return np.asarray(cv2.blur(tall, (3, 3))[1:-1, 1:-1], np.float32)


@dataclass(frozen=True)
class SpectralResidual:
    """``spectral_residual`` as a saliency model: no weights, about 0.2 ms for a 512 px picture."""

    size: int = 64
    name: str = "spectral"
    revision: str = "hou-zhang-2007"

    def __call__(self, image: Bytes) -> Float:
        """See ``spectral_residual``."""
        return spectral_residual(image, self.size)


# ---- with weights


class OnnxSaliency:
    """A salient-object network in an ONNX file: ImageNet normalisation in, the first output's first channel out.

    BiRefNet (Zheng et al. 2024) also exists as safetensors, but transformers has no class of its own for it and loading
    it there runs code from its repository. layerkit runs no such code; it reads the ONNX export of the same weights.

    Args:
        path: the ONNX file; it is hashed, or its hub commit is taken, as ``revision``.
        name: what provenance records call it.
        side: input side in pixels.
        logits: True where the output is logits (sigmoid follows), False where it is min-max normalised, as rembg does.
        stretch: divide by the picture's largest value rather than by 255, as rembg does for U²-Net.
        threads: CPU threads of one picture; the builder scales by processes instead.

    Raises:
        UsageError: onnxruntime is not installed, or cannot read the file.

    """

    def __init__(
        self, path: Path, name: str, *, side: int, logits: bool, stretch: bool = False, threads: int = 1
    ) -> None:
        self.name, self.revision = name, revision_of(path)
        self.side, self.logits, self.stretch = side, logits, stretch
        self._session = _onnx_session(path, threads)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: Bytes) -> Float:
        """Return the network's saliency of an 8-bit (H, W, 3) picture as float32 (H, W) in 0..1."""
        output = self._session.run(None, {self._input: self._prepared(image)})[0][0, 0].astype(np.float32)
        saliency = 1 / (1 + np.exp(-np.clip(output, -80, 80))) if self.logits else _min_max(output)
        return _resized(saliency, image.shape[:2])

    def _prepared(self, image: Bytes) -> Float:
        """(1, 3, side, side) float32, normalised as ImageNet is."""
        shrinks = min(image.shape[:2]) >= self.side
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(image, (self.side, self.side), interpolation=way).astype(np.float32)
        pixels /= max(float(pixels.max()), 1e-6) if self.stretch else 255
        return np.ascontiguousarray(((pixels - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None])


def _onnx_session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"{path.name} needs onnxruntime, which is not installed; run: pip install 'layerkit[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    state = onnxruntime.capi.onnxruntime_pybind11_state
    broken = (state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument, state.Fail, state.NotImplemented)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except broken as error:
        raise UsageError(f"expected an ONNX model, but {path} cannot be read ({error}); get the file again") from error


def _birefnet(weights: Path | None) -> SaliencyModel:
    return OnnxSaliency(locate("birefnet", weights), "birefnet", side=1024, logits=True)


def _u2net(weights: Path | None) -> SaliencyModel:
    return OnnxSaliency(locate("u2net", weights), "u2net", side=320, logits=False, stretch=True)


SALIENCY: dict[str, Callable[[Path | None], SaliencyModel]] = {
    "spectral": lambda weights: SpectralResidual(),
    "birefnet": _birefnet,
    "u2net": _u2net,
}


def load_saliency(name: str, weights: Path | None = None) -> SaliencyModel:
    """Return the saliency model called ``name``, its weights from ``weights`` (``--weights``) or the hub cache.

    Raises:
        UsageError: unknown name, or onnxruntime is not installed.
        MissingWeights: the model's file is in neither place.

    """
    loader = SALIENCY.get(name)
    if loader is None:
        raise UsageError(f"expected a saliency model ({', '.join(SALIENCY)}), got {name!r}")
    return loader(weights)


# ---- masks and scores


def salient_mask(saliency: Float, threshold: float | None = None) -> Bool:
    """Select the pixels whose saliency is above ``threshold``, as bool of the same shape.

    ``None`` takes twice the mean of the map (Achanta et al., CVPR 2009, eq. 10), kept below 1; Text2Layer takes 0.1 on
    ICON maps. The comparison is strict, so a map of zeros selects nothing.
    """
    if threshold is None:
        threshold = min(2 * cv2.mean(saliency)[0], _HIGHEST_THRESHOLD)
    return saliency > threshold


def agreement(saliency: Float, mask: Bool, threshold: float | None = None) -> tuple[float, float]:
    """How well a bool (H, W) mask covers what is salient: ``(IoU, contrast)``, both in 0..1.

    The IoU is that of ``salient_mask(saliency, threshold)`` and the mask; two empty masks agree (1). The contrast is
    inside / (inside + outside) of the mean saliencies; 0.5 = indifferent, also where everything is zero or where the
    mask is empty or covers all. A smaller map (``spectral_residual(..., small=True)``) is compared on its own grid.
    """
    mask = _on_grid(mask, saliency)
    salient = salient_mask(saliency, threshold)
    union = np.count_nonzero(salient | mask)
    iou = np.count_nonzero(salient & mask) / union if union else 1.0
    return iou, _contrast(saliency, mask)


def residual(saliency: Float, hole: Bool) -> float:
    """How much stands out inside an inpainted bool (H, W) hole: the contrast of ``agreement``, 0.5 = like the rest."""
    return _contrast(saliency, _on_grid(hole, saliency))


def _contrast(saliency: Float, mask: Bool) -> float:
    count = np.count_nonzero(mask)
    if count in (0, mask.size):
        return 0.5
    total = cv2.sumElems(saliency)[0]
    inside = cv2.mean(saliency, mask.view(np.uint8))[0]
    outside = max(total - inside * count, 0.0) / (mask.size - count)
    both = inside + outside
    return inside / both if both else 0.5


def _on_grid(mask: Bool, saliency: Float) -> Bool:
    """Put the mask on the map's grid: a cell belongs to it where more than half of it does."""
    if mask.shape == saliency.shape:
        return np.ascontiguousarray(mask)
    if any(small > large for small, large in zip(saliency.shape, mask.shape, strict=True)):
        raise UsageError(f"expected a saliency map no larger than the mask {mask.shape}, got {saliency.shape}")
    covered = cv2.resize(mask.astype(np.uint8) * 255, saliency.shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(covered > 127, bool)


def _min_max(values: Float) -> Float:
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _resized(saliency: Float, shape: tuple[int, ...]) -> Float:
    """Bilinear, so that 0..1 stays 0..1."""
    return np.asarray(cv2.resize(saliency, shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)

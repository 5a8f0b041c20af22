"""Judges: how good a mask, or an inpainted hole, looks; 1 is good, 0 is bad.

Text2Layer (arXiv 2307.09781, section 3) filters its triplets by two classifiers: an EfficientNet-b0 of which only the
last layer, one neuron, is trained on some thousand labels. ``mask-quality`` sees a picture and its mask (bad: the
object is incomplete, background is included, it is too small); ``inpaint-quality`` sees the inpainted background (bad:
an object or an artefact in the hole, a hole that does not cohere with the rest). :class:`LearnedJudge` runs such a
neuron; until there are labels, the heuristics judge by what the filters measure anyway.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests import schema
from ..manifests.errors import MissingWeights, UsageError
from ..manifests.recipes import load_table
from ..manifests.weights import locate, revision_of
from . import matte, saliency
from .inpaint import texture_ratio

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Float = NDArray[np.float32]

Role = Literal["mask-quality", "inpaint-quality"]
ROLES: tuple[Role, ...] = get_args(Role)

BASE = "efficientnet-b0"
"""Row of the weights table that a learned judge takes its features from."""

CONFIG, HEAD = "config.toml", "head.safetensors"
"""Files of a trained judge's folder."""

_GREY = 128
_MARGIN = 0.25  # of the mask's longer side: what the mask missed or took in must be seen beside it
_FULL_MARKS_AREA = 0.02  # of the picture: a mask smaller than this loses marks for its size


class Judge(Protocol):
    """A named, versioned judge of one role."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: a number or a content hash."""

    def __call__(self, image: U8, mask: Bool) -> float:
        """Judge an 8-bit (H, W, 3) picture with its bool (H, W) mask: 0 is bad, 1 is good.

        For ``mask-quality`` they are the image and the object's mask, for ``inpaint-quality`` the filled background and
        the hole.
        """


# ---- without weights


@dataclass(frozen=True)
class MaskHeuristic:
    """The geometric mean of five marks, each in 0..1; an empty mask gets 0.

    Size (area over 2 % of the picture), wholeness (one over the fragments; one less the share of the picture's border
    that is covered), saliency inside over inside plus outside, and whether the mask's outline lies on an edge of the
    picture: gradient energy there over the same plus that beside it.
    """

    name: str = "heuristic"
    revision: str = "1"

    def __call__(self, image: U8, mask: Bool) -> float:
        """See :class:`Judge`."""
        outline = texture_ratio(image, matte.trimap(mask, 1) == matte.UNKNOWN, ring=6)
        marks = (
            min(1.0, np.count_nonzero(mask) / mask.size / _FULL_MARKS_AREA),
            1 / max(1, matte.fragments(mask)),
            1 - matte.border_share(mask),
            saliency.agreement(_salience(image), mask)[1],
            outline / (1 + outline),
        )
        return _geometric_mean(marks)


@dataclass(frozen=True)
class InpaintHeuristic:
    """The geometric mean of two marks, each in 0..1; an empty hole gets 1.

    Texture: gradient energy of the hole and of its surroundings, the smaller over the larger. Calm: 1 where the hole
    stands out no more than the rest, 0 where it holds all of the saliency.
    """

    name: str = "heuristic"
    revision: str = "1"

    def __call__(self, image: U8, mask: Bool) -> float:
        """See :class:`Judge`."""
        texture = texture_ratio(image, mask)
        residual = saliency.residual(_salience(image), mask)
        return _geometric_mean((min(texture, 1 / texture), min(1.0, 2 - 2 * residual)))


def _salience(image: U8) -> Float:
    """The map of 64 px that the algorithm works on, or one as large as the picture where that is smaller."""
    return saliency.spectral_residual(image, small=min(image.shape[:2]) >= 64)


def _geometric_mean(marks: tuple[float, ...]) -> float:
    return float(np.prod(marks) ** (1 / len(marks)))


HEURISTICS: dict[Role, Judge] = {"mask-quality": MaskHeuristic(), "inpaint-quality": InpaintHeuristic()}


# ---- with weights


class Features:
    """A frozen EfficientNet-b0 of transformers, offline and from safetensors: what the neuron of a judge sees.

    A network with three channels cannot see a mask. For ``mask-quality`` its pooled features of the picture and of the
    picture with everything outside the mask in grey are concatenated, both cropped to the mask's box and a quarter of
    its longer side around it; since the crop hides how small an object is, the square root of the mask's share of the
    picture follows. For ``inpaint-quality`` there is the crop around the hole alone (Text2Layer shows the whole
    background, in which a small hole is a few pixels of 224).

    Args:
        weights: the folder given by ``--weights``, looked into before the hub cache.

    Raises:
        MissingWeights: EfficientNet-b0 is in neither place, or a file of it is broken.
        UsageError: what lies there is another network.
    """

    def __init__(self, weights: Path | None = None) -> None:
        path = locate(BASE, weights)
        self.revision = revision_of(path)
        self._network = _network(path)
        self._side = int(self._network.config.image_size)

    def __call__(self, role: Role, image: U8, mask: Bool) -> Float:
        """The float32 (D,) features of an 8-bit (H, W, 3) picture and a bool (H, W) mask, empty or not."""
        import torch

        pixels = np.stack([self._normalised(view) for view in _views(role, image, mask)])
        with torch.inference_mode():
            maps = self._network(torch.from_numpy(pixels).to(self._network.device)).last_hidden_state
        pooled: Float = maps.mean((2, 3)).flatten().cpu().numpy()
        share = np.count_nonzero(mask) / mask.size
        return np.append(pooled, np.float32(share**0.5)) if role == "mask-quality" else pooled

    def _normalised(self, view: U8) -> Float:
        """(3, side, side) float32, as ImageNet's are: Keras's and transformers' two divisions by √σ come to this."""
        shrinks = min(view.shape[:2]) >= self._side
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(view, (self._side, self._side), interpolation=way).astype(np.float32) / 255
        return np.asarray((pixels - saliency.IMAGENET_MEAN) / saliency.IMAGENET_STD, np.float32).transpose(2, 0, 1)


def _network(path: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import EfficientNetForImageClassification

    reader: Any = EfficientNetForImageClassification  # with its classifier, or transformers warns that it is left over
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        network, loading = reader.from_pretrained(path, **options)
    except (OSError, SafetensorError) as error:
        raise MissingWeights(f"expected an EfficientNet of transformers with safetensors in {path}: {error}") from error
    if missing := sorted(key for key in loading["missing_keys"] if key.startswith("efficientnet.")):
        raise UsageError(
            f"expected an EfficientNet of transformers in {path}, "
            f"it lacks {len(missing)} tensors such as {missing[0]}; get the weights again"
        )
    return network.efficientnet.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _views(role: Role, image: U8, mask: Bool) -> list[U8]:
    box = matte.bounding_box(mask) or matte.Box(0, 0, *mask.shape)
    region = box.grown(max(1, round(_MARGIN * max(box.height, box.width))), mask.shape).slices
    picture = image[region]
    if role == "inpaint-quality":
        return [picture]
    return [picture, np.where(mask[region][..., None], picture, np.uint8(_GREY))]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """What ``config.toml`` of a trained judge holds.

    Attributes:
        role: what it judges.
        base: row of the weights table of its features.
        revision: of these weights.
        epochs, lr, seed: of the training.
        n_train, n_test: labels that it was trained on, and that were held out.
        threshold: score from which a sample counts as good.
    """

    role: Role
    base: str
    revision: str
    epochs: int
    lr: float
    seed: int
    n_train: int
    n_test: int
    threshold: float


class LearnedJudge:
    """One neuron on the features of a frozen EfficientNet-b0, as ``train_judge`` wrote it: see :class:`Features`.

    Args:
        run_folder: holds ``config.toml`` and ``head.safetensors``.
        weights: the folder given by ``--weights``, looked into before the hub cache.

    Raises:
        UsageError: a file is missing or broken, or the neuron was trained on other weights than those found.
        MissingWeights: EfficientNet-b0 is not on this machine.
    """

    def __init__(self, run_folder: Path, weights: Path | None = None) -> None:
        self.config = read_config(run_folder)
        self.name, self.revision = f"{BASE}-{self.config.role}", revision_of(run_folder / HEAD)
        self._weight, self._bias = _read_head(run_folder / HEAD)
        self._features = Features(weights)
        found, trained = f"{BASE}@{self._features.revision}", f"{self.config.base}@{self.config.revision}"
        if found != trained:
            raise UsageError(
                f"{run_folder / CONFIG}: the judge was trained on {trained}, but {found} lies on this machine; "
                "get that revision (--weights DIR), or train anew on this one"
            )

    def __call__(self, image: U8, mask: Bool) -> float:
        """See :class:`Judge`."""
        return float(sigmoid(self._features(self.config.role, image, mask) @ self._weight + self._bias))


def sigmoid(logits: Any) -> Any:
    """1 / (1 + exp(-x)) of a number or an array, without overflow."""
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


def read_config(run_folder: Path) -> JudgeConfig:
    """What a trained judge's folder says of it.

    Raises:
        UsageError: it lacks a file, or ``config.toml`` is broken.
    """
    for file in (CONFIG, HEAD):
        if not (run_folder / file).is_file():
            raise UsageError(
                f"expected the folder of a trained judge with {CONFIG} and {HEAD}, {run_folder} lacks {file}"
            )
    path = run_folder / CONFIG
    return schema.parse(JudgeConfig, load_table(path), str(path))


def _read_head(path: Path) -> tuple[Float, float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        head = load_file(path)
        return head["weight"], float(head["bias"][0])
    except (SafetensorError, LookupError) as error:
        raise UsageError(f"{path}: expected the tensors weight (D,) and bias (1,): {error}; train it anew") from error


def load_judge(role: str, name: str, weights: Path | None = None) -> Judge:
    """Return the judge of a role that is called ``name``.

    Args:
        role: one of ``ROLES``.
        name: ``heuristic``, or the path of a trained judge's folder.
        weights: the folder given by ``--weights``, looked into before the hub cache.

    Raises:
        UsageError: an unknown role, a folder that holds no judge or one of another role, other base weights.
        MissingWeights: EfficientNet-b0 is not on this machine.
    """
    known = role_of(role)
    if name == "heuristic":
        return HEURISTICS[known]
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(f"expected 'heuristic' or the folder of a trained judge, got {name!r}, which is no folder")
    trained_for = read_config(folder).role
    if trained_for != known:
        raise UsageError(f"expected a judge of {known}, but {folder / CONFIG} says that it judges {trained_for}")
    return LearnedJudge(folder, weights)


def role_of(text: str) -> Role:
    """The role that ``text`` names.

    Raises:
        UsageError: it names none.
    """
    if text not in ROLES:
        raise UsageError(f"expected a judge's role ({', '.join(ROLES)}), got {text!r}")
    return text

"""Every model that ``--model`` takes, and how it is loaded.

A name of ``DECOMPOSERS``; the folder of a run of ``layerkit train``; ``predictions:DIR``, pictures that another program
wrote; ``diffusers:DIR_OR_REPO``, any inpainting pipeline; ``python:MODULE:ATTRIBUTE``, a model of one's own. Published
models whose code diffusers lacks are not imitated: ``NOT_AVAILABLE`` says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import WEIGHTS, locate
from ..decomposition import U8, Bool, Checked, Decomposition, Traits, checked
from ..diffusers_folders import find_folder
from ..inpaint import NavierStokes, PatchMatch, Telea
from ..models.runs import is_run
from .classical import ClosedFormMatting, Fill, Identity, MeanFill
from .layerdiffuse import NATIVE, BackgroundToForeground, ForegroundToBackground, load_layerdiffuse
from .pipelines_diffusers import PUBLISHED, load_any, load_published
from .plugins import load_plugin
from .predictions import load_predictions
from .qwen_layered import load_qwen_layered
from .runs import Keep, Task, Way, load_run_decomposer
from .torchscript import TorchScriptRemover

MASK = frozenset({"mask"})
MASK_AND_PROMPT = frozenset({"mask", "prompt"})


class Method(Protocol):
    """The part of a decomposer that computes."""

    @property
    def revision(self) -> str:
        """Which version runs."""

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """As a :class:`~..decomposition.Decomposer`."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a model may be told; see :func:`load`."""

    weights: Path | None = None
    prompt: str = ""
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of ``layerkit ls models``, known before anything is loaded; see :class:`Traits`.

    Attributes:
        about: what it does, in a few words.
        licence: of its weights, or of the code where it has none.
        load: makes the method.
    """

    about: str
    licence: str
    load: Callable[[Options], Method]
    native: int = 0
    needs: frozenset[str] = MASK
    is_random: bool = True


@dataclass(frozen=True, kw_only=True)
class _Named(Traits):
    """A method with the traits of its entry."""

    method: Method

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        return self.method(image, mask, generator)


def _published(name: str, about: str) -> Entry:
    row = PUBLISHED[name]
    licence = ", ".join(WEIGHTS[weights].licence for weights in row.weights)
    return Entry(
        about=about,
        licence=licence,
        native=row.native,
        load=lambda options: load_published(name, options.weights, options.prompt, options.device),
    )


def _layerdiffuse(kind: Any, about: str) -> Entry:
    return Entry(
        about=about,
        licence=f"{WEIGHTS['sdxl-base'].licence}, {WEIGHTS['layerdiffuse-xl'].licence}",
        native=NATIVE,
        needs=MASK_AND_PROMPT,
        load=lambda options: load_layerdiffuse(kind, options.weights, options.prompt, options.device),
    )


DECOMPOSERS: dict[str, Entry] = {
    "identity": Entry(
        about="the picture as it is",
        licence="none needed",
        needs=frozenset(),
        is_random=False,
        load=lambda options: Identity(),
    ),
    "mean-fill": Entry(
        about="the mean colour around the mask",
        licence="none needed",
        is_random=False,
        load=lambda options: Fill(MeanFill()),
    ),
    "telea": Entry(
        about="fast marching fill", licence="Apache-2.0", is_random=False, load=lambda options: Fill(Telea())
    ),
    "navier-stokes": Entry(
        about="fluid dynamics fill", licence="Apache-2.0", is_random=False, load=lambda options: Fill(NavierStokes())
    ),
    "patchmatch": Entry(about="patch-based fill", licence="MIT", load=lambda options: Fill(PatchMatch())),
    "closed-form-matting": Entry(
        about="closed-form alpha, multi-level colour, PatchMatch background",
        licence="MIT",
        load=lambda options: ClosedFormMatting(PatchMatch()),
    ),
    "lama": Entry(
        about="LaMa, big, as TorchScript",
        licence=WEIGHTS["lama"].licence,
        is_random=False,
        load=lambda options: TorchScriptRemover(locate("lama", options.weights), options.device),
    ),
    "sd-inpaint": _published("sd-inpaint", "Stable Diffusion 2 inpainting"),
    "sdxl-inpaint": _published("sdxl-inpaint", "SDXL inpainting 0.1"),
    "flux-fill": _published("flux-fill", "FLUX.1 Fill [dev]"),
    "powerpaint": _published("powerpaint", "PowerPaint 1, object removal"),
    "controlnet-inpaint": _published("controlnet-inpaint", "Stable Diffusion 1.5 with ControlNet 1.1 inpaint"),
    "rorem": _published("rorem", "RORem, 50 steps"),
    "attentive-eraser": _published("attentive-eraser", "Attentive Eraser on SDXL"),
    "qwen-image-layered": Entry(
        about="Qwen-Image-Layered, the layer that fits the mask best",
        licence=WEIGHTS["qwen-image-layered"].licence,
        native=640,
        load=lambda options: load_qwen_layered(options.weights, options.prompt, options.device),
    ),
    "layerdiffuse-bgble2fg": _layerdiffuse(
        BackgroundToForeground, "LayerDiffuse foreground before PatchMatch's background"
    ),
    "layerdiffuse-fgble2bg": _layerdiffuse(
        ForegroundToBackground, "LayerDiffuse background behind closed-form matting's foreground"
    ),
}


NOT_AVAILABLE: dict[str, str] = {
    "powerpaint-2": "its dual-branch network is in no release of diffusers",
    "brushnet": "its dual-branch network is in no release of diffusers",
    "smarteraser": "its pipeline is its authors' own code",
    "omnieraser": "its control layers are its authors' own code, which has no licence",
    "omnipaint": "its pipeline is its authors' own code, which has no licence",
    "objectclear": "its attention-guided fusion is its authors' own code",
    "layerd": "it needs an older transformers than layerkit runs with",
}
"""Models that users ask for and that cannot be loaded without code from elsewhere, and why."""


def load(
    name: str,
    weights: Path | None = None,
    *,
    prompt: str = "",
    device: str | None = None,
    on_missing: Literal["error", "skip"] = "error",
    resize: bool = False,
    base: str = "",
    way: Way = "resize",
    keep: Keep = "none",
    task: Task = "remove",
) -> Checked:
    """Load a model, behind the door that checks its inputs and outputs.

    Args:
        name: as the module describes it.
        weights: the folder given by ``--weights``, looked into before the hub cache.
        prompt: for the models that take one.
        device: None = CUDA where there is one, else the CPU.
        on_missing: for ``predictions``: a case without a picture is an error, or a drop with its reason.
        resize: for ``predictions``: allow pictures of another size.
        base: for a run: another one than it was trained on.
        way: for a run: how pictures are fitted to it, see ``models.inference.Fit``.
        keep: for a run: see there.
        task: what its background is: for a run of ``seele`` see :data:`.runs.Task`; others paint what is masked
            whatever the task, and harmonise nothing.

    Raises:
        UsageError: no such model, or what it names cannot be used.
        MissingWeights: its weights are not on this machine; says which, and the command that gets them.
    """
    options = Options(weights=weights, prompt=prompt, device=device)
    prefix, _, rest = name.partition(":")
    if task == "harmonise" and not is_run(Path(name).expanduser()):
        raise UsageError(f"--harmonise: expected none, colour or a run that harmonises, as of seele, got {name!r}")
    if name in DECOMPOSERS:
        return checked(_named(name, DECOMPOSERS[name], options))
    if is_run(Path(name).expanduser()):
        folder = Path(name).expanduser()
        return checked(
            load_run_decomposer(
                folder, name=name, weights=weights, base=base, device=device, way=way, keep=keep, task=task
            )
        )
    if prefix == "predictions" and rest:
        return checked(load_predictions(Path(rest).expanduser(), on_missing=on_missing, resize=resize))
    if prefix == "python" and rest:
        return checked(load_plugin(rest))
    if prefix == "diffusers" and rest:
        return checked(_named(name, _any_pipeline(rest), options))
    if name in NOT_AVAILABLE:
        raise UsageError(
            f"{name} is not available: {NOT_AVAILABLE[name]}; run it yourself and give --model predictions:DIR"
        )
    raise UsageError(
        f"expected a model ({', '.join(DECOMPOSERS)}, the folder of a run, predictions:DIR, diffusers:DIR_OR_REPO or "
        f"python:MODULE:ATTRIBUTE), got {name!r}"
    )


def _named(name: str, entry: Entry, options: Options) -> _Named:
    method = entry.load(options)
    return _Named(
        name=name,
        revision=method.revision,
        licence=entry.licence,
        native=entry.native,
        needs=entry.needs,
        is_random=entry.is_random,
        method=method,
    )


def _any_pipeline(source: str) -> Entry:
    return Entry(
        about="an inpainting pipeline of diffusers",
        licence="unknown",
        load=lambda options: load_any(find_folder(source), options.prompt, options.device),
    )

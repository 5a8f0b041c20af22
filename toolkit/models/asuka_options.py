"""The options of ASUKA (arXiv 2312.04831), checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from ...manifests.errors import UsageError
from . import holes
from .asuka_align import Variant
from .flow_matching import Scheme
from .flux_fill import Text
from .mae_training import MASKS, Truth

_LEVELS = 1000  # of noise, in Stable Diffusion's schedule


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """What the form on FLUX has beside; the paper states none of it but the guidance of sampling.

    Attributes:
        levels: how noise levels are drawn in training.
        level_mean: of the normal distribution behind ``logit-normal``.
        level_deviation: of it.
        shift_training: whether drawn levels move up with the picture's size, as the sampler's do.
        shift_sampling: whether the sampler's levels do; FLUX.1-Fill's do.
        guidance_training: what the base, distilled by guidance, is told in training.
        text: where the null condition begins: at the ``empty`` prompt as the base's encoders see it, or at ``zeros``.
    """

    levels: Scheme = "logit-normal"
    level_mean: float = 0.0
    level_deviation: float = 1.0
    shift_training: bool = False
    shift_sampling: bool = True
    guidance_training: float = 30.0
    text: Text = "empty"


@dataclass(frozen=True, kw_only=True)
class AsukaOptions:
    """Everything that makes an ASUKA.

    The paper states the prior, the alignment and what is frozen; all of the training is unpublished, and ours.

    Attributes:
        form: ``sd``: on Stable Diffusion's inpainting, whose text the condition replaces; ``flux``: on FLUX.1-Fill,
            whose text and pooled vector two aligners replace.
        mae: the frozen prior: folder of a run of ``asuka-mae``, or a ViTMAE; see ``mae_weights.load_mae``.
        block: of the prior's decoder, after which its features are taken; the paper takes the sixth.
        variant: of the aligner; ``four-self`` is the paper's, the others are its ablations.
        head: width of a head of the aligner's attention.
        queries: of ``four-cross``, how many; 0 is as many as there are patches.
        truth: the picture that is hidden and learnt: the ``background``, so that nothing that is to be taken away is
            ever the answer; or the ``image`` as it is, which is what an inpainting model is otherwise trained on.
        masks: kind of hole to its weight, see ``holes.KINDS``; by default those of MAE-FAR.
        drop: share of samples whose condition is dropped for the null condition, which is thereby learnt; at 0 it
            stays as it begins: zeros, and on FLUX see ``flow.text``.
        weight: w of null + w (condition - null), in sampling; the paper's on FLUX is 0.5, on Stable Diffusion it is
            not known, and 1 is the condition itself.
        guidance: of ``sd`` the scale of classifier-free guidance away from the null condition, 1 is none; of ``flux``
            what the base, distilled by guidance, is told, 30 in the paper.
        steps: of the sampler; 50 in the paper.
        decoder: folder of a run of ``asuka-decoder``; empty: the base's own, behind which the unmasked pixels are put
            back.
        base_dtype: of all of the base; what is trained is float32.
        flow: of the form on FLUX.
    """

    form: Literal["sd", "flux"] = "sd"
    mae: str = ""
    block: int = 6
    variant: Variant = "four-self"
    head: int = 64
    queries: int = 0
    truth: Truth = "background"
    masks: Mapping[str, float] = field(default_factory=lambda: dict(MASKS))
    drop: float = 0.1
    weight: float = 1.0
    guidance: float = 1.0
    steps: int = 50
    decoder: str = ""
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    flow: FlowOptions = field(default_factory=FlowOptions)

    def __post_init__(self) -> None:
        holes.check_kinds(self.masks)
        if min(self.block, self.head, self.steps) < 1 or self.queries < 0:
            raise UsageError(
                "expected block, head and steps of 1 or more and queries of 0 or more, got "
                f"{self.block}, {self.head}, {self.steps} and {self.queries}"
            )
        if self.steps >= _LEVELS:
            raise UsageError(f"steps: expected fewer than the {_LEVELS} levels of noise, got {self.steps}")
        if not 0 <= self.drop < 1:
            raise UsageError(f"drop: expected a share in 0..1, below 1, got {self.drop}")
        if not 0 <= self.weight < inf or not 1 <= self.guidance < inf:
            raise UsageError(
                f"expected a weight of 0 or more and guidance of 1 or more, got {self.weight} and {self.guidance}"
            )

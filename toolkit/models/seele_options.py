"""What makes a SEELE (arXiv 2401.16861): its tasks, how their prompts begin, LoRA, and how it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from ...manifests.errors import UsageError
from .recolour import RecolourOptions
from .seele_harmony import Noised

REMOVE, COMPLETE, HARMONISE = TASKS = ("remove", "complete", "harmonise")

INSTRUCTIONS = {
    REMOVE: "empty scene, nothing but the background",
    COMPLETE: "complete the missing part of the object",
    HARMONISE: "make the colours of the object fit the scene",
}
"""Texts that prompts begin as; the paper says that there are some, and these are ours."""


@dataclass(frozen=True, kw_only=True)
class SeeleOptions:
    """Everything that makes a SEELE.

    Attributes:
        tasks: which prompts are learnt.
        tokens: of each prompt, 50 in the paper.
        instructions: text by task that its prompt begins as, where the base has a text encoder. Of the encoded sequence
            the first ``tokens`` vectors are taken, the rest of CLIP's 77 being padding; as no token of CLIP sees those
            behind it, they are those of a text padded to ``tokens``. A shorter sequence goes on with its last vector,
            a padding. The texts are ours.
        spread: standard deviation of prompts that begin without a text; ours.
        rank: of LoRA. With ``adapted`` it is 5.117 M parameters on Stable Diffusion 2, and the paper prints 5.12; of
            the sets of layers that are usual no other rank and set gives that number.
        adapted: layers of the UNet with LoRA, by how their names end: attention, and the feed-forward layer's first.
        noised: which latent is noised to harmonise, see ``seele_harmony``; ``input`` is the letters of the paper.
        recolour: how objects are made not to fit; the paper has iHarmony4 instead.
        levels: lowest and highest share of the base's noise levels that training draws from, evenly; all by default,
            as the paper says nothing else.
        dilate: side of the square by which the hole of ``remove`` grows in use, px, odd; 1 leaves it. The authors' demo
            has 5.
        paste: whether only what is masked changes in use, to the bit. Otherwise all of the picture is as the VAE gives
            it back.
        base_dtype: of all that is frozen; what is learnt is float32.
        steps: of the sampler; ours.
        guidance: scale of classifier-free guidance away from the empty text, of ``remove`` and ``complete``, or from
            zeros where there is no text encoder; 1 is none, and ours.
    """

    tasks: tuple[str, ...] = TASKS
    tokens: int = 50
    instructions: Mapping[str, str] = field(default_factory=lambda: dict(INSTRUCTIONS))
    spread: float = 0.02
    rank: int = 16
    adapted: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
    noised: Noised = "input"
    recolour: RecolourOptions = field(default_factory=RecolourOptions)
    levels: tuple[float, float] = (0.0, 1.0)
    dilate: int = 1
    paste: bool = True
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    steps: int = 50
    guidance: float = 1.0

    def __post_init__(self) -> None:
        for name, some in {"tasks": self.tasks, "instructions": self.instructions}.items():
            if unknown := [task for task in some if task not in TASKS]:
                raise UsageError(f"{name}: expected tasks out of {', '.join(TASKS)}, got {', '.join(unknown)}")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UsageError(f"tasks: expected one or more of {', '.join(TASKS)}, each once, got {list(self.tasks)}")
        for name in ("tokens", "rank", "steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 <= self.levels[0] < self.levels[1] <= 1:
            raise UsageError(f"levels: expected two rising shares in 0..1, got {list(self.levels)}")
        if self.dilate < 1 or self.dilate % 2 == 0:
            raise UsageError(f"dilate: expected an odd side of 1 px or more, got {self.dilate}")
        if not 1 <= self.guidance < inf or not 0 <= self.spread < inf:
            raise UsageError(
                f"expected guidance of 1 or more and spread of 0 or more, got {self.guidance}, {self.spread}"
            )

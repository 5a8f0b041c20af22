"""What LayerFusion leaves open, as options. See ``layerfusion_masks`` for the equations that they choose between."""

from dataclasses import dataclass
from typing import Literal, get_args

from ...manifests.errors import UsageError

Priors = Literal["both", "self", "cross", "none"]
Polarity = Literal["sparse", "dense"]
Content = Literal["block", "all"]
Order = Literal["updated", "original"]
Sharing = Literal["joint", "blended", "off"]
Timing = Literal["previous", "prepass"]
Noise = Literal["shared", "independent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """How the foreground's attention is read and blended. Where the paper is silent, the default is ours.

    Attributes:
        priors: of which attention the mask is made: ``both`` as in the paper, ``self`` or ``cross`` alone as in its
            ablation, or ``none``: the streams are not blended.
        polarity: which tokens of the self-attention the structure prior favours: those that attend to few others
            (``sparse``) or to many (``dense``). The paper's prose says dense. Against known alpha, on a small pair of
            networks (``benchmarks/RESULTS.md``), sparse finds objects on grey, whose alike tokens all attend to one
            another; dense finds the grey.
        content: whose cross-attention the content prior is: that of the structure prior's ``block``, or the mean of
            ``all``.
        decision: the coefficient d of the hard mask, above 0; infinity decides with 0 and 1. The paper's is 10.
        order: whether the foreground takes from the blended stream as Eq. 1 left it (``updated``) or as it was
            before (``original``). The paper writes one equation after the other.
        sharing: who attends to the keys and values of the blended and the background stream together: both streams
            (``joint``), the blended one (``blended``), or neither (``off``). The paper says that they share, not how.
            On the same pair ``joint`` draws the object into the background.
        timing: where the mask of a step comes from, as the layer that it is read from runs last: the step before
            (``previous``; the first step blends nothing), or a pass of the foreground alone ahead of each step
            (``prepass``, one row more to the six of a step). The paper is silent.
        noise: whether the three streams begin with one noise (``shared``) or each with its own (``independent``); the
            foreground's is the same either way. The paper is silent.

    Raises:
        UsageError: a value out of range.
    """

    priors: Priors = "both"
    polarity: Polarity = "sparse"
    content: Content = "block"
    decision: float = 10.0
    order: Order = "updated"
    sharing: Sharing = "blended"
    timing: Timing = "previous"
    noise: Noise = "shared"

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not self.decision > 0:
            raise UsageError(f"decision: expected a coefficient above 0, such as 10 or inf, got {self.decision}")


_CHOICES = {
    "priors": Priors,
    "polarity": Polarity,
    "content": Content,
    "order": Order,
    "sharing": Sharing,
    "timing": Timing,
    "noise": Noise,
}

"""What a suite measures: a metric, one of its variants and a region, written ``metric:variant@region``."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..manifests.errors import UsageError
from ..toolkit.metrics import Metric, Variant, find

PASTED = "+pasted"
"""Suffix of a variant whose prediction was pasted back: the model's pixels inside the mask, the input's outside."""

_WHERE_PASTING_TELLS = ("whole", "mask", "shadow", "box")


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    """One column of the results.

    Attributes:
        metric: name in the table of metrics.
        variant: one of its variants.
        region: over which pixels.
        is_pasted: whether the prediction is pasted back first.
    """

    metric: str
    variant: str
    region: str = "whole"
    is_pasted: bool = False

    def __str__(self) -> str:
        return f"{self.metric}:{self.told_variant}@{self.region}"

    @property
    def told_variant(self) -> str:
        """The variant as results name it."""
        return self.variant + PASTED if self.is_pasted else self.variant

    @property
    def row(self) -> Metric:
        """Its row of the table."""
        return find(self.metric)[0]

    @property
    def definition(self) -> Variant:
        """Its variant of that row."""
        return find(self.metric, self.variant)[1]


def parse_measure(text: str) -> Measure:
    """``psnr``, ``lpips:alex`` or ``ssim:gaussian@mask``; the first variant and the whole picture by default.

    Raises:
        UsageError: no such metric, variant or region of it.
    """
    rest, _, region = text.partition("@")
    metric, _, variant = rest.partition(":")
    row, _ = find(metric, variant or None)
    if region and region not in (row.regions or ("whole",)):
        raise UsageError(f"metric {text!r}: expected a region of {', '.join(row.regions) or 'whole'}, got {region!r}")
    return Measure(metric, variant or next(iter(row.variants)), region or "whole")


def with_pasted(measures: Iterable[Measure]) -> list[Measure]:
    """The measures, and after each that looks at the background the same of the prediction pasted back."""
    out = []
    for one in measures:
        out.append(one)
        if (
            one.row.compares == ("preds", "target")
            and one.region in _WHERE_PASTING_TELLS
            and one.metric != "jitter-fid"
        ):
            out.append(Measure(one.metric, one.variant, one.region, is_pasted=True))
    return out

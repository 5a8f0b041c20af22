"""LayerDiffuse behind the door of layered generators, and its chains of conditional models by name.

A ``Generator`` takes a text alone: ``Cutouts`` draws the foreground, ``LayerDiffuseLayers`` the blend and the
background around it as well. ``load_fg2bg`` and ``load_bg2fg`` draw around a layer that is given.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...manifests.prompts import Prompt
from ...manifests.weights import WEIGHTS, locate, revision_of
from ..generation import U8, Generation
from .layerdiffuse import CutoutGenerator, LayerDiffuseGenerator
from .layerdiffuse_conditional import DECODER, AroundForeground, BeforeBackground, load_forms

_BASE, _CUTOUTS, _BLEND, _OTHER = (
    "layerdiffuse-sdxl-base",
    "layerdiffuse-sdxl",
    "layerdiffuse-xl-blend",
    "layerdiffuse-xl",
)


class Cutouts:
    """A generator of foregrounds alone.

    Args:
        draw: from a text and a seed to a cut-out.
        licence: of its weights.
    """

    has_background = False

    def __init__(self, draw: CutoutGenerator, licence: str) -> None:
        self._draw, self.licence = draw, licence
        self.name, self.revision = draw.name, draw.revision

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """See :class:`~..generation.Generator`; the foreground's own text is drawn where a prompt has one."""
        return [Generation(_cutout(self._draw, *each)) for each in zip(prompts, seeds, strict=True)]


class LayerDiffuseLayers:
    """A generator of a foreground, then of the blend and the background around it.

    Args:
        draw: of the foreground.
        around: ``fg2bg``.
        name: what provenance records call it.
        revision: of all weights.
        licence: of all weights.
    """

    has_background = True

    def __init__(
        self, draw: CutoutGenerator, around: AroundForeground, *, name: str, revision: str, licence: str
    ) -> None:
        self._draw, self._around = draw, around
        self.name, self.revision, self.licence = name, revision, licence

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """See :class:`~..generation.Generator`; each layer's own text is drawn where a prompt has one."""
        return [
            self._around(_cutout(self._draw, prompt, seed), prompt, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


def _cutout(draw: CutoutGenerator, prompt: Prompt, seed: int) -> U8:
    """The cut-out of a prompt: of the foreground's own text where there is one."""
    return draw(prompt.foreground or prompt.prompt, seed, prompt.negative)


def load_cutouts(weights: Path | None = None, device: str | None = None, **settings: Any) -> Cutouts:
    """LayerDiffuse's foregrounds, from ``--weights`` or the hub cache.

    Args:
        weights: the folder, or None.
        device: None = CUDA where there is one, else the CPU.
        settings: ``size``, ``steps`` and ``guidance`` of :class:`~.layerdiffuse.LayerDiffuseGenerator`.

    Raises:
        UsageError: the files do not fit together, or the size does not fit them.
        MissingWeights: files are in neither place; says the command that gets them.
    """
    draw = LayerDiffuseGenerator(locate(_BASE, weights), locate(_CUTOUTS, weights), device=device, **settings)
    return Cutouts(draw, _licence(_BASE, _CUTOUTS))


def load_layers(weights: Path | None = None, device: str | None = None, **settings: Any) -> LayerDiffuseLayers:
    """LayerDiffuse's foregrounds with ``fg2bg``, all on the base that the foregrounds are released with; see above."""
    draw = LayerDiffuseGenerator(locate(_BASE, weights), locate(_CUTOUTS, weights), device=device, **settings)
    names = (_BASE, _CUTOUTS, _BLEND, _OTHER)
    sampling = {name: value for name, value in settings.items() if name != "size"}
    return LayerDiffuseLayers(
        draw,
        load_fg2bg(weights, base=_BASE, device=device, **sampling),
        name="layerdiffuse-layers",
        revision="+".join([draw.revision, *(revision_of(locate(name, weights)) for name in (_BLEND, _OTHER))]),
        licence=_licence(*names),
    )


def load_fg2bg(
    weights: Path | None = None, *, base: str = "sdxl-base", device: str | None = None, **sampling: Any
) -> AroundForeground:
    """``fg2ble`` and ``fgble2bg`` on an SDXL of the weights table; see :func:`load_cutouts`."""
    folders = {"fg2ble": locate(_BLEND, weights), "fgble2bg": locate(_OTHER, weights)}
    forms = load_forms(locate(base, weights), folders, device, **sampling)
    return AroundForeground(forms["fg2ble"], forms["fgble2bg"])


def load_bg2fg(
    weights: Path | None = None, *, base: str = "sdxl-base", device: str | None = None, **sampling: Any
) -> BeforeBackground:
    """``bg2ble`` and ``bgble2fg`` on an SDXL of the weights table; see :func:`load_cutouts`."""
    from .transparent_vae import load_decoder

    folders = {"bg2ble": locate(_BLEND, weights), "bgble2fg": locate(_OTHER, weights)}
    forms = load_forms(locate(base, weights), folders, device, **sampling)
    decoder = load_decoder(folders["bgble2fg"] / DECODER).to(forms["bgble2fg"].pipeline.device)
    return BeforeBackground(forms["bg2ble"], forms["bgble2fg"], decoder)


def _licence(*names: str) -> str:
    return ", ".join(dict.fromkeys(WEIGHTS[name].licence for name in names))

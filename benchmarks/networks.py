"""The networks that metrics ask for: loaded once, or the metric is skipped with the command that gets the weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import MissingWeights
from ..manifests.weights import locate, revision_of
from ..toolkit.metrics.clip import Clip
from ..toolkit.metrics.features import InceptionFeatures, load_features
from ..toolkit.metrics.perceptual import load_lpips
from ..toolkit.saliency import SaliencyModel, load_saliency
from .measures import Measure

U8 = NDArray[np.uint8]
Vectors = NDArray[np.float32]

_CLIP_OF_FEATURES = "clip-vit-b-32"


@dataclass(slots=True)
class Networks:
    """Networks by name, loaded when they are first asked for.

    Attributes:
        weights: folder of weights, beside the hub cache.
        device: where they run.
    """

    weights: Path | None = None
    device: str = "cpu"
    _loaded: dict[str, Any] = field(default_factory=dict)
    _places: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def missing(self, measures: Iterable[Measure]) -> dict[Measure, str]:
        """The measures whose weights are not on this machine, and what gets them."""
        why = {}
        for measure in measures:
            try:
                for name in measure.definition.weights:
                    self._place(name)
            except MissingWeights as error:
                why[measure] = str(error)
        return why

    def lpips(self, net: str) -> Any:
        """LPIPS of a net."""
        return self._once(f"lpips {net}", lambda: load_lpips(net, self.weights, self.device))

    def clip(self, name: str) -> Clip:
        """A CLIP model."""
        model: Clip = self._once(name, lambda: Clip.load(name, self.weights, self.device))
        return model

    def saliency(self, name: str) -> SaliencyModel:
        """A saliency model."""
        model: SaliencyModel = self._once(f"saliency {name}", lambda: load_saliency(name, self.weights))
        return model

    def features(self, recipe: str) -> Callable[[Sequence[U8]], Vectors]:
        """The extractor of a recipe of ``features.RECIPES``, or ``clip``."""
        if recipe == "clip":
            return self.clip(_CLIP_OF_FEATURES).images
        extractor: InceptionFeatures = self._once(
            f"features {recipe}", lambda: load_features(recipe, self.weights, self.device)
        )
        return extractor

    def revision(self, measure: Measure) -> str:
        """Which weights a measure was taken with; part of the key of what is cached."""
        return "+".join(self._place(name)[1] for name in measure.definition.weights)

    def _place(self, name: str) -> tuple[Path, str]:
        """Where weights lie and their revision; both read all of their bytes, so they are found once."""
        if name not in self._places:
            path = locate(name, self.weights)
            self._places[name] = path, revision_of(path)
        return self._places[name]

    def _once(self, name: str, load: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

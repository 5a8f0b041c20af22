"""Models of this process, each loaded once, and their names as records give them."""

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from ..toolkit import generators
from ..toolkit.depth import DepthModel, load_depth
from ..toolkit.generation import Checked
from ..toolkit.generators.options import Options
from ..toolkit.inpaint import Inpainter, load_inpainter
from ..toolkit.judges import Judge, load_judge
from ..toolkit.models.layerdiffuse import CutoutGenerator, load_generator
from ..toolkit.saliency import SaliencyModel, load_saliency


class Named(Protocol):
    """What every model says of itself."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def revision(self) -> str:
        """Which version of it."""


@lru_cache(maxsize=4)
def saliency_model(name: str, weights: Path | None) -> SaliencyModel:
    """The saliency model of this process."""
    return load_saliency(name, weights)


@lru_cache(maxsize=2)
def inpainter(name: str, weights: Path | None) -> Inpainter:
    """The inpainter of this process."""
    return load_inpainter(name, weights)


@lru_cache(maxsize=2)
def depth_model(name: str, weights: Path | None) -> DepthModel:
    """The depth model of this process."""
    return load_depth(name, weights)


@lru_cache(maxsize=4)
def quality_judge(role: str, name: str, weights: Path | None) -> Judge:
    """The judge of masks or of filled holes of this process."""
    return load_judge(role, name, weights)


@lru_cache(maxsize=1)
def cutout_generator(name: str, weights: Path | None) -> CutoutGenerator:
    """The generator of cut-outs of this process."""
    return load_generator(name, weights)


@lru_cache(maxsize=1)
def layered_generator(name: str, weights: Path | None) -> Checked:
    """The generator of layers of this process."""
    return generators.load(name, Options(weights=weights))


def model_name(model: Named) -> str:
    """``name@revision``, as records name models."""
    return f"{model.name}@{model.revision}"


@lru_cache
def algorithm_name(name: str, package: str) -> str:
    """``name@package-version`` of an algorithm that a library runs."""
    return f"{name}@{package}-{version(package)}"

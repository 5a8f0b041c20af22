"""Models of this process, each loaded once, and their names as records give them."""

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from ..toolkit.inpaint import Inpainter, load_inpainter
from ..toolkit.saliency import SaliencyModel, load_saliency


@lru_cache(maxsize=4)
def saliency_model(name: str, weights: Path | None) -> SaliencyModel:
    """The saliency model of this process."""
    return load_saliency(name, weights)


@lru_cache(maxsize=2)
def inpainter(name: str, weights: Path | None) -> Inpainter:
    """The inpainter of this process."""
    return load_inpainter(name, weights)


def model_name(model: SaliencyModel | Inpainter) -> str:
    """``name@revision``, as records name models."""
    return f"{model.name}@{model.revision}"


@lru_cache
def algorithm_name(name: str, package: str) -> str:
    """``name@package-version`` of an algorithm that a library runs."""
    return f"{name}@{package}-{version(package)}"

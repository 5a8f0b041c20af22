"""Takes a model of one's own from a Python module, by name.

The attribute is a decomposer, a class or function without arguments that makes one, or a plain function of (image,
mask, generator) that returns the background, or the background and the foreground.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import revision_of
from ..decomposition import U8, Bool, Decomposer, Decomposition, Traits
from ..plugins import find_attribute, required_arguments


@dataclass(frozen=True, kw_only=True)
class PlainFunction(Traits):
    """A plain function as a decomposer; its revision is the hash of the module's file."""

    function: Callable[[U8, Bool, np.random.Generator], Any]

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Call the function; what it returns is checked at the door."""
        result = self.function(image, mask, generator)
        if isinstance(result, Decomposition):
            return result
        return Decomposition(*result) if isinstance(result, tuple) else Decomposition(result)


def load_plugin(source: str) -> Decomposer:
    """Import ``MODULE:ATTRIBUTE`` from the current folder or the path of Python.

    Raises:
        UsageError: no such module or attribute, or it is none of what the module above lists.
    """
    module, found = find_attribute(source)
    if not isinstance(found, type) and hasattr(found, "revision"):
        decomposer: Decomposer = found
        return decomposer
    required = required_arguments(found)
    if not required:
        made: Decomposer = found()
        return made
    if len(required) != 3 or isinstance(found, type):
        raise UsageError(
            f"expected a decomposer, a factory without arguments or a function (image, mask, generator) at "
            f"python:{source}, it takes ({', '.join(required)})"
        )
    return PlainFunction(
        name=f"python:{source}", revision=revision_of(Path(str(module.__file__))), licence="unknown", function=found
    )

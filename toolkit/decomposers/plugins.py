"""Takes a model of one's own from a Python module, by name.

The attribute is a decomposer, a class or function without arguments that makes one, or a plain function of (image,
mask, generator) that returns the background, or the background and the foreground.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import UsageError
from ...manifests.weights import revision_of
from ..decomposition import U8, Bool, Decomposer, Decomposition, Traits


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
    module_name, _, attribute = source.partition(":")
    if not attribute:
        raise UsageError(f"expected python:MODULE:ATTRIBUTE, got python:{source}")
    module = _imported(module_name)
    if not hasattr(module, attribute):
        raise UsageError(f"expected {attribute} in the module {module_name} ({module.__file__}), which has none")
    found = getattr(module, attribute)
    if not callable(found):
        raise UsageError(f"expected something to call at python:{source}, got {type(found).__name__}")
    if not isinstance(found, type) and hasattr(found, "revision"):
        decomposer: Decomposer = found
        return decomposer
    required = _required_arguments(found)
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


def _imported(name: str) -> Any:
    if "" not in sys.path and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise UsageError(f"expected a Python module {name} in {Path.cwd()} or on sys.path, found none") from error


def _required_arguments(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]

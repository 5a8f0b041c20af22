"""Finds what a user names as ``MODULE:ATTRIBUTE``, in the current folder or on the path of Python."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..manifests.errors import UsageError


def find_attribute(source: str) -> tuple[ModuleType, Any]:
    """Import ``MODULE:ATTRIBUTE``.

    Returns:
        The module and its attribute, which can be called.

    Raises:
        UsageError: no such module or attribute, or nothing to call.
    """
    module_name, _, attribute = source.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"expected python:MODULE:ATTRIBUTE, got python:{source}")
    module = _imported(module_name)
    if not hasattr(module, attribute):
        raise UsageError(f"expected {attribute} in the module {module_name} ({module.__file__}), which has none")
    found = getattr(module, attribute)
    if not callable(found):
        raise UsageError(f"expected something to call at python:{source}, got {type(found).__name__}")
    return module, found


def required_arguments(function: Any) -> list[str]:
    """Names of the arguments that a call has to give."""
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]


def _imported(name: str) -> ModuleType:
    if "" not in sys.path and (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise UsageError(f"expected a Python module {name} in {Path.cwd()} or on sys.path, found none") from error

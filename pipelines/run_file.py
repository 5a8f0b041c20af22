"""``.layerkit/run.json``: what a build folder says it is, read back."""

import json
from typing import Any

from ..manifests import schema
from ..manifests.errors import UsageError
from .ledger import BuildFolder
from .recipe import Recipe


def read_run(folder: BuildFolder) -> dict[str, Any]:
    """The table that the first run of a build wrote.

    Raises:
        UsageError: the folder holds no build.
    """
    path = folder.state / "run.json"
    try:
        run: dict[str, Any] = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"expected a build folder, got {folder}, which lacks .layerkit/run.json") from error
    except ValueError as error:
        raise UsageError(f"{path}: expected the JSON of a build: {error}; build anew with --overwrite") from error
    if not isinstance(run, dict) or not isinstance(run.get("recipe"), dict) or "fingerprint" not in run:
        raise UsageError(f"{path}: expected a table with fingerprint and recipe; build anew with --overwrite")
    return run


def recipe_of(run: dict[str, Any], folder: BuildFolder) -> Recipe:
    """The recipe of a build.

    Raises:
        UsageError: it is of another version of layerkit.
    """
    table = {key: value for key, value in run["recipe"].items() if key != "algorithm"}
    try:
        return schema.parse(Recipe, table, f"{folder.state / 'run.json'}: recipe")
    except UsageError as error:
        raise UsageError(
            f"{error}; the build is of layerkit {run.get('layerkit')}: read it with that version"
        ) from error

"""Recipes as tables: the shipped ones by name, a user's by path."""

import tomllib
from pathlib import Path
from typing import Any

from .errors import UsageError

_HERE = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """Name to file of every shipped recipe: a TOML file here that holds a ``mix``."""
    return {path.stem: path for path in sorted(_HERE.glob("*.toml")) if "\n[[mix]]" in path.read_text(encoding="utf-8")}


def find(recipe: str) -> Path:
    """The file of a shipped recipe's name or of a path.

    Raises:
        UsageError: neither a shipped name nor a file.
    """
    known = shipped()
    if recipe in known:
        return known[recipe]
    path = Path(recipe)
    if path.is_file():
        return path
    raise UsageError(f"recipe: expected one of {', '.join(known)} or a TOML file, got {recipe!r}")


def load_table(path: Path) -> dict[str, Any]:
    """A TOML file as a table.

    Raises:
        UsageError: not readable or not TOML; the parser's line and column are in the message.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: expected a TOML file: {error}") from error

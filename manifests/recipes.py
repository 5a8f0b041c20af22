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


def parse_setting(text: str) -> tuple[list[str], Any]:
    """Key, cut at its dots, and value of a ``--set KEY=VALUE``; the value is TOML, or a bare word.

    Raises:
        UsageError: there is no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--set: expected KEY=VALUE such as cut.saliency=birefnet, got {text!r}")
    try:
        return key.split("."), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.split("."), value


def assign(table: dict[str, Any], key: list[str], value: Any) -> None:
    """Put a value into nested tables.

    Raises:
        UsageError: a part of the key is there and is no table.
    """
    *path, last = key
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set: {part} in {'.'.join(key)} is no table")
    table[last] = value

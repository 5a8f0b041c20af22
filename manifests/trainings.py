"""Training recipes as tables: the shipped ones by name, a user's by path, with presets laid over them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import UsageError
from .recipes import assign, load_table, parse_setting

_WHOLE = ("masks", "scores")
"""Tables that a preset replaces as a whole."""

_HERE = Path(__file__).parent / "training"


def shipped() -> dict[str, Path]:
    """Name to file of every shipped training recipe."""
    return {path.stem: path for path in sorted(_HERE.glob("*.toml"))}


def load(name: str, presets: Iterable[str] = (), settings: Iterable[str] = ()) -> dict[str, Any]:
    """A training recipe with presets and settings in it.

    Args:
        name: of a shipped recipe, or the path of a TOML file; the ``config.toml`` of a run is one.
        presets: of the recipe, each laid over the ones before it.
        settings: ``KEY=VALUE`` with a dotted key and a TOML value.

    Raises:
        UsageError: no such recipe or preset, or a setting that cannot be read.
    """
    path = shipped().get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"expected one of {', '.join(shipped())} or a TOML file, got {name!r}")
    table = load_table(path)
    known = table.pop("presets", {})
    for preset in presets:
        if preset not in known:
            raise UsageError(f"--preset: expected one of {', '.join(known) or 'none'} of {path.stem}, got {preset!r}")
        table = _over(known[preset], table)
    for setting in settings:
        assign(table, *parse_setting(setting))
    return table


def rows() -> list[dict[str, str]]:
    """``layerkit ls systems``."""
    tables = {name: load_table(path) for name, path in shipped().items()}
    return [
        {"name": name, "presets": ", ".join(table.get("presets", {})), "about": table["about"]}
        for name, table in tables.items()
    ]


def _over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    """``lower`` with the values of ``upper`` in it, table by table."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        is_table = isinstance(value, Mapping) and isinstance(below, Mapping) and key not in _WHOLE
        merged[key] = _over(value, below) if is_table and below is not None else value
    return merged

"""Tables (TOML, JSON) into frozen dataclasses, with errors that name the key."""

import difflib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UsageError

T = TypeVar("T")


def parse(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from a table.

    Args:
        cls: a dataclass of bool, int, float, str, Literal, tuples, mappings, Any and such dataclasses.
        table: the table; integers are taken for floats, lists for tuples.
        where: names the table in errors, such as ``recipe.toml: mix[0]``.

    Raises:
        UsageError: an unknown key (with the nearest known one), a missing key, or a value of another type.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: expected a table, got {table!r}")
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")
    for name, field in known.items():
        if name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"{where}: the key {name!r} is missing; add {name} = …")
    values = {key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    try:
        return cls(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _value(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:  # whoever asked for it looks at it himself
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _value(next(k for k in get_args(kind) if k is not type(None)), value, where)
    if is_dataclass(kind):
        return parse(kind, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        return _choice(get_args(kind), value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is not None and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        return {str(k): _value(inner, v, f"{where}.{k}") for k, v in _require(value, Mapping, where).items()}
    return _scalar(kind, value, where)


def _choice(choices: Sequence[Any], value: Any, where: str) -> Any:
    if value not in choices:
        raise UsageError(f"{where}: expected one of {', '.join(map(str, choices))}, got {value!r}")
    return value


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _require(value, (list, tuple), where)
    if kinds[-1] is Ellipsis:
        return tuple(_value(kinds[0], item, f"{where}[{k}]") for k, item in enumerate(items))
    if len(items) != len(kinds):
        raise UsageError(f"{where}: expected {len(kinds)} values, got {len(items)}: {value!r}")
    return tuple(_value(kind, item, f"{where}[{k}]") for k, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        raise UsageError(f"{where}: expected a whole number, got {value!r}")
    return _require(value, kind, where)


def _require(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind):
        name = getattr(kind, "__name__", "list")
        raise UsageError(f"{where}: expected a value of type {name}, got {value!r}")
    return value

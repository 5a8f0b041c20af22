"""The columns that readers of the tars see, as the dataset card pins them for Hugging Face ``datasets``."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from ..manifests.record import Origin, Record
from ..toolkit.layers import CHANNELS
from ..toolkit.shards import Members
from .filters import SCORES

_KINDS: dict[Any, str] = {int: "int64", float: "float64", str: "string"}


def member_names(members: Members) -> list[str]:
    """Names of the picture members in the order of the tar, such as ``image.png``."""
    return [f"{layer}.{getattr(members, layer, 'png')}" for layer in CHANNELS]


def features(members: Members, models: Iterable[str]) -> list[dict[str, Any]]:
    """``dataset_info.features`` of a dataset card.

    Without it ``datasets`` infers the types from the first five samples of the first tar, and drops or refuses what
    differs later.

    Args:
        members: formats of the pictures.
        models: every role that occurs in the build's records.
    """
    pictures = [{"name": name, "dtype": "image"} for name in member_names(members)]
    address = [_column("__key__"), _column("__url__")]
    return [*pictures, {"name": "json", "struct": _record(models)}, *address]


def _record(models: Iterable[str]) -> list[dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {
        "layers": {"list": [_column(field.name) for field in fields(Origin)]},
        "models": {"struct": [_column(role) for role in models]},
        "scores": {"struct": [_column(name, "float64") for name in SCORES]},
    }
    return [
        {"name": f.name, **nested[f.name]} if f.name in nested else _column(f.name, _KINDS[f.type])
        for f in fields(Record)
    ]


def _column(name: str, kind: str = "string") -> dict[str, Any]:
    return {"name": name, "dtype": kind}

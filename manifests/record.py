"""What is written of a sample: its layers' origins, models, choices, scores. Fixed keys, fixed types, no nulls."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn, Self, get_args, get_origin

from .errors import ShardError

SCHEMA = 1
"""Version of the record; readers refuse a later one."""

NOT_MEASURED = -1.0
"""The score of a filter that does not apply to a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the pixels of one layer come from.

    Attributes:
        layer: ``foreground``, ``background``, ``behind`` (in the background) or ``occluder``.
        dataset: name of the source.
        id: the source's own id of the picture or object.
        licence: identifier from :mod:`~layerkit.manifests.licences`.
        author: as the source gives it, or empty.
        url: landing page or file address, or empty.
        sha256: of the source file's bytes.
    """

    layer: str
    dataset: str
    id: str
    licence: str
    author: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One sample, as ``KEY.json`` holds it.

    Attributes:
        schema: :data:`SCHEMA`.
        key: unique in the build, ``[a-z0-9_-]+``.
        split: ``train``, ``val`` or ``test``.
        mix: name of the recipe's mix.
        route: ``paste``, ``cut``, ``layers`` or ``generate``.
        width: px.
        height: px.
        caption: text of the picture, or empty.
        objects: number of objects in the image.
        licence: the strictest of the layers'.
        layers: origin of each layer.
        models: role to ``name@revision`` of each model or algorithm that ran.
        scores: filter name to measured value, :data:`NOT_MEASURED` where it does not apply.
        recomposition_error: largest difference of the recomposed written layers to the written image, levels.
        recomposition_bound: what the members' formats allow for it: 0 where the image is lossless.
        composite_error: the same to the float composite that the layers were made from, levels.
        choices: every random choice, with its seed, as JSON text.
    """

    schema: int
    key: str
    split: str
    mix: str
    route: str
    width: int
    height: int
    caption: str
    objects: int
    licence: str
    layers: tuple[Origin, ...]
    models: Mapping[str, str]
    scores: Mapping[str, float]
    recomposition_error: int
    recomposition_bound: int
    composite_error: float
    choices: str

    def to_json(self) -> bytes:
        """UTF-8 JSON, keys in the order of this class, floats always written as floats."""
        return json.dumps(self.table(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def table(self) -> dict[str, Any]:
        """The record as plain JSON types, keys in the order of this class."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "layers": [{field.name: getattr(origin, field.name) for field in fields(origin)} for origin in self.layers],
            "models": dict(self.models),
            "scores": {name: float(score) for name, score in self.scores.items()},
            "composite_error": float(self.composite_error),
        }

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Parse :meth:`to_json`; ``where`` names the file in errors.

        Raises:
            ShardError: not JSON, a key missing or unknown, a wrong type, or a later schema.
        """
        try:
            table = json.loads(data, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ShardError(f"{where}: expected a JSON record, got {data[:40]!r}: {error}") from error
        schema = table.get("schema") if isinstance(table, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:  # before the keys, which a later schema may change
            raise ShardError(f"{where}: schema {schema} is later than {SCHEMA}; upgrade layerkit")
        _check_keys(cls, table, where)
        for origin in table["layers"]:
            _check_keys(Origin, origin, where)
        return cls(**{**table, "layers": tuple(Origin(**origin) for origin in table["layers"])})


_JSON_TYPES: dict[Any, Any] = {int: int, str: str, float: (int, float), tuple: list, Mapping: dict}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_keys(cls: type, table: Any, where: str) -> None:
    if not isinstance(table, dict):
        raise ShardError(f"{where}: expected a JSON object for {cls.__name__}, got {table!r}")
    kinds = {field.name: field.type for field in fields(cls)}
    missing, unknown = kinds.keys() - table.keys(), table.keys() - kinds.keys()
    if missing or unknown:
        raise ShardError(f"{where}: the record lacks {sorted(missing)} and has unknown {sorted(unknown)}")
    for name, kind in kinds.items():
        if not _fits(table[name], kind):
            raise ShardError(f"{where}: {name} must be {kind}, got {table[name]!r}")


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if isinstance(value, bool) or not isinstance(value, _JSON_TYPES[origin]):
        return False
    return origin is not Mapping or all(_fits(item, get_args(kind)[1]) for item in value.values())

"""``recipe.lock.toml``: everything that a build was made of, so that it can be made again."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .leaks import excluded
from .ledger import BuildFolder, write_atomically
from .pool_file import open_table
from .recipe import Recipe
from .rows import pool_path, pool_uses

_HEAD = """\
# What this build was made of. `layerkit build-triplets` takes this file for a recipe and builds the same bytes, as long
# as the sources and the libraries are these. A pool's sha256 is over its lines "id NUL sha256 NUL companions", sorted;
# sources.parquet has them.
"""


def write_lock(folder: BuildFolder, recipe: Recipe) -> None:
    """Write the lock file: the recipe whole, its fingerprint, the versions, and a digest of every pool."""
    run = json.loads((folder.state / "run.json").read_bytes())
    table = {
        "fingerprint": recipe.fingerprint,
        "layerkit": run["layerkit"],
        "libraries": run["libraries"],
        "recipe": recipe.table(),
        "pool": [
            {"mix": mix.name, "use": use, "source": source, **pool_digest(pool_path(folder, mix, use))}
            for mix, use, source in pool_uses(recipe)
        ],
        "excluded": [excluded(folder, name) for name in recipe.exclude],
    }
    write_atomically(folder.manifests / "recipe.lock.toml", (_HEAD + to_toml(table)).encode())


def pool_digest(path: Path) -> dict[str, Any]:
    """Number and digest of the entries of a pool, whatever their order."""
    columns = open_table(path).select(["id", "sha256", "companions"])
    digest = hashlib.sha256()
    for batch in columns.sort_by([("id", "ascending"), ("sha256", "ascending")]).to_batches(max_chunksize=4096):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(("\0".join(row) + "\n").encode())
    return {"entries": columns.num_rows, "sha256": digest.hexdigest()}


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A table of strings, numbers, lists of them, tables and lists of tables as TOML."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, Mapping) and not _is_tables(v)]
    text = "".join(line + "\n" for line in lines)
    for key, value in table.items():
        name = prefix + _key(key)
        if isinstance(value, Mapping):
            text += f"\n[{name}]\n" + to_toml(value, name + ".")
        elif _is_tables(value):
            text += "".join(f"\n[[{name}]]\n" + to_toml(item, name + ".") for item in value)
    return text


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _string(text: str) -> str:
    """JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

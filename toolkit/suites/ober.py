"""Reader ``ober``: OBER, photographs with and without an object and its effects (Zhao et al., ObjectClear, CVPR 2026).

Parquet, so the reader stands here and not in ``manifests``, which reads nothing but what the standard library does:
``data/test-*.parquet`` and ``train-*``, or flat, with the columns ``input``, ``gt``, ``object_mask`` and
``object_effect_mask`` (pictures as ``{bytes, path}`` or bytes, white is the object), ``subset`` and ``split``. The test
split has 808 rows, of several subsets; rows without ``gt`` have no truth. A pair's category is its subset.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError
from ...manifests.pairs import File, MaskFile, Pair

URL = "https://huggingface.co/datasets/sczhou/OBERDataset_ObjectClear"

_MASKS = {"tight": "object_mask", "loose": "object_effect_mask"}
_PICTURES = ("input", "gt", *_MASKS.values())
_NEEDED = {"input": "missing_image", "gt": "missing_plate", "object_mask": "missing_mask"}


def pairs(root: Path, split: str = "test") -> Iterator[Pair]:
    """Yield a pair a row, table after table; no picture is read.

    Args:
        root: the folder with the tables, or one with ``data/``.
        split: of the tables' names.

    Raises:
        UsageError: no such table, or one without these columns.
    """
    paths = [path for top in (root, root / "data") for path in sorted(top.glob(f"{split}*.parquet"))]
    if not paths:
        raise UsageError(f"{root}: expected OBER's {split}-*.parquet here or in data/, found none")
    for path in paths:
        for row, (subset, held) in enumerate(_rows(path)):
            yield _pair(path, row, subset, held)


def _rows(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The subset of each row, and which of its pictures there are."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            for group in range(table.num_row_groups):
                rows: Any = table.read_row_group(group, ["subset", *_PICTURES])
                held = {name: pc.is_valid(_bytes(rows[name])).to_pylist() for name in _PICTURES}
                for k, subset in enumerate(rows["subset"].to_pylist()):
                    yield str(subset or ""), {name for name in _PICTURES if held[name][k]}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UsageError(f"{path}: expected a table with subset, {', '.join(_PICTURES)}: {error}") from error


def _bytes(column: Any) -> Any:
    """The bytes of a column of pictures: themselves, or a field of the structs that ``datasets`` writes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _pair(path: Path, row: int, subset: str, held: set[str]) -> Pair:
    id_ = f"{path.stem}-{row:05d}"
    lacks = next((reason for name, reason in _NEEDED.items() if name not in held), "")
    masks = {role: name for role, name in _MASKS.items() if name in held}
    return Pair(
        source="ober",
        id=id_,
        scene=id_,
        image=File(path=path, cell=(row, "input")),
        background=File(path=path, cell=(row, "gt")) if "gt" in held else None,
        masks={role: (MaskFile(file=File(path=path, cell=(row, name))),) for role, name in masks.items()},
        category=subset,
        url=URL,
        drop=f"{lacks}: expected pictures in {', '.join(_NEEDED)} of row {row} of {path}" if lacks else "",
    )

"""Pictures that lie in a parquet table as bytes, one read at a time; nothing of the table is executed."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from ...manifests.errors import BadImage

_KEPT = 8
"""Columns of row groups that are kept, for a case reads several of one group."""


def read_cell(path: Path, row: int, column: str) -> bytes:
    """The bytes of a picture: of a column of bytes, or of the structs ``{bytes, path}`` that ``datasets`` writes.

    Raises:
        BadImage: ``unreadable``: no such table, row or column, or nothing in the cell.
    """
    import pyarrow as pa

    try:
        first, group = _group_of(path, row)
        cell = _column(path, path.stat().st_mtime_ns, group, column)[row - first].as_py()
        data = cell["bytes"] if isinstance(cell, dict) else cell
    except (OSError, LookupError, pa.ArrowException) as error:
        raise BadImage("unreadable", f"expected a picture in row {row}, column {column} of {path}: {error}") from error
    if not isinstance(data, bytes):
        raise BadImage(
            "unreadable", f"expected bytes in row {row}, column {column} of {path}, got {type(data).__name__}"
        )
    return data


def _group_of(path: Path, row: int) -> tuple[int, int]:
    """The first row and the number of the row group that holds a row."""
    import pyarrow.parquet as pq

    first = 0
    table = pq.read_metadata(path)
    for group in range(table.num_row_groups):
        rows = table.row_group(group).num_rows
        if first <= row < first + rows:
            return first, group
        first += rows
    raise LookupError(f"the table has {first} rows")


@lru_cache(maxsize=_KEPT)
def _column(path: Path, changed: int, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        return table.read_row_group(group, [column])[column]

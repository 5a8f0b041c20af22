"""The files of pools: Arrow tables of prepared rows, written row by row and mapped, never loaded whole."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .prepare import Prepared

_BATCH = 4096  # rows


def write_rows(path: Path, rows: Iterable[Prepared]) -> None:
    """Write rows, a batch at a time."""
    import pyarrow as pa

    batch: list[dict[str, Any]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _schema()) as writer:
        for row in rows:
            batch.append(_to_columns(row))
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=_schema()))
                batch.clear()
        writer.write_table(pa.Table.from_pylist(batch, schema=_schema()))


def open_table(path: Path) -> Any:
    """The mapped table."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def read_row(table: Any, index: int) -> Prepared:
    """One row of a table."""
    row = table.slice(index, 1).to_pylist()[0]
    return Prepared(**row | {"scores": json.loads(row["scores"]), "models": json.loads(row["models"])})


def column(table: Any, name: str) -> NDArray[Any]:
    """A column of numbers as an array."""
    values: NDArray[Any] = table.column(name).to_numpy(zero_copy_only=False)
    return values


def texts(table: Any, name: str) -> Iterator[str]:
    """A column of text, value by value, of which only a batch is in memory."""
    for batch in table.select([name]).to_batches(max_chunksize=_BATCH):
        yield from batch.column(0).to_pylist()


def group_bounds(table: Any) -> NDArray[np.intp]:
    """The first row of every group, and the number of rows: a group's rows are adjacent."""
    import pyarrow.compute as pc

    groups = table.column("group").combine_chunks()
    begins = pc.not_equal(groups[1:], groups[:-1]).to_numpy(zero_copy_only=False) if len(groups) else []
    return np.r_[0, np.flatnonzero(begins) + 1, len(groups)] if len(groups) else np.zeros(1, np.intp)


def copy_rows(table: Any, keep: NDArray[np.bool_], path: Path) -> None:
    """Write the rows where ``keep`` is set, batch by batch."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, max(1, len(keep)), _BATCH):
            chosen = pa.array(keep[start : start + _BATCH])
            writer.write_table(table.slice(start, _BATCH).filter(chosen).combine_chunks())


def _schema() -> Any:
    import pyarrow as pa

    kinds: dict[Any, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    columns = {f.name: kinds.get(f.type, pa.string()) for f in fields(Prepared) if f.name != "drop"}
    return pa.schema(columns | {"phash": pa.uint64(), "photo_phash": pa.uint64()})


def _to_columns(row: Prepared) -> dict[str, Any]:
    table = {f.name: getattr(row, f.name) for f in fields(row) if f.name != "drop"}
    return table | {"scores": json.dumps(dict(row.scores)), "models": json.dumps(dict(row.models))}

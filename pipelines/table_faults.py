"""Whether the parquet manifests say what the commits and rows say; a build that is not finished has none."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from . import tables
from .inspection import Fault
from .ledger import BuildFolder, Commit
from .rows import Row, rows_of

_ROWS = 1000  # read at a time


def table_faults(folder: BuildFolder, done: list[Commit]) -> Iterator[Fault]:
    """Compare ``shards.parquet`` and ``samples.parquet``, where they exist, with the shards that are done.

    What they say of another shard is not looked at: that shard's own fault is named elsewhere.
    """
    shards = {commit.shard: partial(_shard_row, commit) for commit in done}
    samples = {commit.tar: partial(_sample_rows, folder, commit) for commit in done if commit.kept}
    yield from _faults(folder.manifests / "shards.parquet", shards, tables.shards_schema())
    yield from _faults(folder.manifests / "samples.parquet", samples, tables.samples_schema())


def _shard_row(commit: Commit) -> list[Row]:
    return [tables.shard_columns(commit)]


def _sample_rows(folder: BuildFolder, commit: Commit) -> list[Row] | None:
    """The kept rows as the manifest holds them; None where the file is broken: that is named elsewhere."""
    try:
        return [tables.sample_columns(row, commit.tar) for row in rows_of(folder, commit) if row["kept"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _faults(path: Path, expected: Mapping[Any, Callable[[], list[Row] | None]], schema: Any) -> Iterator[Fault]:
    """Compare shard by shard; ``expected`` gives the rows of a shard."""
    import pyarrow as pa

    if not path.exists():
        return
    file, seen = f"manifests/{path.name}", set[Any]()
    try:
        for shard, said in groupby(_rows(path, schema), key=itemgetter("shard")):
            if shard in expected and shard not in seen:
                seen.add(shard)
                yield from _differences(file, shard, expected[shard](), list(said), schema)
    except (OSError, ValueError, pa.ArrowException) as error:
        yield Fault(file, "", f"expected a parquet file of {len(schema.names)} columns: {error}")
        return
    yield from (Fault(file, "", f"expected rows of shard {shard}, got none") for shard in expected if shard not in seen)


def _rows(path: Path, schema: Any) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        if not table.schema_arrow.equals(schema):
            raise ValueError(f"got {', '.join(table.schema_arrow.names)}")
        for batch in table.iter_batches(_ROWS):
            yield from batch.to_pylist()


def _differences(file: str, shard: Any, rows: list[Row] | None, said: list[Row], schema: Any) -> Iterator[Fault]:
    import pyarrow as pa

    if rows is None:
        return
    if len(said) != len(rows):
        yield Fault(file, "", f"expected {len(rows)} rows of shard {shard}, got {len(said)}")
        return
    for row, other in zip(pa.Table.from_pylist(rows, schema=schema).to_pylist(), said, strict=True):
        if names := [name for name in row if row[name] != other[name]]:
            yield Fault(file, row.get("key", ""), f"expected what shard {shard} says of {', '.join(names)}, got other")

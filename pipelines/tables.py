"""The parquet manifests: schemas that follow the record, and files that are streamed, then renamed into place."""

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..manifests.errors import UsageError
from ..manifests.record import Origin, Record
from .filters import SCORES
from .ledger import TMP, BuildFolder, Commit, sync
from .rows import Row

_KINDS: dict[Any, str] = {int: "int64", float: "float64", str: "string"}


def samples_schema() -> Any:
    """Every field of the record, and ``shard``, the tar. ``models`` is JSON text, for its keys depend on the route."""
    import pyarrow as pa

    text = pa.string()
    nested = {
        "layers": pa.list_(pa.struct([(field.name, text) for field in fields(Origin)])),
        "models": text,
        "scores": _scores(),
    }
    columns = [(f.name, nested.get(f.name) or pa.type_for_alias(_KINDS[f.type])) for f in fields(Record)]
    return pa.schema([*columns, ("shard", text)])


def rejects_schema() -> Any:
    """What was refused, of sources and of samples: where, why, and everything that was measured."""
    import pyarrow as pa

    text = [(name, pa.string()) for name in ("stage", "mix", "use", "id", "path")]
    place = [(name, pa.int64()) for name in ("slot", "attempt")]
    why = [("reason", pa.string()), ("value", pa.float64()), ("limit", pa.float64()), ("detail", pa.string())]
    return pa.schema([*text, *place, *why, ("scores", _scores())])


def sources_schema() -> Any:
    """What the pools hold: entries with the hashes of their files, see :class:`~.prepare.Prepared`."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in ("mix", "use", "source", "id", "sha256", "companions")])


def shards_schema() -> Any:
    """The commits, without the seconds that a shard took: those differ from machine to machine."""
    import pyarrow as pa

    dropped = pa.list_(pa.struct([("reason", pa.string()), ("count", pa.int64())]))
    text = {name: pa.string() for name in ("tar", "mix", "split", "sha256", "licence")}
    numbers = {name: pa.int64() for name in ("shard", "bytes", "kept", "candidates")}
    names = ("shard", "tar", "mix", "split", "bytes", "sha256", "licence", "kept", "candidates")
    return pa.schema([*((name, (text | numbers)[name]) for name in names), ("dropped", dropped)])


def _scores() -> Any:
    import pyarrow as pa

    return pa.struct([(name, pa.float64()) for name in SCORES])


def sample_columns(row: Row, tar: str) -> Row:
    """A kept row as :func:`samples_schema` wants it."""
    return {**row, "models": json.dumps(row["models"]), "shard": tar}


def shard_columns(commit: Commit) -> Row:
    """A commit as :func:`shards_schema` wants it."""
    dropped = [{"reason": reason, "count": count} for reason, count in commit.dropped.items()]
    return {**asdict(commit), "dropped": dropped}


class Table:
    """An open parquet file; each call to :meth:`write` is a row group."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer = writer
        self._schema = schema

    def write(self, rows: list[Row]) -> None:
        """Append rows; keys that the schema does not name are left out."""
        import pyarrow as pa

        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))


ROWS = 4_000
"""Rows of a manifest that are read together."""


def pieces(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """A manifest as ``pyarrow`` tables of at most :data:`ROWS` rows, so that memory does not grow with it.

    Args:
        path: of the parquet file.
        columns: those to read; None is all.

    Raises:
        UsageError: the file is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=columns):
            yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"expected a manifest of a build, {path} cannot be read: {error}; run the build command again"
        ) from error


@contextmanager
def table(folder: BuildFolder, name: str, schema: Any) -> Iterator[Table]:
    """Write ``manifests/NAME`` row group by row group; it appears whole at the end, or not at all."""
    import pyarrow.parquet as pq

    partial = folder.state / TMP / f"{name}.{uuid.uuid4().hex}"
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            yield Table(writer, schema)
        sync(partial)
        os.replace(partial, folder.manifests / name)
        sync(folder.manifests)
    finally:
        partial.unlink(missing_ok=True)

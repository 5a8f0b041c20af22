"""What finished shards and pools left behind, read back one shard at a time."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..manifests.entry import Use
from .filters import all_scores
from .ledger import POOLS, BuildFolder, Commit
from .plan import plan
from .pool_file import open_table
from .recipe import Mix, Recipe

Row = dict[str, Any]

_CHUNK = 1000


def commits(folder: BuildFolder, recipe: Recipe) -> Iterator[Commit]:
    """The commits of the shards that are done, in the order of the plan."""
    fingerprint, tars = recipe.fingerprint, folder.tars()
    for shard in plan(recipe):
        commit = folder.read_commit(shard.index, fingerprint, tars)
        if commit is not None:
            yield commit


def rows_of(folder: BuildFolder, commit: Commit) -> list[Row]:
    """The rows of one shard in the order in which they were drawn, kept and rejected."""
    return [json.loads(line) for line in folder.rows_path(commit.shard).read_bytes().splitlines()]


def pool_path(folder: BuildFolder, mix: Mix, use: str) -> Path:
    """The pool that ``mix`` draws from for ``use``."""
    return folder.state / POOLS / f"{mix.name}-{use}.arrow"


def pool_uses(recipe: Recipe) -> Iterator[tuple[Mix, Use, str]]:
    """Mix, use and source of every pool of a recipe, in order."""
    for mix in recipe.mix:
        for use, source in mix.pools.items():
            yield mix, use, source


def pool_rows(folder: BuildFolder, mix: Mix, use: str) -> Iterator[list[Row]]:
    """Id and hashes of the entries of a pool, in chunks."""
    table = open_table(pool_path(folder, mix, use)).select(["id", "sha256", "companions"])
    for batch in table.to_batches(max_chunksize=_CHUNK):
        yield batch.to_pylist()


def source_rejects(folder: BuildFolder, mix: Mix, use: str) -> Iterator[list[Row]]:
    """What a source offered and preparation refused, as rows of the rejects manifest, in chunks."""
    with pool_path(folder, mix, use).with_suffix(".rejects.jsonl").open("rb") as lines:
        while chunk := [json.loads(line) for line in islice(lines, _CHUNK)]:
            yield [_source_reject(mix, row) for row in chunk]


def _source_reject(mix: Mix, row: Row) -> Row:
    where = {"stage": "source", "mix": mix.name, "use": row["use"], "id": row["id"], "path": row["path"]}
    return {**where, "slot": -1, "attempt": -1, **row["drop"], "scores": all_scores(row["scores"])}


def sample_reject(row: Row) -> Row:
    """A refused candidate as a row of the rejects manifest."""
    where = {"stage": "sample", "mix": row["mix"], "use": "", "id": row["name"], "path": ""}
    return {**where, "slot": row["slot"], "attempt": row["attempt"], **row["drop"], "scores": row["scores"]}

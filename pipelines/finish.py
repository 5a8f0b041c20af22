"""What comes after the last shard: manifests, indexes for other programs, and the dataset card."""

import json
from collections.abc import Sequence
from typing import Any

from . import rows, tables
from .card import write_card
from .card_pictures import write_pictures
from .croissant import write_croissant, write_index
from .leaks import excluded
from .ledger import BuildFolder, Commit, write_atomically
from .lock import write_lock
from .recipe import Recipe
from .summary import Summary

_OF_THE_RUN = ("built", "seconds", "rebuilt")
"""What the funnel tells of the run that ended, not of the build."""


def finish(folder: BuildFolder, recipe: Recipe, funnel: dict[str, Any]) -> None:
    """Describe a build whose shards are all committed.

    Every file is a function of the commits, the rows and the pools, and appears whole: finishing twice, or in two parts
    of a build at once, gives the same bytes.

    Args:
        folder: of the build.
        recipe: that was built.
        funnel: what became of the candidates, as plain JSON types.
    """
    shards = list(rows.commits(folder, recipe))
    statistics = {
        "name": recipe.name,
        "fingerprint": recipe.fingerprint,
        "funnel": {name: value for name, value in funnel.items() if name not in _OF_THE_RUN},
        "excluded": [excluded(folder, name) for name in recipe.exclude],
        **write_tables(folder, recipe, shards),
    }
    write_atomically(folder.manifests / "stats.json", json.dumps(statistics, indent=1).encode())
    write_sources(folder, recipe)
    write_lock(folder, recipe)
    write_index(folder, recipe, shards)
    write_croissant(folder, recipe, shards, statistics["licences"].get("sample", {}))
    write_pictures(folder, shards, statistics)
    write_card(folder, recipe, statistics)


def is_finished(folder: BuildFolder) -> bool:
    """Whether :func:`finish` ran to its end: the card comes last."""
    return (folder.root / "README.md").is_file()


def write_sources(folder: BuildFolder, recipe: Recipe) -> None:
    """Write ``sources.parquet``: every entry of every pool with the hashes of its files."""
    with tables.table(folder, "sources.parquet", tables.sources_schema()) as out:
        for mix, use, source in rows.pool_uses(recipe):
            for chunk in rows.pool_rows(folder, mix, use):
                out.write([{"mix": mix.name, "use": use, "source": source, **row} for row in chunk])


def write_tables(folder: BuildFolder, recipe: Recipe, shards: Sequence[Commit]) -> dict[str, Any]:
    """Write the parquet manifests, a row group a shard, and return the statistics of what went by."""
    summary = Summary()
    with (
        tables.table(folder, "samples.parquet", tables.samples_schema()) as samples,
        tables.table(folder, "rejects.parquet", tables.rejects_schema()) as rejects,
        tables.table(folder, "shards.parquet", tables.shards_schema()) as committed,
    ):
        for mix, use, _ in rows.pool_uses(recipe):
            for chunk in rows.source_rejects(folder, mix, use):
                rejects.write(chunk)
                summary.add_source_rejects(chunk)
        for commit in shards:
            drawn = rows.rows_of(folder, commit)
            kept = [row for row in drawn if row["kept"]]
            refused = [rows.sample_reject(row) for row in drawn if not row["kept"]]
            samples.write([tables.sample_columns(row, commit.tar) for row in kept])
            rejects.write(refused)
            committed.write([tables.shard_columns(commit)])
            summary.add_shard(commit, kept, refused)
    return summary.table()

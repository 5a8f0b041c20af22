"""Making a build again from its ``recipe.lock.toml``: the sources must be the same, and the shards come out the same.

What lies beside the lock helps: ``sources.parquet`` names the entries whose files changed, ``shards.parquet`` has the
hashes of the tars.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..manifests.errors import RunError, UsageError
from .leaks import excluded
from .ledger import POOLS, BuildFolder
from .lock import pool_digest
from .pool_file import open_table, texts
from .recipe import Recipe
from .rows import commits, pool_path, pool_uses

_NAMED = 5  # files or shards in an error
_COLUMNS = ("id", "sha256", "companions")


def read_lock(path: Path | None, recipe: Recipe) -> Mapping[str, Any] | None:
    """The lock that ``recipe`` was read from as it is, or None: of another file, or changed at the command line."""
    if path is None:
        return None
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return table if table.get("fingerprint") == recipe.fingerprint else None


def check_sources(folder: BuildFolder, recipe: Recipe, lock: Mapping[str, Any], manifests: Path) -> None:
    """Compare the pools with those that the lock was written for.

    Raises:
        UsageError: they differ; the files are named, and the pools deleted, so that mended sources are read anew.
    """
    found = [*_pool_faults(folder, recipe, lock, manifests), *_exclusion_faults(folder, recipe, lock)]
    if found:
        for path in (folder.state / POOLS).iterdir():
            path.unlink(missing_ok=True)
        raise UsageError(
            f"the lock was written for other sources: {'; '.join(found)}; put them back as they were, or build from "
            "the recipe itself"
        )


def _pool_faults(folder: BuildFolder, recipe: Recipe, lock: Mapping[str, Any], manifests: Path) -> Iterator[str]:
    locked = {(pool["mix"], pool["use"]): pool for pool in lock.get("pool", ())}
    for mix, use, source in pool_uses(recipe):
        there, here = locked.get((mix.name, use), {}), pool_digest(pool_path(folder, mix, use))
        if here["sha256"] != there.get("sha256"):
            what = f"{mix.name} {use} from {source} ({here['entries']} entries, {there.get('entries')} in the lock)"
            files = list(_changed(manifests / "sources.parquet", mix.name, use, pool_path(folder, mix, use)))
            more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
            yield f"{what}: {', '.join(files[:_NAMED]) or 'sources.parquet is not beside the lock'}{more}"


def _changed(sources: Path, mix: str, use: str, pool: Path) -> Iterator[str]:
    """The entries of the lock's pool that are not in this one, or whose files have other bytes, and those that came."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not sources.is_file():
        return
    wanted = (pc.field("mix") == mix) & (pc.field("use") == use)
    there = _hashes(pq.read_table(sources, filters=wanted))
    here = _hashes(open_table(pool))
    for id_ in sorted(there.keys() | here.keys()):
        if there.get(id_) != here.get(id_):
            yield f"{id_} {'changed' if id_ in there and id_ in here else 'is missing' if id_ in there else 'is new'}"


def _hashes(table: Any) -> dict[str, tuple[str, str]]:
    return {id_: (sha, more) for id_, sha, more in zip(*(texts(table, n) for n in _COLUMNS), strict=True)}


def _exclusion_faults(folder: BuildFolder, recipe: Recipe, lock: Mapping[str, Any]) -> Iterator[str]:
    locked = {one["name"]: one["sha256"] for one in lock.get("excluded", ())}
    for name in recipe.exclude:
        if excluded(folder, name)["sha256"] != locked.get(name):
            yield f"the files of the excluded {name} are others"


def check_shards(folder: BuildFolder, recipe: Recipe, lock: Mapping[str, Any], manifests: Path) -> int:
    """Compare the tars with those of the build that the lock belongs to, where ``shards.parquet`` lies beside it.

    Returns:
        Number of tars that were compared and are equal.

    Raises:
        RunError: some differ; they and the libraries of another version are named.
    """
    import pyarrow.parquet as pq

    path = manifests / "shards.parquet"
    if not path.is_file():
        return 0
    built = {commit.tar: commit.sha256 for commit in commits(folder, recipe)}
    rows = pq.read_table(path, columns=["tar", "sha256"]).to_pylist()
    differing = [row["tar"] for row in rows if row["tar"] and built.get(row["tar"]) != row["sha256"]]
    if differing:
        others = [
            f"{name} {was} there, {version(name)} here"
            for name, was in lock["libraries"].items()
            if version(name) != was
        ]
        raise RunError(
            f"{len(differing)} of {len(rows)} shards came out in other bytes than the lock's build: "
            f"{', '.join(differing[:_NAMED])}; {'; '.join(others) or 'all libraries are of the same versions'}"
        )
    return sum(bool(row["tar"]) for row in rows)

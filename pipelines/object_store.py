"""A build folder in an object store, through fsspec: ``--out s3://bucket/build``, ``gs://…``, ``az://…``, ``file://…``.

State (commits, rows, pools) is small and kept in a staging folder here as well; tars go up as they are finished and are
deleted here. A store cannot rename, so a shard's tar and rows go first and its commit object last: what has no commit
does not exist. A run on another machine takes up the state from the store.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..manifests.errors import RunError, UsageError
from .ledger import COMMITS, POOLS, ROWS, TMP, BuildFolder, Commit, write_atomically

_STATE = tuple(f".layerkit/{name}" for name in (COMMITS, ROWS, POOLS))
_FOLDERS = ("data", "manifests", "card", ".layerkit")
_FILES = ("README.md", "croissant.json", "index.json", ".layerkit/run.json")


def is_url(out: str) -> bool:
    """Whether ``--out`` names a place in an object store."""
    return "://" in out


def stage_of(url: str, cache: Path) -> Path:
    """The folder on this machine that holds the state of the build at ``url``."""
    return cache / "stage" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


class StoreFolder(BuildFolder):
    """A build folder whose files are kept in an object store.

    Args:
        url: of the folder in the store.
        stage: of its state on this machine.
    """

    def __init__(self, url: str, stage: Path) -> None:
        super().__init__(stage)
        self.url = url.rstrip("/")

    def resolved(self) -> "StoreFolder":
        """See :meth:`BuildFolder.resolved`."""
        return StoreFolder(self.url, self.root.resolve())

    def create(self) -> None:
        """Make the staging folder and take up the state from the store.

        Raises:
            UsageError: no such kind of store, or its package is not installed.
            RunError: the store does not answer.
        """
        super().create()
        self.refresh()

    def refresh(self) -> None:
        """Bring here what other machines have added; commits that the store does not have count for nothing."""
        with self._store() as (store, base):
            store.invalidate_cache()
            names = [name for folder in (*_STATE, "manifests", "card") for name in _listed(store, base, folder)]
            for name in [*names, *(name for name in _FILES if store.exists(f"{base}/{name}"))]:
                local = self.root / name
                if not local.exists() or name in _FILES or name.startswith("manifests/"):
                    local.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(local, store.cat_file(f"{base}/{name}"))
            for path in (self.state / COMMITS).iterdir():
                if f".layerkit/{COMMITS}/{path.name}" not in names:
                    path.unlink()

    def is_foreign(self) -> bool:
        """Whether the place holds other files than a build's."""
        with self._store() as (store, base):
            found = {path.rpartition("/")[2] for path in store.ls(base, detail=False)} if store.exists(base) else set()
        return bool(found) and ".layerkit" not in found

    def claim(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`BuildFolder.claim`; two first runs within a moment are told apart by their recipes alone."""
        held = super().claim(run)
        self.share(".layerkit/run.json")
        return held

    def share(self, *names: str) -> None:
        """Bring files and folders below the root to the store."""
        with self._store() as (store, base):
            for name in names:
                path = self.root / name
                for file in [path] if path.is_file() else sorted(path.rglob("*")):
                    if file.is_file():
                        store.pipe_file(f"{base}/{file.relative_to(self.root).as_posix()}", file.read_bytes())

    def publish(self, commit: Commit, tar: Path, rows: bytes) -> None:
        """See :meth:`BuildFolder.publish`; the commit object goes up last."""
        with self._store() as (store, base):
            if commit.tar:
                store.put_file(str(tar), f"{base}/data/{commit.tar}")
            tar.unlink(missing_ok=True)
            rows_path, commit_path = self.rows_path(commit.shard), self.commit_path(commit.shard)
            store.pipe_file(f"{base}/{rows_path.relative_to(self.root).as_posix()}", rows)
            data = json.dumps(asdict(commit), indent=1).encode()
            store.pipe_file(f"{base}/{commit_path.relative_to(self.root).as_posix()}", data)
        write_atomically(rows_path, rows)
        write_atomically(commit_path, data)

    def tars(self) -> dict[str, int]:
        """Name and size of every tar in the store."""
        with self._store() as (store, base):
            store.invalidate_cache()
            listed = store.ls(f"{base}/data", detail=True) if store.exists(f"{base}/data") else []
        return {one["name"].rpartition("/")[2]: int(one["size"]) for one in listed}

    def tar_size(self, name: str) -> int | None:
        """Size of a tar in the store, or None where it is not."""
        with self._store() as (store, base):
            path = f"{base}/data/{name}"
            return int(store.size(path)) if store.exists(path) else None

    def remove_tar(self, name: str) -> None:
        """Delete a tar from the store, if it is there."""
        with self._store() as (store, base):
            if store.exists(f"{base}/data/{name}"):
                store.rm_file(f"{base}/data/{name}")

    @contextmanager
    def tar(self, name: str) -> Iterator[Path]:
        """A tar as a file of this machine, for as long as it is read."""
        path = self.state / TMP / f"read.{name}"
        with self._store() as (store, base):
            store.get_file(f"{base}/data/{name}", str(path))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete what a build makes, here and in the store."""
        super().clear()
        with self._store() as (store, base):
            for name in (*_FOLDERS, *_FILES):
                if store.exists(f"{base}/{name}"):
                    store.rm(f"{base}/{name}", recursive=True)

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """The store and the path in it; its refusals become errors that name the address."""
        store, base = _connect(self.url)
        try:
            yield store, base
        except OSError as error:
            raise RunError(
                f"{self.url}: the store refused ({error}); finished shards are kept: run the same command again"
            ) from error


@lru_cache(maxsize=4)
def _connect(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        store, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--out: expected a folder or a store that fsspec knows, got {url!r}: {error}") from error
    return store, base


def _listed(store: Any, base: str, folder: str) -> list[str]:
    """Names of the files of a folder of the store, below ``base``."""
    if not store.exists(f"{base}/{folder}"):
        return []
    return [f"{folder}/{path.rpartition('/')[2]}" for path in store.ls(f"{base}/{folder}", detail=False)]

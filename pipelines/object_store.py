"""A build folder in an object store, through fsspec: ``--out s3://bucket/build``, ``gs://…``, ``az://…``, ``file://…``.

State (commits, rows, pools) is small and kept in a staging folder here as well; tars go up as they are finished and are
deleted here. A store cannot rename, so a shard's tar and rows go first and its commit object last: what has no commit
does not exist. A run on another machine takes up the state from the store. No lock spans machines: two that build one
shard write the same bytes, but ``--overwrite`` is for a store that nobody else works in.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..manifests.errors import RunError, UsageError
from .ledger import COMMITS, POOLS, ROWS, TMP, BuildFolder, Commit, write_atomically

_STATE = ".layerkit"
_RUN = f"{_STATE}/run.json"
_POOLS = f"{_STATE}/{POOLS}"
_CARD = "README.md"
_CONTENTS = ("data", "manifests", "card", "croissant.json", "index.json", _CARD, _STATE)
"""What a build consists of, its state last: a place without it is foreign, and could not be cleared again."""

_TOGETHER = 256  # objects that are fetched at a time: a store answers slowly, but many at once

_CLIENT_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("aiohttp", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
"""What clients raise beside OSError, such as for credentials that are missing."""


def is_url(out: str) -> bool:
    """Whether ``--out`` names a place in an object store."""
    return "://" in out


def stage_of(url: str, cache: Path) -> Path:
    """The folder on this machine that holds the state of the build at ``url``."""
    return cache / "stage" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def folder_at(out: Path, store: str) -> BuildFolder:
    """The build folder at ``out``, or the one in the object store whose state ``out`` holds."""
    return StoreFolder(store, out) if store else BuildFolder(out)


class StoreFolder(BuildFolder):
    """A build folder whose files are kept in an object store.

    Args:
        url: of the folder in the store.
        stage: of its state on this machine.
    """

    def __init__(self, url: str, stage: Path) -> None:
        super().__init__(stage)
        self.url = url.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def resolved(self) -> "StoreFolder":
        """See :meth:`BuildFolder.resolved`."""
        return StoreFolder(self.url, self.root.resolve())

    def create(self) -> None:
        """Make the staging folder and take up the state from the store.

        Raises:
            UsageError: no such kind of store, or its package is not installed.
            RunError: the store does not answer.
        """
        if (self.root / _RUN).is_file() and (self.root / _RUN).read_bytes() != self._held_run():
            super().clear()  # the store was emptied or overwritten: what lies here is of another build
        super().create()
        self.refresh()
        self._take([f"{_POOLS}/{name}" for name in sorted(self._sizes(_POOLS), key=_is_proof)])

    def refresh(self) -> None:
        """Bring here what other machines have added; commits that the store does not have count for nothing."""
        super().create()
        here = {path.name for path in (self.state / COMMITS).glob("*.json")}  # first: others may publish from here
        rows, held = self._sizes(f"{_STATE}/{ROWS}"), self._sizes(f"{_STATE}/{COMMITS}")
        there = sorted(name for name in held if _rows_name(name) in rows)
        for name in here.difference(there):
            (self.state / COMMITS / name).unlink(missing_ok=True)
        for first in range(0, len(there), _TOGETHER):
            self._take_commits(there[first : first + _TOGETHER], rows)
        self._take_run(self._held_run())
        is_finished = _CARD in self._sizes("")
        self._take([*self._differing("manifests"), *([_CARD] if is_finished else [])])
        if not is_finished:
            (self.root / _CARD).unlink(missing_ok=True)  # written here, but the store does not have it

    def is_foreign(self) -> bool:
        """Whether the place holds other files than a build's."""
        with self._store() as (store, base):
            return bool(_entries(store, base)) and not store.exists(f"{base}/{_STATE}")

    def claim(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`BuildFolder.claim`; of two first runs within a moment the later decides."""
        if self._held_run() is None:
            with self._store() as (store, base):
                store.pipe_file(f"{base}/{_RUN}", json.dumps(run, indent=1).encode())
        self._take_run(self._held_run())
        return super().claim(run)

    def unclaim(self) -> None:
        """See :meth:`BuildFolder.unclaim`."""
        super().unclaim()
        if not (self.root / _RUN).exists():
            with self._store() as (store, base):
                _remove(store, f"{base}/{_RUN}")

    def share(self, *names: str) -> None:
        """Bring files and folders below the root to the store; pools that it has came from there."""
        with self._store() as (store, base):
            for name in names:
                held = self._sizes(name) if name == _POOLS else {}
                path = self.root / name
                files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
                for file in sorted(files, key=lambda file: (_is_proof(file.name), file)):
                    if held.get(file.name) != file.stat().st_size:
                        store.put_file(str(file), f"{base}/{file.relative_to(self.root).as_posix()}")

    def publish(self, commit: Commit, tar: Path, rows: bytes) -> None:
        """See :meth:`BuildFolder.publish`; the commit object goes up last."""
        rows_path, commit_path = self.rows_path(commit.shard), self.commit_path(commit.shard)
        data = json.dumps(asdict(commit), indent=1).encode()
        try:
            with self._store() as (store, base):
                if commit.tar:
                    store.put_file(str(tar), f"{base}/data/{commit.tar}")
                store.pipe_file(f"{base}/{_STATE}/{ROWS}/{rows_path.name}", rows)
                store.pipe_file(f"{base}/{_STATE}/{COMMITS}/{commit_path.name}", data)
        finally:
            tar.unlink(missing_ok=True)
        write_atomically(rows_path, rows)
        write_atomically(commit_path, data)

    def tars(self) -> dict[str, int]:
        """Name and size of every tar in the store."""
        return self._sizes("data")

    def tar_size(self, name: str) -> int | None:
        """Size of a tar in the store, or None where it is not."""
        with self._store() as (store, base):
            try:
                return int(store.info(f"{base}/data/{name}")["size"])
            except FileNotFoundError:
                return None

    def remove_tar(self, name: str) -> None:
        """Delete a tar from the store, if it is there."""
        with self._store() as (store, base):
            _remove(store, f"{base}/data/{name}")

    @contextmanager
    def tar(self, name: str) -> Iterator[Path]:
        """A tar as a file of this machine, for as long as it is read."""
        with self._fetched([f"data/{name}"]) as (path,):
            yield path

    def clear(self) -> None:
        """Delete what a build makes, here and in the store."""
        super().clear()
        with self._store() as (store, base):
            for name in _CONTENTS:
                _remove(store, f"{base}/{name}")

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """The store and the path in it; its refusals become errors that name the address."""
        store, base = _connect(self.url)
        try:
            yield store, base
        except _refusals() as error:
            raise RunError(
                f"{self.url}: the store refused ({error}); finished shards are kept: run the same command again"
            ) from error

    def _sizes(self, folder: str) -> dict[str, int]:
        """Name and size of the files of a folder in the store."""
        with self._store() as (store, base):
            listed = _entries(store, f"{base}/{folder}".rstrip("/"))
        return {name: int(entry["size"]) for name, entry in listed.items() if entry["type"] == "file"}

    def _held_run(self) -> bytes | None:
        """What the store's ``run.json`` holds, or None where it has none."""
        with self._store() as (store, base):
            try:
                data: bytes = store.cat_file(f"{base}/{_RUN}")
            except FileNotFoundError:
                return None
        return data

    def _take_run(self, run: bytes | None) -> None:
        if run is not None:
            write_atomically(self.root / _RUN, run)

    def _take_commits(self, names: Sequence[str], rows: Mapping[str, int]) -> None:
        """Bring commits that are new or others than those here, and their rows; the commits last."""
        with self._fetched([f"{_STATE}/{COMMITS}/{name}" for name in names]) as paths:
            new = [
                (self.state / COMMITS / name, path)
                for name, path in zip(names, paths, strict=True)
                if _differs(self.state / COMMITS / name, path.stat().st_size)
                or _differs(self.state / ROWS / _rows_name(name), rows[_rows_name(name)])
                or path.read_bytes() != (self.state / COMMITS / name).read_bytes()
            ]
            self._take([f"{_STATE}/{ROWS}/{_rows_name(commit.name)}" for commit, _ in new])
            for commit, path in new:
                os.replace(path, commit)

    def _differing(self, folder: str) -> list[str]:
        """Names of the store's files of a folder that are not here, or in another size."""
        sizes = self._sizes(folder)
        return [f"{folder}/{name}" for name, size in sizes.items() if _differs(self.root / folder / name, size)]

    def _take(self, names: Sequence[str]) -> None:
        """Bring files of the store here, each whole, in this order."""
        for first in range(0, len(names), _TOGETHER):
            chunk = names[first : first + _TOGETHER]
            with self._fetched(chunk) as paths:
                for name, path in zip(chunk, paths, strict=True):
                    os.replace(path, self.root / name)

    @contextmanager
    def _fetched(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """Files of the store as temporary files of this machine."""
        with TemporaryDirectory(dir=self.state / TMP) as folder:
            paths = [Path(folder, str(k)) for k in range(len(names))]
            with self._store() as (store, base):
                store.get([f"{base}/{name}" for name in names], [str(path) for path in paths])
            yield paths


def _connect(url: str) -> tuple[Any, str]:
    """The store of an address, which remembers no listing: other machines write there too."""
    import fsspec

    folders = {"auto_mkdir": True} if url.startswith("file:") else {}
    try:
        store, base = fsspec.core.url_to_fs(url, use_listings_cache=False, **folders)
    except (ImportError, ValueError) as error:
        raise UsageError(f"--out: expected a folder or a store that fsspec knows, got {url!r}: {error}") from error
    return store, base


def _refusals() -> tuple[type[Exception], ...]:
    clients = (getattr(sys.modules[module], name) for module, name in _CLIENT_ERRORS if module in sys.modules)
    return (OSError, *clients)


def _entries(store: Any, path: str) -> dict[str, dict[str, Any]]:
    """What lies in a folder of the store, by name; some stores list the folder itself too."""
    try:
        listed = store.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    inside = (entry for entry in listed if entry["name"].strip("/") != path.strip("/"))
    return {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in inside}


def _remove(store: Any, path: str) -> None:
    try:
        store.rm(path, recursive=True)
    except FileNotFoundError:
        return


def _rows_name(commit: str) -> str:
    return Path(commit).with_suffix(".jsonl").name


def _differs(path: Path, size: int) -> bool:
    return not path.is_file() or path.stat().st_size != size


def _is_proof(name: str) -> bool:
    """Whether a file of a pool is the one whose presence says that the others are there; the last to go up or down."""
    return name.endswith(".arrow")

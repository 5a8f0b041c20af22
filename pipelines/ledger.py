"""What a build folder remembers: the run it belongs to, finished shards, rows, and the lock. Every file appears whole.

A shard is done when its commit parses, belongs to this recipe, and its tar has the size that the commit says.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..manifests import schema
from ..manifests.errors import RunError, UsageError

COMMITS = "commit"
ROWS = "rows"
POOLS = "pools"
TMP = "tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The proof that a shard is done; written last.

    Attributes:
        shard: index in the plan.
        fingerprint: of the recipe.
        mix, split: of the shard.
        tar: file name under ``data/``; empty where no sample was kept.
        bytes: size of the tar.
        sha256: of the tar.
        kept: samples in the tar.
        candidates: drawn, kept or not.
        dropped: reason to number.
        seconds: of work.
    """

    shard: int
    fingerprint: str
    mix: str
    split: str
    tar: str
    bytes: int
    sha256: str
    kept: int
    candidates: int
    dropped: Mapping[str, int]
    seconds: float


class BuildFolder:
    """Paths of a build folder, and what may be done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.manifests = root / "manifests"
        self.state = root / ".layerkit"

    def create(self) -> None:
        """Make the folders.

        Raises:
            UsageError: the path is a file, or cannot be written.
        """
        try:
            for folder in (self.data, self.manifests, *(self.state / name for name in (COMMITS, ROWS, POOLS, TMP))):
                folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"--out: expected a folder, got {self.root}: {error.filename} is a file") from error
        except OSError as error:
            raise UsageError(f"--out: cannot make the folder {self.root}: {error.strerror}") from error

    def commit_path(self, shard: int) -> Path:
        """Where the commit of a shard lies."""
        return self.state / COMMITS / f"{shard:06d}.json"

    def rows_path(self, shard: int) -> Path:
        """Where the rows of a shard lie, kept and rejected."""
        return self.state / ROWS / f"{shard:06d}.jsonl"

    def read_commit(self, shard: int, fingerprint: str) -> Commit | None:
        """The commit of a shard that is done, else None."""
        try:
            commit = schema.parse(Commit, json.loads(self.commit_path(shard).read_bytes()), "commit")
        except (OSError, ValueError, UsageError):
            return None
        is_ours = (commit.fingerprint, commit.shard) == (fingerprint, shard)
        return commit if is_ours and self._tar_agrees(commit) else None

    def _tar_agrees(self, commit: Commit) -> bool:
        if not self.rows_path(commit.shard).is_file():
            return False
        if not commit.tar:
            return True
        try:
            return (self.data / commit.tar).stat().st_size == commit.bytes
        except OSError:
            return False

    def publish(self, commit: Commit, tar: Path, rows: bytes) -> None:
        """Publish a finished shard: the tar, then its rows, then the commit, each renamed into place."""
        if commit.tar:
            os.replace(tar, self.data / commit.tar)
            _sync_folder(self.data)
        else:
            tar.unlink(missing_ok=True)
        write_atomically(self.rows_path(commit.shard), rows)
        write_atomically(self.commit_path(commit.shard), json.dumps(asdict(commit), indent=1).encode())

    def sweep(self, shards: Mapping[int, str], fingerprint: str) -> set[int]:
        """Remove what an interrupted run left of these shards; return those that are done.

        Args:
            shards: index to tar name.
            fingerprint: of the recipe.
        """
        done = {shard for shard in shards if self.read_commit(shard, fingerprint)}
        missing = {f"{shard:06d}": tar for shard, tar in shards.items() if shard not in done}
        for tar in missing.values():
            (self.data / tar).unlink(missing_ok=True)
        for name in (COMMITS, ROWS, TMP):
            for path in (self.state / name).iterdir():
                if path.name.lstrip(".").partition(".")[0] in missing:  # hidden: killed between writing and renaming
                    path.unlink(missing_ok=True)
        return done

    def claim(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Write ``run.json`` if there is none, and return what it holds: the first writer decides."""
        path = self.state / "run.json"
        partial = self.state / TMP / f"run.{uuid.uuid4().hex}"
        partial.write_bytes(json.dumps(run, indent=1).encode())
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        try:
            held: dict[str, Any] = json.loads(path.read_bytes())
        except ValueError as error:
            raise UsageError(f"{path}: expected the JSON of a build: {error}; start anew with --overwrite") from error
        return held

    @contextmanager
    def lock(self, part: str, *, whole: bool) -> Iterator[None]:
        """Hold the folder against another build: parts of one build share it, a whole build does not.

        Raises:
            RunError: another build works in this folder.
        """
        with (self.state / "lock").open("a") as shared, (self.state / f"lock-{part}").open("a") as own:
            try:
                fcntl.flock(shared, (fcntl.LOCK_EX if whole else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"another build works in {self.root}; wait for it, or give this one another --out "
                    "(or --part I/N, the same N everywhere, to share the work)"
                ) from error
            yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is seen whole or not at all, and survives a power cut."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""What a build folder remembers: the run it belongs to, finished shards, rows, and the lock. Every file appears whole.

A shard is done when its commit parses, belongs to this recipe, and its tar has the size that the commit says.
"""

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..manifests import schema
from ..manifests.errors import RunError, UsageError
from ..toolkit.files import sync, write_atomically

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
        licence: the strictest of its samples; empty where it has none.
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
    licence: str
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

    def __str__(self) -> str:
        return str(self.root)

    def resolved(self) -> "BuildFolder":
        """The same by its absolute path, for processes with another working folder."""
        return BuildFolder(self.root.resolve())

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

    def refresh(self) -> None:
        """Bring here what other machines have added: nothing, for they see this folder."""

    def share(self, *names: str) -> None:
        """Bring files and folders below the root to where the build is kept: they are there."""

    def is_foreign(self) -> bool:
        """Whether the place holds other files than a build's."""
        return self.root.is_dir() and any(self.root.iterdir()) and not self.state.is_dir()

    def tars(self) -> dict[str, int]:
        """Name and size of every tar."""
        return {path.name: path.stat().st_size for path in self.data.iterdir()} if self.data.is_dir() else {}

    def tar_size(self, name: str) -> int | None:
        """Size of a tar, or None where it is not."""
        path = self.data / name
        return path.stat().st_size if path.is_file() else None

    @contextmanager
    def tar(self, name: str) -> Iterator[Path]:
        """A tar as a file of this machine, for as long as it is read."""
        yield self.data / name

    def remove_tar(self, name: str) -> None:
        """Delete a tar, if it is there."""
        (self.data / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete what a build makes, and nothing else."""
        if not self.state.is_dir():
            return
        with self.lock("overwrite", whole=True):
            for name in ("README.md", "croissant.json", "index.json"):
                (self.root / name).unlink(missing_ok=True)
            kept = set(self.state.glob("lock*"))  # this run holds them, and another may wait for them
            for path in {self.data, self.manifests, self.root / "card", *self.state.iterdir()} - kept:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def read_commit(self, shard: int, fingerprint: str, tars: Mapping[str, int]) -> Commit | None:
        """The commit of a shard that is done, else None; ``tars`` is what :meth:`tars` says."""
        try:
            commit = schema.parse(Commit, json.loads(self.commit_path(shard).read_bytes()), "commit")
        except (OSError, ValueError, UsageError):
            return None
        is_ours = (commit.fingerprint, commit.shard) == (fingerprint, shard)
        return commit if is_ours and self._tar_agrees(commit, tars) else None

    def _tar_agrees(self, commit: Commit, tars: Mapping[str, int]) -> bool:
        has_rows = self.rows_path(commit.shard).is_file()
        return has_rows and (not commit.tar or tars.get(commit.tar) == commit.bytes)

    def publish(self, commit: Commit, tar: Path, rows: bytes) -> None:
        """Publish a finished shard: the tar, then its rows, then the commit, each renamed into place."""
        if commit.tar:
            os.replace(tar, self.data / commit.tar)
            sync(self.data)
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
        tars = self.tars()
        done = {shard for shard in shards if self.read_commit(shard, fingerprint, tars)}
        missing = {f"{shard:06d}": tar for shard, tar in shards.items() if shard not in done}
        for tar in missing.values():
            if tar in tars:
                self.remove_tar(tar)
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

    def unclaim(self) -> None:
        """Take :meth:`claim` back where nothing was made yet, neither a pool nor a shard."""
        if not any((self.state / POOLS).glob("*.arrow")) and not any((self.state / COMMITS).iterdir()):
            (self.state / "run.json").unlink(missing_ok=True)

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
                    f"another build works in {self}; wait for it, or give this one another --out "
                    "(or --part I/N, the same N everywhere, to share the work)"
                ) from error
            yield

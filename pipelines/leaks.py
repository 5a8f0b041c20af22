"""The leak check: no picture of a benchmark that a recipe excludes gets into its build, exactly or nearly.

Every file below the benchmark's folder is hashed; pictures also by how they look. What a source offers is refused where
its file, its cut-out or the photograph that it comes from is one of them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, UsageError
from ..manifests.sources.photos import EXTENSIONS
from ..toolkit import images, similarity
from . import launch
from .filters import Drop
from .ledger import POOLS, BuildFolder, write_atomically
from .options import BuildOptions, Progress, Report
from .pool_file import column, texts
from .recipe import Recipe

_CHUNK = 64  # files that a worker hashes at a time


@dataclass(frozen=True, slots=True)
class Hashed:
    """One file of a benchmark; ``phash`` is 0 where it is no picture, or one without any detail."""

    file: str
    sha256: str
    phash: int


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """The files of all excluded benchmarks.

    Attributes:
        files: ``benchmark:path`` of each.
        exact: sha256 to index.
        looks: (N,) perceptual hashes.
    """

    files: list[str]
    exact: dict[str, int]
    looks: NDArray[np.uint64]

    def drops(self, table: Any, distance: int) -> dict[int, Drop]:
        """The rows of a pool's table that show one of these files, and which; below 0 the looks are not compared."""
        drops = {}
        for name in ("phash", "photo_phash") if distance >= 0 else ():
            mine = column(table, name)
            for k, other in similarity.matches(mine, self.looks, distance).items():
                if similarity.has_detail(int(mine[k])):
                    apart = int(np.bitwise_count(mine[k] ^ self.looks[other]))
                    drops[k] = Drop("leak", apart, distance, f"looks like {self.files[other]}")
        for k, sha256 in enumerate(texts(table, "sha256")):
            if sha256 in self.exact:
                drops[k] = Drop("leak", 0, distance, f"is {self.files[self.exact[sha256]]}")
        return drops


def known_pictures(folder: BuildFolder, recipe: Recipe, options: BuildOptions, report: Report) -> Known:
    """The pictures that the recipe excludes, hashed now or by an earlier run of this build.

    Raises:
        UsageError: nobody said where a benchmark lies, or there is nothing.
    """
    rows = [(name, row) for name in recipe.exclude for row in _hashed(folder, name, options, report)]
    return Known(
        files=[f"{name}:{row.file}" for name, row in rows],
        exact={row.sha256: k for k, (_, row) in enumerate(rows)},
        looks=np.array([row.phash for _, row in rows], np.uint64),
    )


def excluded(folder: BuildFolder, name: str) -> dict[str, Any]:
    """Number of files of a benchmark, and the digest of their hashes, for the lock and the card."""
    data = _path(folder, name).read_bytes()
    return {"name": name, "files": data.count(b"\n"), "sha256": hashlib.sha256(data).hexdigest()}


def _path(folder: BuildFolder, name: str) -> Path:
    return folder.state / POOLS / f"exclude-{name}.jsonl"


def _hashed(folder: BuildFolder, name: str, options: BuildOptions, report: Report) -> list[Hashed]:
    path = _path(folder, name)
    if not path.exists():
        root = options.excludes.get(name)
        if root is None or not root.is_dir():
            raise UsageError(f"the recipe excludes {name!r}: expected its folder, got {root}; add --exclude {name}=DIR")
        rows = _hash_all(root, name, options, report)
        write_atomically(path, b"".join(json.dumps(asdict(row)).encode() + b"\n" for row in rows))
    return [Hashed(**json.loads(line)) for line in path.read_bytes().splitlines()]


def _hash_all(root: Path, name: str, options: BuildOptions, report: Report) -> list[Hashed]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise UsageError(f"--exclude {name}: expected a folder with files, got {root}, which has none")
    chunks = [(root, files[k : k + _CHUNK]) for k in range(0, len(files), _CHUNK)]
    rows: list[Hashed] = []
    for done in launch.run(options.launcher, hash_files, chunks, options.workers):
        rows += done
        report(Progress(stage=f"hash {name}", done=len(rows), total=len(files), kept=len(rows)))
    return sorted(rows, key=lambda row: row.file)


def hash_files(chunk: tuple[Path, list[Path]]) -> list[Hashed]:
    """Hash files below a root by their bytes, and by their looks where they are pictures that can be read."""
    root, paths = chunk
    return [_hash_file(path, path.relative_to(root).as_posix()) for path in paths]


def _hash_file(path: Path, name: str) -> Hashed:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    phash = 0
    if path.suffix.lower() in EXTENSIONS:
        try:
            phash = similarity.perceptual_hash(images.read(path))
        except BadImage:
            phash = 0  # its bytes are compared all the same
    return Hashed(name, sha256, phash if similarity.has_detail(phash) else 0)

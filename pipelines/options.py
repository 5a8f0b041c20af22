"""How a build is run, and how it tells what it does. Nothing here changes a byte of what is built."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..manifests.errors import UsageError
from ..toolkit.files import cache_folder
from .launch import LAUNCHERS
from .plan import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a build is run; nothing here changes a byte of it.

    Attributes:
        out: the build folder; of a build in an object store, the folder of its state here.
        store: address of the build in an object store, or empty.
        roots: source name to folder.
        workers: processes.
        launcher: ``local`` or ``ray``.
        address: of a running Ray cluster; empty starts Ray here.
        part: the slice of the plan to build.
        overwrite: delete an earlier build in ``out`` first.
        cache: folder of the cache; the default is the user's.
        weights: folder with pre-trained weights, beside the hub cache.
        excludes: benchmark to folder, for the leak check.
        recipe_file: the file that the recipe was read from; of a lock, sources and shards are compared with it.
    """

    out: Path
    store: str = ""
    roots: dict[str, Path] = field(default_factory=dict)
    workers: int = 1
    launcher: str = "local"
    address: str = ""
    part: Part = field(default_factory=Part)
    overwrite: bool = False
    cache: Path = field(default_factory=cache_folder)
    weights: Path | None = None
    excludes: dict[str, Path] = field(default_factory=dict)
    recipe_file: Path | None = None

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise UsageError(f"--launcher: expected one of {', '.join(LAUNCHERS)}, got {self.launcher!r}")
        if self.address and self.launcher != "ray":
            raise UsageError(f"--address: expected with --launcher ray, got it with {self.launcher!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What happened, for a progress bar; ``total`` is 0 where it is not known yet."""

    stage: str
    done: int
    total: int
    kept: int


Report = Callable[[Progress], None]
"""Called as work is done."""

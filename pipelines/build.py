"""``build-triplets``: claim the folder, fill the pools, build the shards that are missing, finish."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from ..manifests.errors import MissingWeights, RunError, UsageError
from . import launch
from .fill import fill_pools
from .finish import finish, is_finished
from .funnel import Funnel, funnel_of
from .launch_ray import session
from .ledger import POOLS, BuildFolder, Commit
from .object_store import folder_at
from .options import BuildOptions, Progress, Report
from .plan import Shard, plan
from .rebuild import check_shards, check_sources, read_lock
from .recipe import Recipe, differences
from .shard import ShardJob

_LIBRARIES = ("numpy", "opencv-python-headless", "simplejpeg", "zlib-ng", "pillow")


def build(recipe: Recipe, options: BuildOptions, report: Report) -> Funnel:
    """Build what is missing of a recipe.

    Args:
        recipe: what to build.
        options: where and how.
        report: called as work is done.

    Returns:
        The funnel of the whole folder; ``shards_missing`` is above 0 while other parts are at work.

    Raises:
        UsageError: the folder holds something else, or a source cannot be read.
        MissingWeights: a stage of the recipe needs a model that is not on this machine.
        RunError: the disk is full, a worker died, or another build works here.
    """
    folder = open_folder(recipe, options)
    try:
        with (
            folder.lock(str(options.part), whole=options.part.of == 1),
            session(options.launcher, options.workers, options.address),
        ):
            _claim(folder, recipe)
            try:
                fill_pools(folder, recipe, options, report)
            except (UsageError, MissingWeights):
                if options.part.of == 1:  # other parts may be at work under this claim
                    folder.unclaim()  # what was asked for wrongly must not keep the folder
                raise
            lock = read_lock(options.recipe_file, recipe)
            if lock and options.recipe_file:
                check_sources(folder, recipe, lock, options.recipe_file.parent)
            folder.share(f".layerkit/{POOLS}")
            funnel = _build_and_finish(folder, recipe, options, report)
            if lock and options.recipe_file and not funnel.shards_missing:
                funnel = replace(funnel, rebuilt=check_shards(folder, recipe, lock, options.recipe_file.parent))
            return funnel
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or folder.root}: {error.strerror or error}; "
            "what was finished is kept: make room and run the same command again"
        ) from error


def _build_and_finish(folder: BuildFolder, recipe: Recipe, options: BuildOptions, report: Report) -> Funnel:
    shards = [shard for shard in plan(recipe) if options.part.holds(shard)]
    began = time.perf_counter()
    built = sum(commit.kept for commit in build_shards(folder, recipe, options, shards, report))
    seconds = time.perf_counter() - began if built else 0.0
    folder.refresh()
    funnel = replace(funnel_of(folder, recipe), built=built, seconds=seconds)
    if funnel.shards_missing == 0 and (built or not is_finished(folder)):
        finish(folder, recipe, asdict(funnel))
        folder.share("manifests", "card", "croissant.json", "index.json", "README.md")
    return funnel


def open_folder(recipe: Recipe, options: BuildOptions) -> BuildFolder:
    """The build folder, made if need be.

    Raises:
        UsageError: ``out`` is a file, or a folder with something else in it.
    """
    folder = folder_at(options.out, options.store)
    if folder.is_foreign():
        where = options.store or options.out
        raise UsageError(f"--out: expected an empty folder or an earlier build, got {where}, which holds other files")
    if options.overwrite:
        folder.clear()
    folder.create()
    return folder


def _claim(folder: BuildFolder, recipe: Recipe) -> None:
    """Make the folder this recipe's, or refuse.

    Raises:
        UsageError: it is another recipe's, or was begun with other versions of the codecs; what differs is named.
    """
    mine: dict[str, Any] = {
        "fingerprint": recipe.fingerprint,
        "layerkit": version("layerkit"),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "recipe": recipe.table(),
    }
    held = folder.claim(mine)
    keys = ("libraries", "recipe")
    found = [text for key in keys for text in differences(mine[key], held.get(key, {}), f"{key}.")]
    if found:
        raise UsageError(
            f"--out: {folder} holds another build: {'; '.join(found[:6])}; take another folder, "
            "the same settings, or --overwrite"
        )


def build_shards(
    folder: BuildFolder, recipe: Recipe, options: BuildOptions, shards: list[Shard], report: Report
) -> Iterator[Commit]:
    """Build the shards that are not done; yield their commits as they come."""
    fingerprint = recipe.fingerprint
    done = folder.sweep({shard.index: shard.tar for shard in shards}, fingerprint)
    job = ShardJob(
        recipe=recipe, fingerprint=fingerprint, folder=folder.resolved(), cache=options.cache, weights=options.weights
    )
    total = sum(shard.count for shard in shards)
    slots = kept = sum(shard.count for shard in shards if shard.index in done)
    report(Progress(stage="build", done=slots, total=total, kept=kept))
    sizes = {shard.index: shard.count for shard in shards}
    missing = (shard for shard in shards if shard.index not in done)
    neural = any(mix.cut.is_neural for mix in recipe.mix)
    for commit in launch.run(options.launcher, job, missing, options.workers, gpu=neural):
        slots, kept = slots + sizes[commit.shard], kept + commit.kept
        report(Progress(stage="build", done=slots, total=total, kept=kept))
        yield commit

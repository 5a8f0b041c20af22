"""What a build refused, as an exhibit: candidates drawn once more as they were, pictures of sources, and why."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import BadImage, MissingWeights, RunError, UsageError
from ...toolkit import images
from ...toolkit.files import cache_folder
from .. import tables
from ..candidate import Candidate
from ..filters import SCORES
from ..ledger import BuildFolder
from ..plan import plan
from ..recipe import Recipe
from ..rows import Row, commits, pool_path, pool_uses, rows_of, sample_reject, source_rejects
from ..run_file import read_run, recipe_of
from ..shard import ShardJob
from .builds import DIGITS, SHAPE, evenly
from .exhibit import Exhibit, Panel, Shown, View
from .media import Folder, Media, thumbnail
from .triplets import PANELS, measured, panels_of

_SAMPLE = ("key", "stage", "mix", "use", "name", "reason", "value", "limit", "missed_by", "detail")
_SIDE = 1024  # px of a source's picture: what is kept of a large one
_LEAST = 1e-9


def exhibit(build: Path, name: str, *, count: int, weights: Path | None = None) -> Exhibit | None:
    """What a build refused, evenly over its reasons; None where it refused nothing, or nothing is asked for.

    Args:
        build: its folder.
        name: of the data set.
        count: rows to show at most: to draw a candidate again takes as long as it took the first time.
        weights: folder of pre-trained weights, which a mix may need.

    Raises:
        UsageError: no build, or a negative count.
    """
    if count < 0:
        raise UsageError(f"--rejects: expected 0 or more, got {count}")
    folder = BuildFolder(build.resolve())
    run = read_run(folder)
    recipe = recipe_of(run, folder)
    rows = _chosen(folder, recipe, count)
    if not rows:
        return None
    job = ShardJob(recipe=recipe, fingerprint=run["fingerprint"], folder=folder, cache=cache_folder(), weights=weights)
    told = json.dumps([SHAPE, recipe.fingerprint, rows])
    return Exhibit(
        name=name,
        kind="rejects",
        folder=folder.root,
        identity=hashlib.sha256(told.encode()).hexdigest(),
        total=len(rows),
        samples=partial(_samples, job, Media(name), rows),
        panels=PANELS,
        groups={"refused": _SAMPLE, "filter scores": SCORES},
        views=list(_views(sorted({row["reason"] for row in rows}))),
    )


def _manifest(folder: BuildFolder, recipe: Recipe, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rejects manifest as tables, all columns or these; before the build is finished, what will become it."""
    import pyarrow as pa

    path = folder.manifests / "rejects.parquet"
    if path.is_file():
        yield from tables.pieces(path, columns)
        return
    for chunk in _refused(folder, recipe):
        yield pa.Table.from_pylist(chunk, tables.rejects_schema())


def _refused(folder: BuildFolder, recipe: Recipe) -> Iterator[list[Row]]:
    """What sources and shards have refused so far, in chunks."""
    for mix, use, _ in pool_uses(recipe):
        if pool_path(folder, mix, use).with_suffix(".rejects.jsonl").is_file():
            yield from source_rejects(folder, mix, use)
    for commit in commits(folder, recipe):
        yield [sample_reject(row) for row in rows_of(folder, commit) if not row["kept"]]


def _chosen(folder: BuildFolder, recipe: Recipe, count: int) -> list[Row]:
    places: dict[str, list[int]] = defaultdict(list)
    reasons = (reason for table in _manifest(folder, recipe, ["reason"]) for reason in table["reason"].to_pylist())
    for number, reason in enumerate(reasons):
        places[reason].append(number)
    wanted, chosen, first = np.array(spread(places, count), np.int64), list[Row](), 0
    for table in _manifest(folder, recipe) if len(wanted) else ():
        chosen += table.take(wanted[(first <= wanted) & (wanted < first + len(table))] - first).to_pylist()
        first += len(table)
    return chosen


def spread(places: Mapping[str, Sequence[int]], count: int) -> list[int]:
    """``count`` places, or all of fewer, as evenly over the groups as these allow, and evenly within each."""
    chosen: list[int] = []
    rare_first = sorted(places.values(), key=len)
    for k, group in enumerate(rare_first):
        share = min(len(group), (count - len(chosen)) // (len(rare_first) - k))
        chosen += evenly(group, share) if share else []
    return sorted(chosen)


def _samples(job: ShardJob, media: Media, rows: Sequence[Row]) -> Iterator[Shown]:
    edition = job.fingerprint[:DIGITS]
    folder = media.folder(edition)
    for row in rows:
        key = _key(row)
        show = _candidate if row["stage"] == "sample" else _source
        yield Shown(key=key, panels=show(job, folder, key, row), values=_values(key, row))
    media.sweep([edition])


def _key(row: Row) -> str:
    place = f"{row['slot']}-{row['attempt']}" if row["stage"] == "sample" else row["use"]
    return f"{row['mix']}-{place}-{row['id']}"


def _values(key: str, row: Row) -> dict[str, str | float | None]:
    missed_by = abs(row["value"] - row["limit"]) / max(abs(row["limit"]), _LEAST)
    told = {name: row[name] or None for name in ("stage", "mix", "use", "reason", "detail")}
    numbers = {"value": row["value"], "limit": row["limit"], "missed_by": missed_by}
    return {"key": key, "name": row["id"], **told, **numbers, **measured(row["scores"])}


def _candidate(job: ShardJob, folder: Folder, key: str, row: Row) -> dict[str, Panel]:
    """A candidate's layers, drawn again; a card where it never had any, or cannot be drawn here."""
    shard = next(one for one in plan(job.recipe) if one.first <= row["slot"] < one.first + one.count)
    try:
        drawn = job.redraw(shard, row["slot"], row["attempt"])
    except (RunError, MissingWeights, OSError) as error:
        return {"image": folder.card(key, f"{_why(row)} It cannot be drawn again here: {error}")}
    if isinstance(drawn, Candidate):
        return panels_of(folder, key, drawn.layers)
    return {"image": folder.card(key, f"{_why(row)} It was refused before there was a picture.")}


def _source(job: ShardJob, folder: Folder, key: str, row: Row) -> dict[str, Panel]:
    """The picture of a source, where it can be read as a file."""
    try:
        picture = thumbnail(images.read(Path(row["path"])), _SIDE)
    except BadImage as error:
        return {"image": folder.card(key, f"{_why(row)} {error.detail}")}
    return {"image": folder.panel(key, "image", picture, data=("jpg", images.encode_jpeg(picture)))}


def _why(row: Row) -> str:
    detail = f" ({row['detail']})" if row["detail"] else ""
    return f"{row['id']}: {row['reason']} {row['value']:g}, the limit is {row['limit']:g}{detail}."


def _views(reasons: Sequence[str]) -> Iterator[View]:
    yield View(
        "just missed",
        "refused by the least, as a share of the limit",
        lambda dataset, F: dataset.sort_by("missed_by"),
    )
    for reason in reasons:
        yield View(f"reason {reason}", f"refused for {reason}", partial(_of_reason, reason=reason))


def _of_reason(dataset: Any, F: Any, *, reason: str) -> Any:
    return dataset.match({"reason": reason}).sort_by("missed_by")

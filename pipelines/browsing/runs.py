"""A run of ``layerkit train`` as an exhibit: the sheets of held-out samples, step by step, with their scores."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...manifests.errors import BadImage, UsageError
from ...toolkit import images
from ..training.journal import PLOT, VALIDATION
from ..training.run_folder import SAMPLES
from .builds import SHAPE
from .exhibit import Exhibit, Panel, Shown, View
from .media import Folder, Media


def exhibit(run: Path, name: str) -> Exhibit:
    """The pictures of a run.

    Raises:
        UsageError: it has none yet.
    """
    folder = run.resolve()
    pictures = [*sorted((folder / SAMPLES).glob("*.png")), *filter(Path.is_file, [folder / PLOT])]
    if not pictures:
        raise UsageError(f"{run}: expected a run with pictures in {SAMPLES}/, got none; it has not validated yet")
    scores = _scores(folder)
    told = [SHAPE, [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in pictures], len(scores)]
    identity = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    return Exhibit(
        name=name,
        kind="run",
        folder=folder,
        identity=identity,
        total=len(pictures),
        samples=partial(_samples, pictures, scores, Media(name), identity[:12]),
        panels=("image",),
        groups={"validation": ("key", *names)},
        views=[View("latest first", "the sheets, the last step first", _latest_first)],
    )


def _scores(run: Path) -> dict[int, dict[str, Any]]:
    """Step to what validation found at it; a line that a killed run left half is passed over."""
    scores: dict[int, dict[str, Any]] = {}
    path = run / VALIDATION
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            scores[int(row["step"])] = row
        except (ValueError, LookupError, TypeError):
            continue
    return scores


def _samples(pictures: list[Path], scores: dict[int, dict[str, Any]], media: Media, edition: str) -> Iterator[Shown]:
    folder = media.folder(edition)
    for path in pictures:
        digits = "".join(filter(str.isdigit, path.stem))
        yield Shown(
            key=path.stem,
            panels={"image": _panel(folder, path)},
            values={"key": path.stem, **(scores.get(int(digits), {"step": int(digits)}) if digits else {})},
        )
    media.sweep([edition])


def _panel(folder: Folder, path: Path) -> Panel:
    try:
        return folder.panel(path.stem, "image", images.read(path), data=("png", path.read_bytes()))
    except (BadImage, OSError) as error:
        return folder.card(path.stem, f"{path}: {error}")


def _latest_first(dataset: Any, F: Any) -> Any:
    return dataset.sort_by("step", reverse=True)

"""A report of ``layerkit bench`` as an exhibit: truth and predictions of every model, their differences and scores."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage, UsageError
from ...manifests.report_files import REPORT, SAMPLES, predicted
from ...toolkit import images
from ...toolkit.pictures import sheet
from ...toolkit.suites.cases import Case, Dropped, cases
from .builds import DIGITS, SHAPE, evenly
from .exhibit import TOGETHER, Exhibit, Overlay, Panel, Shown, View
from .media import Folder, Media
from .scores import CASE, Row, Scores
from .tags import said_in
from .where import matching

U8 = NDArray[np.uint8]

_TRUTH = ("image", "background", "foreground")
_HEAT = 64  # levels of difference that are as hot as can be
_SIDE = 256  # px of a picture beside others


def exhibit(report: Path, name: str, *, limit: int, where: str, roots: Mapping[str, Path]) -> Exhibit:
    """The cases of a report.

    Args:
        report: its folder.
        name: of the data set.
        limit: cases to show, evenly from all that ``where`` is true of.
        where: see :func:`~.where.matching`; names are ``suite``, ``id``, ``scene``, ``category``, ``area``, and the
            measures of models, as ``telea.psnr_mask``.
        roots: where data sets lie that are not where they were when the report was made.

    Raises:
        UsageError: no report, nothing that is asked for, or a data set that is not found.
    """
    folder = report.resolve()
    scores = Scores(folder)
    chosen = _chosen(scores, where, limit)
    models = scores.models
    return Exhibit(
        name=name,
        kind="report",
        folder=folder,
        identity=_identity(folder, limit, where),
        total=len(chosen),
        samples=partial(_samples, scores, folder, Media(name), chosen, {**scores.roots, **roots}),
        panels=(*_TRUTH, *models.values(), *map(_foreground_of, models.values()), TOGETHER),
        groups={
            "case": ("key", *(name for name in CASE if name != "id"), "fault"),
            **{one: _paths(one, scores) for one in models.values()},
        },
        said=said_in(folder),
        views=list(_views(scores)),
    )


def _foreground_of(model: str) -> str:
    return f"{model}_foreground"


def _paths(model: str, scores: Scores) -> list[str]:
    return [f"{model}.{measure}" for measure in scores.measures.values()]


def _identity(folder: Path, limit: int, where: str) -> str:
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (REPORT, SAMPLES)]
    return hashlib.sha256(json.dumps([SHAPE, digests, limit, where]).encode()).hexdigest()


def _chosen(scores: Scores, where: str, limit: int) -> list[Row]:
    every = scores.cases()
    found = matching(scores.flat(every), where)
    keys = set(zip(found["suite"].to_pylist(), found["id"].to_pylist(), strict=True))
    if not keys:
        what = f"--where: {where!r} is true of none" if where.strip() else "the report has none with a score of its own"
        raise UsageError(f"expected cases to show, but {what}")
    return evenly([case for case in every if (case["suite"], case["id"]) in keys], limit)


def _samples(
    scores: Scores, folder: Path, media: Media, chosen: Sequence[Row], roots: Mapping[str, Path]
) -> Iterator[Shown]:
    edition = hashlib.sha256((folder / SAMPLES).read_bytes()).hexdigest()[:DIGITS]
    pictures = media.folder(edition)
    rows: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in chosen:
        rows[row["suite"]][row["id"]] = row
    limit = scores.table["environment"]["limit"]
    for suite in (suite for suite in scores.suites if rows[suite.name]):
        asked = rows[suite.name]
        for case in cases(suite, roots, limit=limit, only=asked):
            panels = _panels(scores, folder, pictures, suite.protocol, case)
            fault = case.detail if isinstance(case, Dropped) else None
            values = {name: value for name, value in asked[case.id].items() if name != "id"}  # FiftyOne has its own
            yield Shown(key=case.id, panels=panels, values={"key": case.id, **values, "fault": fault})
    media.sweep([edition])


def _panels(scores: Scores, report: Path, folder: Folder, protocol: str, case: Case | Dropped) -> dict[str, Panel]:
    key = f"{protocol} {case.id}"
    if isinstance(case, Dropped):
        return {"image": folder.card(key, f"{case.id}: {case.reason}: {case.detail}")}
    panels = {"image": folder.panel(key, "image", case.image, overlays={"mask": _mask(folder, key, case)})}
    truth = {"background": case.background, "foreground": case.foreground}
    panels |= {name: folder.panel(key, name, layer) for name, layer in truth.items() if layer is not None}
    together = [("image", case.image)] + [("truth", case.background)] * (case.background is not None)
    for model, name in scores.models.items():
        for layer, panel in (("background", name), ("foreground", _foreground_of(name))):
            made = _prediction(predicted(report, protocol, model, case.id, layer), alpha=layer == "foreground")
            if made is not None:
                overlays = _difference(folder, key, panel, made, truth[layer])
                panels[panel] = folder.panel(key, panel, made, overlays=overlays)
                together += [(model, made)] if layer == "background" else []
    titles, pictures = zip(*together, strict=True)
    return {**panels, TOGETHER: folder.panel(key, TOGETHER, sheet(titles, [(case.id, pictures)], _SIDE))}


def _mask(folder: Folder, key: str, case: Case) -> Overlay:
    return folder.overlay(key, "mask", case.mask.astype(np.uint8) * 255, heat=False)


def _prediction(path: Path, *, alpha: bool) -> U8 | None:
    """A predicted layer; None where the model has none, or it was removed since."""
    try:
        return images.read(path, alpha=alpha)
    except BadImage:
        return None


def _difference(folder: Folder, key: str, name: str, made: U8, truth: U8 | None) -> dict[str, Overlay]:
    """The mean absolute difference of all channels, laid over a prediction."""
    if truth is None or made.shape != truth.shape:
        return {}
    difference = np.rint(cv2.absdiff(made, truth).mean(axis=2)).astype(np.uint8)
    return {"difference": folder.overlay(key, f"{name}.difference", difference, heat=True, brightest=_HEAT)}


def _views(scores: Scores) -> Iterator[View]:
    """Worst and best by every measure of every model; of pasted predictions the plain ones say as much."""
    for model in scores.models.values():
        for measure, field in scores.measures.items():
            if not measure.variant.endswith("+pasted"):
                better_high = scores.higher_is_better.get(measure, True)
                path = f"{model}.{field}"
                for rank, reverse in (("worst", not better_high), ("best", better_high)):
                    yield View(
                        f"{rank} {model} {field}",
                        f"{rank} first by {measure.metric}:{measure.variant}@{measure.region} of {model}",
                        partial(_ranked, path=path, reverse=reverse),
                    )
    if len(scores.suites) > 1:
        yield from (View(f"suite {one.name}", one.about, partial(_of_suite, suite=one.name)) for one in scores.suites)


def _ranked(dataset: Any, F: Any, *, path: str, reverse: bool) -> Any:
    return dataset.match(F(path) != None).sort_by(path, reverse=reverse)  # noqa: E711


def _of_suite(dataset: Any, F: Any, *, suite: str) -> Any:
    return dataset.match({"suite": suite})

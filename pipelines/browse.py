"""``layerkit browse``: a build, a run or a report in FiftyOne, and what people say of its samples back in files."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..manifests.entry import slug
from ..manifests.errors import UsageError
from ..manifests.report_files import REPORT
from ..toolkit.models.runs import CONFIG, is_run
from .browsing import builds, database, rejects, reports, server
from .browsing.exhibit import Exhibit, Tell
from .browsing.media import Media
from .browsing.tags import Exported, export, unsaid

LIMIT = 1000
"""Samples that are shown unless more are asked for."""

REJECTS = 100
"""Refused candidates that are drawn again unless more are asked for."""

_RUN = ".layerkit/run.json"
_REFUSED = "-rejects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a folder is to be shown.

    Attributes:
        limit: samples, evenly from all that ``where`` is true of.
        where: a condition on them, see :func:`~.browsing.where.matching`.
        rejects: of a build: what it refused, evenly over the reasons.
        roots: of a report: where data sets lie that are not where they were.
        weights: folder of pre-trained weights, for refused candidates that need them.
    """

    limit: int = LIMIT
    where: str = ""
    rejects: int = REJECTS
    roots: Mapping[str, Path] = field(default_factory=dict)
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UsageError(f"--limit: expected 1 or more samples, got {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What FiftyOne holds of a folder.

    Attributes:
        kind: ``build``, ``report`` or ``run``.
        dataset: name of its data set.
        samples: number of them; each has several pictures.
        views: names of the saved views.
        rejects: name of the data set of what the build refused, or empty.
        refused: number of samples in it.
        url: where the App shows it, or empty.
    """

    kind: str
    dataset: str
    samples: int
    views: Sequence[str]
    rejects: str = ""
    refused: int = 0
    url: str = ""

    def describe(self) -> str:
        """The result in words."""
        lines = [f"samples   {self.samples} of the {self.kind}: data set {self.dataset}, {len(self.views)} saved views"]
        lines += [f"rejects   {self.refused}: data set {self.rejects}"] * bool(self.rejects)
        last = f"open      {self.url}" if self.url else f'load      fiftyone.load_dataset("{self.dataset}")'
        return "\n".join([*lines, last])


def _silent(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


def dataset(
    folder: str | Path,
    *,
    limit: int = LIMIT,
    where: str = "",
    roots: Mapping[str, Path] | None = None,
    tell: Tell = _silent,
) -> Any:
    """The ``fiftyone.Dataset`` of a build, a run or a report, as ``layerkit browse`` shows it.

    It is loaded once and found again by the next call, which takes up what changed. Tags stay.

    Args:
        folder: of the build, the run or the report.
        limit: see :class:`Asked`.
        where: see :class:`Asked`.
        roots: see :class:`Asked`.
        tell: called as samples are done.

    Raises:
        UsageError: none of these, nothing to show, or no database.
    """
    return database.load(exhibit_of(Path(folder), Asked(limit=limit, where=where, roots=roots or {})), tell)


def rejected(
    build: str | Path, *, count: int = REJECTS, weights: Path | None = None, tell: Tell = _silent
) -> Any | None:
    """The ``fiftyone.Dataset`` of what a build refused; None where that is nothing.

    Args:
        build: its folder.
        count: ``rejects`` of :class:`Asked`.
        weights: see :class:`Asked`.
        tell: called as samples are done.

    Raises:
        UsageError: see :func:`dataset`.
    """
    made = rejects_of(Path(build), Asked(rejects=count, weights=weights))
    return database.load(made, tell) if made else None


def exhibit_of(folder: Path, asked: Asked) -> Exhibit:
    """What there is to show of a folder.

    Raises:
        UsageError: it is no build, run or report, or holds nothing to show.
    """
    name = name_of(folder)
    match kind_of(folder):
        case "build":
            return builds.exhibit(folder, name, limit=asked.limit, where=asked.where)
        case "report":
            return reports.exhibit(folder, name, limit=asked.limit, where=asked.where, roots=asked.roots)
    from .browsing import runs  # brings torch

    return runs.exhibit(folder, name)


def exhibits_of(folder: Path, asked: Asked) -> list[Exhibit]:
    """What there is to show of a folder, and what a build refused, if anything.

    Raises:
        UsageError: see :func:`exhibit_of`.
    """
    return list(filter(None, [exhibit_of(folder, asked), rejects_of(folder, asked)]))


def rejects_of(folder: Path, asked: Asked) -> Exhibit | None:
    """What a build refused; None of a run or a report, or where it is nothing."""
    if kind_of(folder) != "build":
        return None
    return rejects.exhibit(folder, name_of(folder) + _REFUSED, count=asked.rejects, weights=asked.weights)


def kind_of(folder: Path) -> str:
    """``build``, ``report`` or ``run``.

    Raises:
        UsageError: none of them.
    """
    if (folder / _RUN).is_file():
        return "build"
    if (folder / REPORT).is_file():
        return "report"
    if is_run(folder):
        return "run"
    raise UsageError(
        f"expected the folder of a build, a run or a report, got {folder}, which has no {_RUN}, {REPORT} or {CONFIG}"
    )


def name_of(folder: Path) -> str:
    """The name of a folder's data set: its own, and a hash of where it lies."""
    path = folder.resolve()
    return f"{slug(path.name, 40) or 'layerkit'}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def load(exhibits: Sequence[Exhibit], tell: Tell) -> Opened:
    """Put exhibits into FiftyOne's database, without an App.

    Args:
        exhibits: see :func:`exhibits_of`.
        tell: called as samples are done.

    Raises:
        UsageError: there is no database.
    """
    shown, *refused = (database.load(one, tell) for one in exhibits)
    return Opened(
        kind=exhibits[0].kind,
        dataset=shown.name,
        samples=len(shown),
        views=shown.list_saved_views(),
        rejects=refused[0].name if refused else "",
        refused=len(refused[0]) if refused else 0,
    )


def browse(exhibits: Sequence[Exhibit], tell: Tell, ready: Callable[[Opened], None], *, port: int | None = None) -> int:
    """Show exhibits in FiftyOne's App until Ctrl-C or SIGTERM.

    Args:
        exhibits: see :func:`exhibits_of`.
        tell: called as samples are done.
        ready: called once the App can be opened.
        port: of the App on 127.0.0.1; None takes the first free one from 5151 on.

    Returns:
        How many samples have tags that :func:`export_tags` has not written yet.

    Raises:
        UsageError: there is no database, or the port is taken.
        RunError: the App's server does not start.
    """
    with server.app(server.free_port(port)) as address:
        opened = load(exhibits, tell)
        url = address(opened.dataset)
        ready(replace(opened, url=url))
        server.show(url)
        server.wait()
        return unsaid(exhibits[0].folder, database.tags_of(database.find(opened.dataset)))


def export_tags(folder: Path) -> Exported:
    """Write what people tagged into the folder's exclude list and labels file.

    Raises:
        UsageError: a run, a folder that was not browsed yet, one that changed since, or that cannot be written to.
    """
    if (kind := kind_of(folder)) == "run":
        raise UsageError(f"--export-tags: expected the folder of a build or a report, got the run {folder}")
    shown = database.find(name_of(folder))
    if shown is None or (kind == "build" and shown.info["origin"] != builds.origin_of(folder)):
        raise UsageError(
            f"expected a folder whose samples were tagged, got {folder}; run layerkit browse {folder} first"
        )
    return export(folder, database.tags_of(shown))


def forget(folder: Path) -> None:
    """Delete the data sets of a folder from FiftyOne, with their tags and their pictures; the folder stays.

    Raises:
        UsageError: no database.
    """
    for name in (name_of(folder), name_of(folder) + _REFUSED):
        database.delete(name)
        Media(name).clear()

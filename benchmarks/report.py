"""The report: what ``report.json`` holds, and every form that it is written in."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..manifests.references import rows_for
from ..manifests.report_files import PLACES, REPORT, SAMPLES
from ..manifests.suites import Suite
from ..toolkit.files import write_atomically
from .options import BenchOptions
from .reports.html import render_html
from .reports.samples import write_samples
from .reports.tables import render_csv, render_latex, render_markdown
from .reports.view import column_of, is_main
from .results import breakdowns_of, results_of
from .run import Outcome

SCHEMA = 1

_LIBRARIES = ("numpy", "opencv-python-headless", "torch", "diffusers", "lpips", "clean-fid", "scipy", "pillow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``report.json`` holds; see the design's part 6.

    Attributes:
        schema: :data:`SCHEMA`.
        results: a row for each suite, model and measure.
        breakdowns: means by category and mask area, distances of sets by category.
        skipped: what was not measured, and why; ``metric`` is ``*`` where the model could not run.
        dropped: cases that could not be read, and why.
        references: published rows; ``same_protocol`` says whether they may stand beside ours.
        suites: what each suite is, whole.
        models: revision and licence of each.
        environment: versions that the numbers depend on; nothing of when or how fast.
    """

    schema: int
    results: list[dict[str, Any]]
    breakdowns: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    dropped: list[dict[str, str]]
    references: list[dict[str, Any]]
    suites: list[dict[str, Any]]
    models: list[dict[str, str]]
    environment: dict[str, Any]

    def describe(self, out: str) -> str:
        """The main results in words: of each suite its main measure, or the first that was taken."""
        lines = [
            f"{row['suite']}  {row['model']}  {row['metric']}:{row['variant']}@{row['region']}  {_told(row)}"
            for suite in self.suites
            for row in _main_of(suite, [row for row in self.results if row["suite"] == suite["name"]])
        ]
        if self.skipped:
            lines.append(f"skipped   {len(self.skipped)} measures; {out}/report.md says which, and why")
        return "\n".join([*lines, f"report    {out}/report.html"])


def report_of(outcomes: Sequence[Outcome], options: BenchOptions) -> Report:
    """The report of some outcomes: a function of what lies on the disk, so a resumed run gives the same bytes."""
    by_suite = {outcome.suite.name: outcome for outcome in outcomes}
    dropped = dict.fromkeys((outcome.suite.name, case) for outcome in outcomes for case in outcome.dropped)
    models = {outcome.model: {"revision": outcome.revision, "licence": outcome.licence} for outcome in outcomes}
    return Report(
        schema=SCHEMA,
        results=[row for outcome in outcomes for row in results_of(outcome)],
        breakdowns=[row for outcome in outcomes for row in breakdowns_of(outcome)],
        skipped=[
            {"model": outcome.model, "suite": outcome.suite.name, "metric": metric, "why": why}
            for outcome in outcomes
            for metric, why in outcome.skipped.items()
        ],
        dropped=[{"suite": suite, **asdict(case)} for suite, case in dropped],
        references=[row for outcome in by_suite.values() for row in _references(outcome.suite)],
        suites=[{**asdict(replace(one.suite, folder="")), "protocol": one.suite.protocol} for one in by_suite.values()],
        models=[{"name": name, **told} for name, told in models.items()],
        environment=_environment(options),
    )


def _main_of(suite: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    main = [row for row in rows if is_main(column_of(row), suite["main"])]
    return main or [row for row in rows if column_of(row) == column_of(rows[0])]


def _told(row: Mapping[str, Any]) -> str:
    (low, high), text = row["ci95"], column_of(row).text
    interval = f" [{text(low)}, {text(high)}]" if None not in (low, high) else ""
    return f"{text(row['value'])}{interval}, n = {row['n']}" if row["value"] is not None else "-"


def _references(suite: Suite) -> list[dict[str, Any]]:
    """Published figures of the suite's protocol first, then those of others on the same data."""
    same, others = rows_for(suite)
    told = {"suite": suite.name}
    return [{**told, "same_protocol": row in same, **asdict(row)} for row in (*same, *others)]


def _environment(options: BenchOptions) -> dict[str, Any]:
    versions = {name: version(name) for name in ("layerkit", *_LIBRARIES)}
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": options.device.partition(":")[0],
    }
    return {**machine, "seed": options.seed, "limit": options.limit, "versions": versions}


def _places(outcomes: Sequence[Outcome], options: BenchOptions) -> dict[str, dict[str, str]]:
    """Where the data lie on this machine, for those who look at the report's samples here."""
    folders = {one.suite.name: str(Path(one.suite.folder).resolve()) for one in outcomes if one.suite.folder}
    return {"roots": {name: str(root.resolve()) for name, root in options.roots.items()}, "folders": folders}


def write_report(report: Report, outcomes: Sequence[Outcome], options: BenchOptions) -> None:
    """Write every form of the report, ``report.json`` last."""
    (options.out / PLACES).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / PLACES, json.dumps(_places(outcomes, options), indent=1).encode())
    table = asdict(report)
    write_samples(options.out / SAMPLES, outcomes)
    texts = {
        "report.md": render_markdown(table),
        "report.html": render_html(table, outcomes, options),
        "report.tex": render_latex(table),
        "report.csv": render_csv(table),
        REPORT: json.dumps(table, indent=1, allow_nan=False),
    }
    for name, text in texts.items():
        write_atomically(options.out / name, text.encode())

"""Outcomes for the tests of reports: a real run of a few demo cases, and made-up ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from layerkit.benchmarks.measures import parse_measure
from layerkit.benchmarks.options import BenchOptions
from layerkit.benchmarks.report import report_of
from layerkit.benchmarks.reports.samples import write_samples
from layerkit.benchmarks.run import Outcome, run_model
from layerkit.benchmarks.store import Row, Seen, Store
from layerkit.manifests.report_files import SAMPLES
from layerkit.manifests.suites import SUITES, Suite

MakeOutcome = Callable[..., Outcome]
MakeTable = Callable[..., dict[str, Any]]
WriteReport = Callable[..., Path]

REFERENCE = {
    "suite": "demo",
    "same_protocol": True,
    "protocol": "paper",
    "dataset": "demo",
    "n": 100,
    "size": 256,
    "mask": "tight",
    "method": "Published",
    "metric": "psnr",
    "variant": "area",
    "region": "whole",
    "value": 26.4,
    "evidence": "S",
    "verified": True,
    "note": "",
    "suites": ["demo"],
}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], BenchOptions]:
    """A model without and one with a foreground on eight cases of the demo suite."""
    folder = tmp_path_factory.mktemp("demo")
    options = BenchOptions(out=folder / "out", cache=folder / "cache", limit=8)
    suite = SUITES["demo"]
    return [run_model(name, suite, options, lambda *told: None) for name in ("telea", "closed-form-matting")], options


@pytest.fixture
def outcome() -> MakeOutcome:
    """Makes the outcome of a model from values by measure, a value a case."""

    def make(model: str, values: Mapping[str, Sequence[float]], suite: Suite | None = None, **others: Any) -> Outcome:
        measures = {name: parse_measure(name) for name in values}
        rows = [
            Row(
                id=f"case-{k:02d}",
                key="",
                category="cup" if k % 2 else "coin",
                area=0.02 + 0.1 * (k % 3),
                values={str(measures[name]): of[k] for name, of in values.items()},
            )
            for k in range(len(next(iter(values.values()))))
        ]
        made = Outcome(suite=suite or SUITES["demo"], model=model, measures=tuple(measures.values()), rows=tuple(rows))
        return replace(made, **others)

    return make


@pytest.fixture
def table(tmp_path: Path) -> MakeTable:
    """Makes what ``report.json`` holds from outcomes and published rows."""

    def make(*outcomes: Outcome, references: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        report = report_of(outcomes, BenchOptions(out=tmp_path, cache=tmp_path))
        return asdict(replace(report, references=[{**REFERENCE, **row} for row in references]))

    return make


@pytest.fixture
def written(table: MakeTable) -> WriteReport:
    """Writes the parts of a report that others read: ``report.json``, the samples, and the rows of the run."""

    def write(folder: Path, *outcomes: Outcome) -> Path:
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(table(*outcomes), default=str))
        write_samples(folder / SAMPLES, outcomes)
        for one in outcomes:
            store = Store(folder, one.suite.protocol, one.model, "", "")
            for row in one.rows:
                store.append(row)
            store.write_seen(1, Seen({row.id: (k, row.key) for k, row in enumerate(one.rows)}, []))
        return folder

    return write

"""The scores of a report as a table with a row a case, and a column for each measure of each model."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...manifests import schema
from ...manifests.errors import UsageError
from ...manifests.report_files import PLACES, REPORT, SAMPLES
from ...manifests.suites import Suite

Row = dict[str, Any]

CASE = ("suite", "id", "scene", "category", "area")
"""What is known of a case beside its scores."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure that has a value for every case."""

    metric: str
    variant: str
    region: str


class Scores:
    """The scores of a report's cases.

    Args:
        report: its folder.

    Raises:
        UsageError: no report, or one without its scores.
    """

    def __init__(self, report: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self.table: dict[str, Any] = json.loads((report / REPORT).read_text(encoding="utf-8"))
            self._rows: list[Row] = pq.read_table(report / SAMPLES).to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UsageError(
                f"expected a finished report with {REPORT} and {SAMPLES}, got {report}: {error}; run layerkit bench"
            ) from error
        wanted = {"results", "suites", "environment"}
        if not isinstance(self.table, dict) or not wanted <= self.table.keys():
            raise UsageError(
                f"{report / REPORT}: expected a report with {', '.join(sorted(wanted))}, got another; bench anew"
            )
        self._report = report

    @cached_property
    def models(self) -> dict[str, str]:
        """Model to its name as a field: letters, digits and underscores, unlike any other's."""
        return _fields(dict.fromkeys(row["model"] for row in self._rows), taken=CASE)

    @cached_property
    def measures(self) -> dict[Measured, str]:
        """Measure to its name as a field: ``psnr_mask``, and ``iou_soft`` where there are several of one metric."""
        found = dict.fromkeys(_measured(row) for row in self._rows)
        variants: dict[str, set[str]] = {}
        for one in found:
            variants.setdefault(one.metric, set()).add(_plain(one.variant))
        return dict(
            zip(found, _fields({_told(one, variants[one.metric]): None for one in found}).values(), strict=True)
        )

    @cached_property
    def higher_is_better(self) -> dict[Measured, bool]:
        """Which way a measure counts."""
        return {_measured(row): row["higher_is_better"] for row in self.table["results"]}

    @property
    def suites(self) -> list[Suite]:
        """The suites as they were when the report was made, the folder of ``triplets:DIR`` where it still lies there.

        Raises:
            UsageError: the report is of another version of layerkit.
        """
        folders = {name: folder for name, folder in self._places["folders"].items() if Path(folder).is_dir()}
        return [
            schema.parse(
                Suite,
                {name: value for name, value in table.items() if name != "protocol"}
                | {"folder": folders.get(table["name"], "")},
                f"{self._report / REPORT}: suite",
            )
            for table in self.table["suites"]
        ]

    @property
    def roots(self) -> dict[str, Path]:
        """Where data sets lay when the report was made here; none of a report from elsewhere."""
        return {name: Path(root) for name, root in self._places["roots"].items()}

    @cached_property
    def _places(self) -> dict[str, dict[str, str]]:
        try:
            places: dict[str, dict[str, str]] = json.loads((self._report / PLACES).read_bytes())
        except (OSError, ValueError):
            places = {}
        return {"roots": {}, "folders": {}, **(places if isinstance(places, dict) else {})}

    def cases(self) -> list[Row]:
        """A row a case, in the order of the report: :data:`CASE`, and model to measure to value."""
        found: dict[tuple[str, str], Row] = {}
        for row in self._rows:
            case = found.setdefault((row["suite"], row["id"]), {name: row[name] for name in CASE})
            case.setdefault(self.models[row["model"]], {})[self.measures[_measured(row)]] = row["value"]
        return list(found.values())

    def flat(self, cases: Sequence[Mapping[str, Any]]) -> Any:
        """Cases as a ``pyarrow.Table`` whose columns ``--where`` may name: ``telea.psnr_mask``."""
        import pyarrow as pa

        scored = [(model, measure) for model in self.models.values() for measure in self.measures.values()]
        columns: dict[str, list[Any]] = {name: [case[name] for case in cases] for name in CASE}
        for model, measure in scored:
            values = [case.get(model, {}).get(measure) for case in cases]
            if any(value is not None for value in values):
                columns[f"{model}.{measure}"] = values
        return pa.table(columns)


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(row["metric"], row["variant"], row["region"])


def _plain(variant: str) -> str:
    return variant.removesuffix("+pasted")


def _told(one: Measured, variants: set[str]) -> str:
    """The name of a measure, without what goes without saying."""
    variant = _plain(one.variant) if len(variants) > 1 else ""
    region = "" if one.region == "whole" else one.region
    pasted = "pasted" if one.variant.endswith("+pasted") else ""
    return " ".join(filter(None, (one.metric, variant, region, pasted)))


def _fields(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Name to field, each another one."""
    fields: dict[str, str] = {}
    used = set(taken)
    for name in names:
        plain = field = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "model"
        plain = field = f"m_{plain}" if plain[0].isdigit() else plain
        number = 2
        while field in used:
            field, number = f"{plain}_{number}", number + 1
        used.add(field)
        fields[name] = field
    return fields

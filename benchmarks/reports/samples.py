"""``samples.parquet``: every per-image value of a report, one a row, as the means were taken of them."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError
from ...manifests.report_files import SAMPLES
from ...toolkit.files import write_atomically
from ..results import values_of
from ..run import Outcome

_TEXTS = ("suite", "protocol", "model", "id", "scene", "category", "metric", "variant", "region")
_NUMBERS = ("area", "value")


def write_samples(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the values of all cases: one table, a row for each case and measure.

    The mean of a column of values is what the report says: infinite PSNR is capped, and null stands for a case that
    lacks what the measure looks at. ``area`` is the share of the picture that the mask covers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in _TEXTS] + [(name, pa.float64()) for name in _NUMBERS])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for outcome in outcomes:
            writer.write_table(pa.Table.from_pylist(_rows(outcome), schema))
    write_atomically(path, buffer.getvalue())


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    named = {"suite": outcome.suite.name, "protocol": outcome.suite.protocol, "model": outcome.model}
    return [
        {
            **named,
            **{name: getattr(row, name) for name in ("id", "scene", "category", "area")},
            "metric": measure.metric,
            "variant": measure.told_variant,
            "region": measure.region,
            "value": None if math.isnan(value) else value,
        }
        for measure in outcome.measures
        if measure.row.kind == "per-image"
        for row, value in zip(outcome.rows, values_of(measure, outcome.rows), strict=True)
    ]


def read_samples(report_folder: Path) -> list[dict[str, Any]]:
    """The rows of a report, as :func:`write_samples` wrote them; a null value comes back as NaN.

    Raises:
        UsageError: no samples, or another file under their name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = report_folder / SAMPLES
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=[*_TEXTS, *_NUMBERS]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"expected the folder of a report with {SAMPLES}, got {path}: {error}; run bench first"
        ) from error
    return [row | {"value": math.nan if row["value"] is None else row["value"]} for row in rows]

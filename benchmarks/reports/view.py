"""A report as readers see it: for each suite tables of models by measures, what is best, and what was published.

It is made of what ``report.json`` holds alone. Values stand in one column only if metric, variant and region agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...toolkit.metrics import METRICS
from ..measures import PASTED, parse_measure

Cells = dict[str, Any]  # a row of ``results`` or ``references``

# Name, unit and decimals of a metric.
_SHOWN = {
    "psnr": ("PSNR", "dB", 2),
    "rmse": ("RMSE", "levels of 255", 2),
    "ssim": ("SSIM", "", 4),
    "lpips": ("LPIPS", "", 4),
    "edge-gradient": ("Edge gradient", "levels of 255", 2),
    "fid": ("FID", "", 2),
    "kid": ("KID", "", 5),
    "u-ids": ("U-IDS", "", 4),
    "p-ids": ("P-IDS", "", 4),
    "clip-score": ("CLIP score", "", 2),
    "clip-image": ("CLIP image similarity", "", 2),
    "iou": ("IoU", "", 4),
    "mask-iou": ("Mask IoU", "", 4),
    "users": ("Votes", "share", 3),
    "ber": ("BER", "", 4),
    "sad": ("SAD", "thousands", 3),
    "matting-mse": ("Matting MSE", "", 5),
    "gradient": ("Gradient error", "thousands", 3),
    "connectivity": ("Connectivity error", "thousands", 3),
    "recomposition-psnr": ("Recomposition PSNR", "dB", 2),
    "jitter-fid": ("Jitter FID", "", 2),
    "colour-error": ("Colour error", "levels of 255", 2),
    "layer-distance": ("Layer distance", "", 4),
}
_RAW, _BACK, _LAYERS = "Background, as predicted", "Background, pasted back", "Foreground and layers"
_OF_BACKGROUND = (("preds", "target"), ("preds", "target", "mask"), ("votes",))


@dataclass(frozen=True, slots=True)
class Column:
    """One measure: what must agree for two values to be compared."""

    metric: str
    variant: str
    region: str

    @property
    def higher_is_better(self) -> bool:
        """The direction of its metric."""
        return METRICS[self.metric].higher_is_better

    @property
    def title(self) -> str:
        """Its name with an arrow to the better side."""
        return f"{_SHOWN[self.metric][0]} {'↑' if self.higher_is_better else '↓'}"

    def told(self, value: float) -> str:
        """Name, value and unit."""
        name, unit, _ = _SHOWN[self.metric]
        return f"{name} {self.text(value)} {unit}".rstrip()

    @property
    def details(self) -> str:
        """Variant, region and unit."""
        return ", ".join(filter(None, (self.variant.removesuffix(PASTED), self.region, _SHOWN[self.metric][1])))

    @property
    def full_title(self) -> str:
        """All of it in one line."""
        return f"{self.title} ({self.details}{', pasted back' if self.is_pasted else ''})"

    @property
    def is_pasted(self) -> bool:
        """Whether the prediction was pasted back into the input outside the mask."""
        return self.variant.endswith(PASTED)

    @property
    def group(self) -> str:
        """The table that it stands in."""
        of_layers = self.metric == "jitter-fid" or self.region in ("composed", "foreground")
        if of_layers or METRICS[self.metric].compares not in _OF_BACKGROUND:
            return _LAYERS
        return _BACK if self.is_pasted else _RAW

    def text(self, value: float | None) -> str:
        """A value with the decimals of the metric; a dash for none."""
        return "—" if value is None else f"{value:.{_SHOWN[self.metric][2]}f}"


class Published(NamedTuple):
    """A published row that may stand beside ours: its values by column, and where they come from."""

    method: str
    source: str
    note: str
    cells: Mapping[Column, Cells]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteView:
    """All that a report says of one suite.

    Attributes:
        suite: its fields and its protocol.
        models: in the order of the report.
        groups: title of a table to its columns, main measure first.
        main: the measure that ranks; None where it was not taken.
        cells: row of the results by model and column.
        best: which of them are best, where there are two models or more.
        published: rows of the same protocol that fit a column.
        untaken: published rows of the same protocol, of measures that were not taken.
        elsewhere: published rows of other protocols.
        breakdowns: means by group of cases.
        skipped: what was not measured.
        dropped: cases that could not be read.
        limit: of the run.
    """

    suite: Mapping[str, Any]
    models: Sequence[str]
    groups: Mapping[str, Sequence[Column]]
    main: Column | None
    cells: Mapping[tuple[str, Column], Cells]
    best: frozenset[tuple[str, Column]]
    published: Sequence[Published]
    untaken: Sequence[Cells]
    elsewhere: Sequence[Cells]
    breakdowns: Sequence[Cells]
    skipped: Sequence[Mapping[str, str]]
    dropped: Sequence[Mapping[str, str]]
    limit: int | None

    def rows_of(self, columns: Sequence[Column]) -> tuple[list[str], list[Published]]:
        """The models, and the published rows, that have a value in one of the columns."""
        models = [model for model in self.models if any((model, column) in self.cells for column in columns)]
        return models, [one for one in self.published if set(columns) & set(one.cells)]

    @property
    def n(self) -> int:
        """Cases that were scored."""
        return max((row["n"] + row["n_nan"] for row in self.cells.values()), default=0)

    def marks(self, row: Cells) -> list[str]:
        """What a reader must know of a value beside its interval."""
        capped = row.get("n_capped", 0)
        return [
            *([f"n {row['n']}"] if row["n"] != self.n else []),
            *([f"{capped} capped"] if capped else []),
            *(["n < d"] if row["low_n"] else []),
        ]


def views(table: Mapping[str, Any]) -> list[SuiteView]:
    """A view for each suite of a report's table."""
    return [_view(suite, table) for suite in table["suites"]]


def _view(suite: Mapping[str, Any], table: Mapping[str, Any]) -> SuiteView:
    mine = {
        part: [row for row in table[part] if row["suite"] == suite["name"]]
        for part in ("results", "breakdowns", "skipped", "dropped", "references")
    }
    cells = {(row["model"], column_of(row)): row for row in mine["results"]}
    columns = list(dict.fromkeys(column for _, column in cells))
    main = next((column for column in columns if is_main(column, suite["main"])), None)
    columns.sort(key=lambda column: column != main)
    beside = [
        (row, column)
        for row in mine["references"]
        if row["same_protocol"] and (column := _beside(row, columns)) is not None
    ]
    return SuiteView(
        suite=suite,
        models=list(dict.fromkeys(model for model, _ in cells)),
        groups={title: group for title in (_RAW, _BACK, _LAYERS) if (group := _of_group(columns, title))},
        main=main,
        cells=cells,
        best=frozenset(one for column in columns for one in _best(column, cells)),
        published=_published(beside),
        untaken=[row for row in mine["references"] if row["same_protocol"] and _beside(row, columns) is None],
        elsewhere=[row for row in mine["references"] if not row["same_protocol"]],
        breakdowns=mine["breakdowns"],
        skipped=mine["skipped"],
        dropped=mine["dropped"],
        limit=table["environment"].get("limit"),
    )


def column_of(row: Mapping[str, Any]) -> Column:
    """The column that a row belongs to."""
    return Column(row["metric"], row["variant"], row["region"])


def is_main(column: Column, main: str) -> bool:
    """Whether a column is the measure that a suite names as its main one."""
    measure = parse_measure(main)
    return column == Column(measure.metric, measure.variant, measure.region)


def _of_group(columns: Sequence[Column], title: str) -> list[Column]:
    return [column for column in columns if column.group == title]


def _best(column: Column, cells: Mapping[tuple[str, Column], Cells]) -> list[tuple[str, Column]]:
    values = {key: row["value"] for key, row in cells.items() if key[1] == column and row["value"] is not None}
    if len(values) < 2:
        return []
    best = (max if column.higher_is_better else min)(values.values())
    return [key for key, value in values.items() if value == best]


def _beside(row: Cells, columns: Sequence[Column]) -> Column | None:
    """Where a published value may stand: a variant that its paper does not state goes with the metric's first."""
    for column in columns:
        stated = row["variant"] or next(iter(METRICS[column.metric].variants))
        if column == Column(row["metric"], stated, row["region"]):
            return column
    return None


def _published(rows: Sequence[tuple[Cells, Column]]) -> list[Published]:
    grouped: dict[tuple[str, str, str], dict[Column, Cells]] = {}
    for row, column in rows:
        grouped.setdefault((row["method"], source_of(row), row["note"]), {})[column] = row
    return [Published(*told, cells) for told, cells in grouped.items()]


def source_of(row: Cells) -> str:
    """Where a published value comes from, and how sure that is."""
    checked = "verified" if row["verified"] else "not verified"
    return f"{row['protocol']}, n {row['n'] or 'not stated'}, evidence {row['evidence']}, {checked}"


def notes_on(published: Sequence[Published]) -> list[str]:
    """What keeps published values from being quite the same measure, each said once."""
    return list(dict.fromkeys(f"{one.source.partition(',')[0]}: {one.note}" for one in published if one.note))


def as_printed(row: Cells) -> str:
    """A published value; a question mark where its variant is not stated."""
    return f"{row['value']:g}" + ("" if row["variant"] else "?")


def facts(view: SuiteView) -> list[tuple[str, str]]:
    """What the numbers of a suite are numbers of, as pairs of label and text."""
    suite = view.suite
    columns = [column for group in view.groups.values() for column in group]
    return [
        ("Protocol", suite["protocol"]),
        ("Cases", _told_cases(view)),
        ("Split", f"{suite['split']} ({suite['reader']})"),
        ("Size", _told_size(suite)),
        ("Mask", suite["mask"] + (f", dilated by {suite['dilate']} px" if suite["dilate"] else "")),
        ("Truth", suite["truth"]),
        ("Paste-back", "raw and pasted back" if suite["paste_back"] == "both" else "raw predictions alone"),
        ("Regions", ", ".join(dict.fromkeys(column.region for column in columns)) or "—"),
        ("Matte of RGBA", "RGB " + ", ".join(map(str, suite["matte"]))),
        ("Ranked by", suite["main"]),
        ("Metrics", ", ".join(suite["metrics"])),
        ("SHA-256 of ids", suite["ids_sha256"] or "not fixed"),
    ]


def _told_cases(view: SuiteView) -> str:
    number = f"up to {view.suite['n']}" if view.suite["n"] else "all"
    drawn = f"{number} drawn: {view.suite['draw']}, seed {view.suite['seed']}"
    limited = f"; limited to {view.limit}" if view.limit is not None else ""
    return f"{view.n} scored, {len(view.dropped)} dropped; {drawn}{limited}"


def _told_size(suite: Mapping[str, Any]) -> str:
    if not suite["size"] or suite["resize"] == "native":
        return "the pictures' own" + (f", {suite['size']} px" if suite["size"] else "")
    side = "both sides" if suite["resize"] == "square" else str(suite["resize"]).replace("-", " ")
    return f"{suite['size']} px, {side}"


def not_measured(view: SuiteView) -> list[dict[str, str]]:
    """What was skipped, a row for each reason: ``measures``, ``models`` and ``why``."""
    by_reason: dict[str, list[Mapping[str, str]]] = {}
    for row in view.skipped:
        by_reason.setdefault(row["why"], []).append(row)
    return [
        {
            "measures": ", ".join(dict.fromkeys("all" if row["metric"] == "*" else row["metric"] for row in rows)),
            "models": ", ".join(dict.fromkeys(row["model"] for row in rows)),
            "why": why,
        }
        for why, rows in by_reason.items()
    ]

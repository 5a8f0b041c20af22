"""Votes of people on the pictures of a report: ``votes.csv`` to fill in beside it, and what they say once it is.

A line is a picture: suite, id of the case, model, where it lies, and how many people preferred it among those of the
case, by ``quality`` and by ``consistency``; both are written empty. The next ``bench`` into the folder reads them. Of a
model without a single count nobody was asked: it has no share, rather than one of nothing.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..manifests.errors import UsageError
from ..manifests.report_files import VOTES, predicted
from ..toolkit.files import write_atomically
from ..toolkit.metrics.votes import share
from .measures import Measure, parse_measure
from .run import Outcome

_KEYS = ("suite", "id", "model")
_COUNTS = ("quality", "consistency")

Line = tuple[str, str, str]  # suite, id of the case, model
Votes = dict[Line, dict[str, float]]


def with_votes(outcomes: Sequence[Outcome], out: Path) -> list[Outcome]:
    """The outcomes with what people said of them; pictures that are new are added to the table, nothing is lost.

    Args:
        outcomes: of models on suites; those whose suite does not ask people stay as they are.
        out: the report's folder.

    Raises:
        UsageError: a table of other columns, or a count that is none.
    """
    asking = [outcome for outcome in outcomes if _measures(outcome)]
    if not asking:
        return list(outcomes)
    votes = _read(out / VOTES)
    lines = {(one.suite.name, row.id, one.model): one.suite.protocol for one in asking for row in one.rows}
    write_atomically(out / VOTES, _table(votes, lines).encode())
    return [_told(outcome, votes) for outcome in outcomes]


def _measures(outcome: Outcome) -> list[Measure]:
    found = [parse_measure(text) for text in outcome.suite.metrics]
    return [measure for measure in found if measure.metric == "users"]


def _told(outcome: Outcome, votes: Votes) -> Outcome:
    """The outcome with a value a case for each question that anyone has answered of the model; no answer is no vote."""
    totals: dict[tuple[str, str], float] = {}
    for (suite, id_, _), counts in votes.items():
        for name, count in counts.items():
            if suite == outcome.suite.name:
                totals[id_, name] = totals.get((id_, name), 0) + count
    answered = {
        name for line, counts in votes.items() if line[::2] == (outcome.suite.name, outcome.model) for name in counts
    }
    measures = [measure for measure in _measures(outcome) if measure.variant in answered]
    rows = [
        replace(row, values={**row.values, **_values(measures, votes.get(_line(outcome, row.id), {}), row.id, totals)})
        for row in outcome.rows
    ]
    left = {name: why for name, why in outcome.skipped.items() if name not in map(str, measures)}
    return replace(outcome, measures=(*outcome.measures, *measures), rows=tuple(rows), skipped=left)


def _line(outcome: Outcome, id_: str) -> Line:
    return outcome.suite.name, id_, outcome.model


def _values(
    measures: Sequence[Measure], counts: Mapping[str, float], id_: str, totals: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    return {str(one): share(counts.get(one.variant, 0), totals.get((id_, one.variant), 0)) for one in measures}


def _read(path: Path) -> Votes:
    """The table that is there, with the counts that are not empty."""
    if not path.is_file():
        return {}
    votes: Votes = {}
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        for row in rows:
            counts = {name: _count(row[name], f"{path}:{rows.line_num}: {name}") for name in _COUNTS if row[name]}
            suite, id_, model = (row[name] for name in _KEYS)
            votes[suite, id_, model] = counts
    except (UnicodeDecodeError, csv.Error, LookupError) as error:
        expected = ", ".join((*_KEYS, "picture", *_COUNTS))
        raise UsageError(f"{path}: expected a table with {expected}: {error!r}; mend it, or remove it") from error
    return votes


def _count(text: str, where: str) -> float:
    try:
        count = float(text)
    except ValueError:
        count = math.nan
    if not 0 <= count < math.inf:
        raise UsageError(f"{where}: expected a number of votes from 0, or nothing, got {text!r}")
    return count


def _table(votes: Votes, lines: Mapping[Line, str]) -> str:
    """The lines of the run, then those of others that people have voted on."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*_KEYS, "picture", *_COUNTS))
    for line in dict.fromkeys((*lines, *(line for line, counts in votes.items() if counts))):
        _, id_, model = line
        picture = predicted(Path(), lines[line], model, id_, "background").as_posix() if line in lines else ""
        counts = votes.get(line, {})
        writer.writerow((*line, picture, *(f"{counts[name]:g}" if name in counts else "" for name in _COUNTS)))
    return out.getvalue()

"""What a run leaves on the disk as it goes: predictions as pictures, scores as lines. Both are taken up again.

A line is appended once everything it tells of is on the disk; one that a killed run left half is passed over. A
prediction or a line counts only for the same case, bytes included, and the same model, seed and measures.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import BadImage, RunError
from ..manifests.report_files import file_name, model_place
from ..toolkit.decomposition import Decomposition
from ..toolkit.files import write_atomically
from ..toolkit.images import encode_png, read
from ..toolkit.suites.cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The scores of one case.

    Attributes:
        id: of the case.
        key: see :meth:`Store.row_key`.
        scene: cases of one scene are not independent.
        category: what scores are broken down by.
        area: share of the picture that the mask covers.
        values: measure to value; NaN where the case lacks what it looks at.
        vectors: measure to the names of the feature vectors of prediction and truth.
    """

    id: str
    key: str
    scene: str = ""
    category: str = ""
    area: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    vectors: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run went over.

    Attributes:
        keys: id to place in the suite and key of the row, of the cases that could be read.
        dropped: place in the suite, id, reason and detail of the others.
    """

    keys: Mapping[str, tuple[int, str]]
    dropped: list[tuple[int, str, str, str]]


class Store:
    """The folder of one model on one suite.

    Args:
        root: the report's folder.
        suite: the suite's protocol.
        model: the model's name.
        identity: whatever else decides a prediction: revision, seed, options.
        measures: what is measured: other measures ask for new rows, not for new predictions.
        part: which process writes; each has a file of its own.
    """

    def __init__(self, root: Path, suite: str, model: str, identity: str, measures: str, part: int = 0) -> None:
        place = model_place(suite, model)
        self.folder, self._rows = root / "predictions" / place, root / ".layerkit" / place
        self._identity = identity
        self._measures = measures
        self._part = part

    def key(self, case: Case) -> str:
        """What a prediction depends on: the case's bytes and the model's identity."""
        return hashlib.sha256(f"{case.sha256}\0{self._identity}".encode()).hexdigest()[:24]

    def row_key(self, case: Case) -> str:
        """What a row depends on: the prediction, what is measured of it, and what else is said of the case."""
        told = f"{self._measures}\0{case.scene}\0{case.category}"
        told += "" if case.human is None else f"\0{hashlib.sha256(case.human.tobytes()).hexdigest()}"
        return f"{self.key(case)}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def has(self, case: Case) -> bool:
        """Whether there is an earlier prediction."""
        try:
            return self._path(case, "key").read_text() == self.key(case)
        except (OSError, UnicodeDecodeError):
            return False

    def load(self, case: Case) -> Decomposition | None:
        """An earlier prediction, or None."""
        if not self.has(case):
            return None
        try:
            background = read(self._path(case, "background.png"))
            path = self._path(case, "foreground.png")
            return Decomposition(background=background, foreground=read(path, alpha=True) if path.exists() else None)
        except (OSError, BadImage):
            return None

    def save(self, case: Case, made: Decomposition) -> None:
        """Keep a prediction; its key is written last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(case, "key").unlink(missing_ok=True)
        write_atomically(self._path(case, "background.png"), encode_png(made.background))
        if made.foreground is not None:
            write_atomically(self._path(case, "foreground.png"), encode_png(made.foreground))
        else:
            self._path(case, "foreground.png").unlink(missing_ok=True)
        write_atomically(self._path(case, "key"), self.key(case).encode())

    def picture(self, id_: str, layer: str) -> Path:
        """Where a predicted layer of a case lies."""
        return self.folder / f"{file_name(id_)}.{layer}.png"

    def append(self, row: Row) -> None:
        """Add the scores of a case."""
        self._rows.mkdir(parents=True, exist_ok=True)
        values = {name: (None if math.isnan(value) else value) for name, value in row.values.items()}
        line = "\n" + json.dumps({**asdict(row), "values": values})  # a new line even after one that was cut short
        with (self._rows / f"{self._part}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> dict[tuple[str, str], Row]:
        """All scores so far by id and key, of all processes; those of other seeds and other measures too."""
        return {(row.id, row.key): row for path in sorted(self._rows.glob("*.jsonl")) for row in _read(path)}

    def scored(self, of: int = 0) -> tuple[list[Row], list[tuple[int, str, str, str]]]:
        """Rows of the last run in the order of the suite, and what it dropped, as :class:`Seen` has it.

        Args:
            of: number of its processes; 0 is however many they were.

        Raises:
            RunError: one of them is not through.
        """
        seen, rows = self._read_seen(of or self._processes()), self.rows()
        held = [(number, rows[id_, key]) for id_, (number, key) in seen.keys.items() if (id_, key) in rows]
        return [row for _, row in sorted(held, key=lambda one: one[0])], seen.dropped

    def write_seen(self, of: int, seen: Seen) -> None:
        """Say what this process went over, once it is through; what runs of other numbers of processes said goes."""
        self._rows.mkdir(parents=True, exist_ok=True)
        for path in self._rows.glob("seen-*.json"):
            if not path.name.endswith(f"-of-{of}.json"):
                path.unlink(missing_ok=True)
        write_atomically(self._rows / f"seen-{self._part}-of-{of}.json", json.dumps(asdict(seen)).encode())

    def _processes(self) -> int:
        """Of the last run that got through; 1 where none did."""
        names = [path.stem for path in self._rows.glob("seen-*.json")]
        return max((int(name.rpartition("-")[2]) for name in names), default=1)

    def _read_seen(self, of: int) -> Seen:
        tables = []
        for part in range(of):
            path = self._rows / f"seen-{part}-of-{of}.json"
            if not path.is_file():
                raise RunError(f"expected the scores of {of} processes, part {part} is not through: {path} is missing")
            tables.append(json.loads(path.read_bytes()))
        keys = {id_: tuple(place) for table in tables for id_, place in table["keys"].items()}
        return Seen(keys=keys, dropped=sorted(tuple(row) for table in tables for row in table["dropped"]))

    def _path(self, case: Case, name: str) -> Path:
        return self.folder / f"{file_name(case.id)}.{name}"


def _read(path: Path) -> Iterator[Row]:
    for line in path.read_bytes().splitlines():
        try:
            table: dict[str, Any] = json.loads(line)
            values = {name: (math.nan if value is None else value) for name, value in table["values"].items()}
            yield Row(**{**table, "values": values})
        except (ValueError, LookupError, TypeError):
            continue  # a killed run's last line


def rng_of(seed: int, case: Case) -> np.random.Generator:
    """The randomness of a case: the same for every model, whatever the order."""
    digest = hashlib.sha256(f"{seed}\0{case.id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))

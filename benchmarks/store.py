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

from ..manifests.entry import slug
from ..manifests.errors import BadImage, RunError
from ..toolkit.decomposition import Decomposition
from ..toolkit.files import write_atomically
from ..toolkit.images import encode_png, read
from .cases import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The scores of one case.

    Attributes:
        id: of the case.
        number: its place in the suite.
        key: see :meth:`Store.row_key`.
        scene: cases of one scene are not independent.
        category: what scores are broken down by.
        area: share of the picture that the mask covers.
        values: measure to value; NaN where the case lacks what it looks at.
        vectors: measure to the names of the feature vectors of prediction and truth.
    """

    id: str
    number: int
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
        keys: id to key of the cases that could be read.
        dropped: place in the suite, id, reason and detail of the others.
    """

    keys: Mapping[str, str]
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
        self.folder = root / "predictions" / slug(suite, 60) / slug(model, 60)
        self._rows = root / ".layerkit" / slug(suite, 60) / slug(model, 60)
        self._identity = identity
        self._measures = hashlib.sha256(measures.encode()).hexdigest()[:8]
        self._part = part

    def key(self, case: Case) -> str:
        """What a prediction depends on: the case's bytes and the model's identity."""
        return hashlib.sha256(f"{case.sha256}\0{self._identity}".encode()).hexdigest()[:24]

    def row_key(self, case: Case) -> str:
        """What a row depends on: the prediction and what is measured of it."""
        return f"{self.key(case)}-{self._measures}"

    def load(self, case: Case) -> Decomposition | None:
        """An earlier prediction, or None."""
        try:
            if (self._path(case, "key").read_text()) != self.key(case):
                return None
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

    def rows(self) -> dict[str, Row]:
        """The scores so far by case, of all processes; later lines win."""
        return {row.id: row for path in sorted(self._rows.glob("*.jsonl")) for row in _read(path)}

    def write_seen(self, of: int, seen: Seen) -> None:
        """Say what this process went over, once it is through."""
        self._rows.mkdir(parents=True, exist_ok=True)
        write_atomically(self._rows / f"seen-{self._part}-of-{of}.json", json.dumps(asdict(seen)).encode())

    def read_seen(self, of: int) -> Seen:
        """What all processes went over.

        Raises:
            RunError: one of them is not through.
        """
        tables = []
        for part in range(of):
            path = self._rows / f"seen-{part}-of-{of}.json"
            if not path.is_file():
                raise RunError(f"expected the scores of {of} processes, part {part} is not through: {path} is missing")
            tables.append(json.loads(path.read_bytes()))
        keys = {id_: key for table in tables for id_, key in table["keys"].items()}
        return Seen(keys=keys, dropped=sorted(row for table in tables for row in table["dropped"]))

    def _path(self, case: Case, name: str) -> Path:
        return self.folder / f"{file_name(case.id)}.{name}"


def file_name(id_: str) -> str:
    """A case's id as a file name: readable, and unlike any other id's."""
    return f"{slug(id_, 60)}-{hashlib.sha256(id_.encode()).hexdigest()[:8]}"


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

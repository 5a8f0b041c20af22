"""What lies where in the folder of a report: ``bench`` writes it, others find it.

OUT/
report.json  samples.parquet  report.md  report.html  …  votes.csv where a suite asks people
predictions/<protocol>/<model>/<case>.background.png  <case>.foreground.png
.layerkit/places.json
"""

import hashlib
from pathlib import Path

from .entry import slug

REPORT = "report.json"
SAMPLES = "samples.parquet"
VOTES = "votes.csv"
PLACES = ".layerkit/places.json"
"""Where data sets lay when the report was made: of this machine, so no part of the report."""


def model_place(protocol: str, model: str) -> Path:
    """The folder of a model on a suite, below ``predictions/``."""
    return Path(folder_name(protocol)) / folder_name(model)


def predicted(report: Path, protocol: str, model: str, id_: str, layer: str) -> Path:
    """Where a predicted layer of a case lies, ``background`` or ``foreground``."""
    return report / "predictions" / model_place(protocol, model) / f"{file_name(id_)}.{layer}.png"


def folder_name(text: str) -> str:
    """A name as that of a folder: itself where it can be, else as a case's id."""
    return text if text == slug(text, 60) else file_name(text)


def file_name(id_: str) -> str:
    """A case's id as a file name: readable, and unlike any other id's."""
    return f"{slug(id_, 60)}-{hashlib.sha256(id_.encode()).hexdigest()[:8]}"

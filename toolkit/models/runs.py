"""The folder of a run: its files, and what tells that it is one, without importing a system."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...manifests.recipes import load_table
from ...manifests.weights import revision_of

CONFIG = "config.toml"
"""The file of a run's options."""

WEIGHTS = "weights.safetensors"
"""What it holds of the trained parameters."""


_STANDS_ON = ("codec", "mae", "decoder")
"""Options that name another run, whose weights are of this one."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of a system; that of a judge is not.

    Raises:
        UsageError: its configuration cannot be read.
    """
    return (folder / CONFIG).is_file() and "system" in load_table(folder / CONFIG)


def revision_of_run(folder: Path, table: Mapping[str, Any], base: str) -> str:
    """What was trained, with which options, on which base: whatever decides what comes out.

    Args:
        folder: of the run.
        table: of its ``config.toml``.
        base: another base than that of the table, or empty.
    """
    model = table.get("model", {})
    parts = [revision_of(folder / WEIGHTS), model, base or table.get("base", "")]
    for name in _STANDS_ON:
        found = Path(str(model.get(name, ""))).expanduser() / WEIGHTS
        parts += [revision_of(found)] if found.is_file() else []
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"

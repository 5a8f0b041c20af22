"""The folder of a run: its files, and what tells that it is one, without importing a system."""

from pathlib import Path

from ...manifests.recipes import load_table

CONFIG = "config.toml"
"""The file of a run's options."""

WEIGHTS = "weights.safetensors"
"""What it holds of the trained parameters."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of a system; that of a judge is not.

    Raises:
        UsageError: its configuration cannot be read.
    """
    return (folder / CONFIG).is_file() and "system" in load_table(folder / CONFIG)

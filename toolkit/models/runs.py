"""What tells that a folder is a run of a system, without importing any."""

from pathlib import Path

from ...manifests.recipes import load_table

CONFIG = "config.toml"
"""The file of a run's options."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of a system; that of a judge is not.

    Raises:
        UsageError: its configuration cannot be read.
    """
    return (folder / CONFIG).is_file() and "system" in load_table(folder / CONFIG)

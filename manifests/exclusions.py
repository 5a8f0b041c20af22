"""Samples that people have left out: a text file with a key a line, honoured without a rebuild.

A build keeps its own in ``manifests/exclude.txt``; training, ``verify`` and ``bench`` on ``triplets:DIR`` heed it.
"""

from pathlib import Path

from .errors import UsageError

EXCLUDE = "manifests/exclude.txt"
"""Where a build's list lies, below its folder."""


def read_keys(path: Path) -> frozenset[str]:
    """The keys of a text file with one a line; blank lines say nothing.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--exclude: expected a text file with a key a line, got {path}: {error}") from error
    return frozenset(filter(None, map(str.strip, lines)))


def excluded_from(build: Path) -> frozenset[str]:
    """The keys that a build's own list leaves out; none where it has no list.

    Raises:
        UsageError: the list cannot be read.
    """
    path = build / EXCLUDE
    return read_keys(path) if path.is_file() else frozenset()

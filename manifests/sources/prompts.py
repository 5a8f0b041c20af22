"""Sources of prompts: ``prompts`` for layers that route ``generate`` draws, ``layerdiffuse:generate`` for cut-outs.

A line of a txt is a prompt; a line of a jsonl is ``{"prompt": …}``, with ``seed``, ``negative``, ``foreground`` and
``background`` where they matter. A line that begins with a brace is read as such an object in a txt as well.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError
from ..prompts import WANTED, Prompt, parse_prompt

_SUFFIXES = {".txt", ".jsonl"}
# A file may begin with a byte order mark.
_BLANK = b"\xef\xbb\xbf \t\r\n"


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a prompt, its id ``FILE:LINE``; ``span`` holds the line, without its end.

    Raises:
        UsageError: no prompt under ``root``, or a line that cannot be read, named with its file.
    """
    found = 0
    for path in _files(root):
        for entry in _entries(path, path.relative_to(root).as_posix()):
            found += 1
            yield entry
    if not found:
        raise UsageError(f"{root}: expected prompts, found no line in a *.txt or *.jsonl below this folder")


def index_layers(root: Path) -> Iterator[Entry]:
    """As :func:`index`, for route ``generate``."""
    for entry in index(root):
        yield replace(entry, source="prompts", uses=("generate",))


def read_prompts(path: Path) -> list[Prompt]:
    """All prompts of one file; see :func:`numbered_prompts`."""
    return [prompt for _, prompt in numbered_prompts(path)]


def numbered_prompts(path: Path) -> list[tuple[int, Prompt]]:
    """All prompts of one file, each with the number of its line, from 1; lines with nothing on them count.

    Raises:
        UsageError: it is no txt or jsonl, cannot be read, holds no prompt, or a line that cannot be read.
    """
    if path.suffix not in _SUFFIXES or not path.is_file():
        raise UsageError(f"expected a file of prompts, {' or '.join(sorted(_SUFFIXES))}, got {path}")
    lines = enumerate(path.read_bytes().splitlines(), 1)
    found = [(number, _checked(line, path, number)) for number, line in lines if line.strip(_BLANK)]
    if not found:
        raise UsageError(f"{path}: expected prompts, found no line with one")
    return found


def _files(root: Path) -> list[Path]:
    """Hidden ones left out, in order."""
    texts = (path for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(path for path in texts if not any(part.startswith(".") for part in path.relative_to(root).parts))


def _entries(path: Path, name: str) -> Iterator[Entry]:
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip(_BLANK):
                yield Entry(
                    source="layerdiffuse:generate",
                    id=f"{name}:{number}",
                    path=path,
                    span=(offset, len(line.rstrip(b"\r\n"))),
                    kind="prompt",
                    uses=("foreground",),
                    caption=_checked(line, path, number).prompt,
                )
            offset += len(line)


def _checked(line: bytes, path: Path, number: int) -> Prompt:
    try:
        if path.suffix == ".jsonl" and not line.lstrip(_BLANK).startswith(b"{"):
            raise UsageError(f"{WANTED}, got {line[:80]!r}")
        return parse_prompt(line)
    except UsageError as error:
        raise UsageError(f"{path}, line {number}: {error}; mend or remove the line") from error

"""Sources of prompts: ``prompts`` for layers that route ``generate`` draws, ``layerdiffuse:generate`` for cut-outs.

A line of a txt is a prompt; a line of a jsonl is ``{"prompt": …}``, with ``seed``, ``negative``, ``foreground`` and
``background`` where they matter. A line that begins with a brace is read as such an object in a txt as well.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError

_WANTED = (
    'expected {"prompt": "…"} with "seed" (0 or more) and "negative", "foreground" and "background" (texts) as options'
)

_SUFFIXES = {".txt", ".jsonl"}
_TEXTS = ("negative", "foreground", "background")

# A file may begin with a byte order mark.
_BLANK = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to draw.

    Attributes:
        prompt: never empty.
        seed: of the noise, 0 to 2⁶³ - 1; None where the source leaves it open.
        negative: what to steer away from; empty = the generator's own.
        foreground: of the object alone, for generators that take a text a layer; empty = ``prompt``.
        background: of the scene alone, likewise.
    """

    prompt: str
    seed: int | None = None
    negative: str = ""
    foreground: str = ""
    background: str = ""


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
    """All prompts of one file.

    Raises:
        UsageError: it is no txt or jsonl, cannot be read, holds no prompt, or a line that cannot be read.
    """
    if path.suffix not in _SUFFIXES or not path.is_file():
        raise UsageError(f"expected a file of prompts, {' or '.join(sorted(_SUFFIXES))}, got {path}")
    lines = enumerate(path.read_bytes().splitlines(), 1)
    found = [_checked(line, path, number) for number, line in lines if line.strip(_BLANK)]
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
            raise UsageError(f"{_WANTED}, got {line[:80]!r}")
        return parse_prompt(line)
    except UsageError as error:
        raise UsageError(f"{path}, line {number}: {error}; mend or remove the line") from error


def parse_prompt(line: bytes) -> Prompt:
    """Read a line, as an entry's ``span`` holds it: an object where it begins with a brace, else the prompt itself.

    Raises:
        UsageError: it is no UTF-8, or no object of this kind.
    """
    try:
        text = line.decode("utf-8-sig").strip()
        row = json.loads(text) if text.startswith("{") else {"prompt": text}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{_WANTED}, or plain UTF-8 text, got {line[:80]!r} ({error})") from error
    match row:
        case {"prompt": str(prompt)} if prompt.strip():
            return Prompt(prompt.strip(), _seed(row.get("seed")), **{name: _text(row, name) for name in _TEXTS})
    raise UsageError(f"{_WANTED}, got {text[:80]}")


def _seed(value: object) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise UsageError(f"{_WANTED}, got the seed {value!r}")


def _text(row: dict[str, object], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, str):
        return value.strip()
    raise UsageError(f"{_WANTED}, got the {name} {value!r}")

"""Source ``layerdiffuse``: a folder of LayerDiffuse's RGBA outputs, straight alpha, with their prompts.

A prompt stands in ``STEM.txt`` beside the picture, or in a ``*.jsonl`` below the folder as ``{"file": …, "prompt": …}``
with the file named from the jsonl's own folder; a jsonl comes before a txt, a later row before an earlier one.
LayerDiffuse's weights say nothing of who owns an output: the licence is unknown unless the recipe says.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..entry import Entry
from ..errors import UsageError
from .rgba import cutout_files


class _Prompt(NamedTuple):
    """A row of a jsonl: where it stands as ``FILE:LINE``, the picture it names, and its prompt."""

    where: str
    path: Path
    text: str


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a cut-out, its id its path below ``root``; then one for each prompt whose picture is missing.

    Raises:
        UsageError: no cut-out under ``root``, or a jsonl that cannot be read, named with its line.
    """
    cutouts = cutout_files(root)
    prompts = [prompt for path in sorted(root.rglob("*.jsonl")) for prompt in _prompts(root, path)]
    texts = {prompt.path: prompt.text for prompt in prompts}
    for path in cutouts:
        caption = texts.get(_absolute(path)) or _text_beside(path)
        yield _entry(path.relative_to(root).as_posix(), path, caption)
    for prompt in prompts:
        if drop := _why_not(root, prompt):
            yield _entry(prompt.where, prompt.path, prompt.text, drop)


def _entry(id_: str, path: Path, caption: str, drop: str = "") -> Entry:
    return Entry(
        source="layerdiffuse", id=id_, path=path, kind="rgba", uses=("foreground",), caption=caption, drop=drop
    )


def _prompts(root: Path, path: Path) -> Iterator[_Prompt]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            where = f"{path.relative_to(root).as_posix()}:{number}"
            name, text = _row(line, f"{path}, line {number}")
            yield _Prompt(where, _absolute(path.parent / name), text)


def _absolute(path: Path) -> Path:
    """Without ``..``; links are not followed, so a picture may be one."""
    return Path(os.path.abspath(path))


def _row(line: bytes, where: str) -> tuple[str, str]:
    """The file and the prompt of a line.

    Raises:
        UsageError: it is no object with both as text.
    """
    wanted = 'expected {"file": "a.png", "prompt": "…"}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: {wanted}, got what is no JSON: {error}; mend or remove the line") from error
    name, text = (row.get("file"), row.get("prompt")) if isinstance(row, dict) else (None, None)
    if not (isinstance(name, str) and name and isinstance(text, str)):
        raise UsageError(f"{where}: {wanted}, got {str(row)[:80]}; mend or remove the line")
    return name, text.strip()


def _why_not(root: Path, prompt: _Prompt) -> str:
    """Why a prompt has no picture here; empty where it has one. A name is judged before anything is looked up."""
    if not prompt.path.is_relative_to(_absolute(root)):
        return f"path_outside_root: {prompt.where} names {prompt.path}"
    return "" if prompt.path.is_file() else f"missing_file: {prompt.where} names {prompt.path.name}"


def _text_beside(path: Path) -> str:
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else ""

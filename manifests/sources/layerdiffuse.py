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
from .rgba import cutout_ids


class _Prompt(NamedTuple):
    """A row of a jsonl: where it stands as ``FILE:LINE``, the picture it names, and its prompt."""

    where: str
    path: str  # absolute, without ``..``; links are not followed, so a picture may be one
    text: str


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a cut-out, its id its path below ``root``; then one for each prompt whose picture is missing.

    Raises:
        UsageError: no cut-out under ``root``, or a jsonl that cannot be read, named with its line.
    """
    cutouts = cutout_ids(root)
    home = os.path.abspath(root)
    there = {os.path.join(home, id_): id_ for id_ in cutouts}
    prompts = [prompt for path in sorted(root.rglob("*.jsonl")) for prompt in _prompts(root, path)]
    texts = {there[prompt.path]: prompt.text for prompt in prompts if prompt.path in there}
    for id_ in cutouts:
        path = root / id_
        yield _entry(id_, path, texts.get(id_) or _text_beside(path))
    for prompt in prompts:
        if prompt.path not in there and (drop := _why_not(home, prompt)):
            yield _entry(prompt.where, Path(prompt.path), prompt.text, drop)


def _entry(id_: str, path: Path, caption: str, drop: str = "") -> Entry:
    return Entry(
        source="layerdiffuse", id=id_, path=path, kind="rgba", uses=("foreground",), caption=caption, drop=drop
    )


def _prompts(root: Path, path: Path) -> Iterator[_Prompt]:
    file = path.relative_to(root).as_posix()
    folder = os.path.abspath(path.parent)
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            name, text = _row(line, f"{path}, line {number}")
            yield _Prompt(f"{file}:{number}", os.path.normpath(os.path.join(folder, name)), text)


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


def _why_not(home: str, prompt: _Prompt) -> str:
    """Why a prompt has no picture here; empty where it has one. A name is judged before anything is looked up."""
    if not prompt.path.startswith(os.path.join(home, "")):
        return f"path_outside_root: {prompt.where} names {prompt.path}"
    return "" if os.path.isfile(prompt.path) else f"missing_file: {prompt.where} names {Path(prompt.path).name}"


def _text_beside(path: Path) -> str:
    beside = path.with_suffix(".txt")
    return beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else ""

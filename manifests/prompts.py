"""What a generator is asked to draw: a text, with the seed and the texts that may come with it."""

import json
from dataclasses import dataclass

from .errors import UsageError

WANTED = (
    'expected {"prompt": "…"} with "seed" (0 or more) and "negative", "foreground" and "background" (texts) as options'
)
"""What a line of prompts is to be, for errors."""

_TEXTS = ("negative", "foreground", "background")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to draw.

    Attributes:
        prompt: never empty.
        seed: of the noise, 0 to 2⁶³ - 1; None where the source leaves it open.
        negative: what to steer away from; empty = the generator's own.
        foreground: of the object alone, for generators that take a text a layer; empty = ``prompt``.
        background: of the scene alone, likewise.

    Raises:
        UsageError: a text that UTF-8 cannot hold, such as half of a pair of surrogates.
    """

    prompt: str
    seed: int | None = None
    negative: str = ""
    foreground: str = ""
    background: str = ""

    def __post_init__(self) -> None:
        for text in (self.prompt, self.negative, self.foreground, self.background):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UsageError(f"{WANTED}, in text that UTF-8 can hold, got {text[:80]!r}") from error


def parse_prompt(line: bytes) -> Prompt:
    """Read a line, as an entry's ``span`` holds it: an object where it begins with a brace, else the prompt itself.

    Raises:
        UsageError: it is no UTF-8, or no object of this kind.
    """
    try:
        text = line.decode("utf-8-sig").strip()
        row = json.loads(text) if text.startswith("{") else {"prompt": text}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{WANTED}, or plain UTF-8 text, got {line[:80]!r} ({error})") from error
    match row:
        case {"prompt": str(prompt)} if prompt.strip():
            return Prompt(prompt.strip(), _seed(row.get("seed")), **{name: _text(row, name) for name in _TEXTS})
    raise UsageError(f"{WANTED}, got {text[:80]}")


def _seed(value: object) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise UsageError(f"{WANTED}, got the seed {value!r}")


def _text(row: dict[str, object], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, str):
        return value.strip()
    raise UsageError(f"{WANTED}, got the {name} {value!r}")

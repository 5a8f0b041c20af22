"""The door between a layered generator and whoever uses it: a text and a seed in, layers out.

``checked_generation`` stands in that door, as ``decomposition.checked`` does for the models that take pictures apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import RunError
from ..manifests.sources.prompts import Prompt
from .compose import over_u8

U8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Generation:
    """What a generator draws of a text.

    Attributes:
        foreground: (H, W, 4), 8-bit RGB with straight alpha.
        background: (H, W, 3), 8-bit RGB, the scene without the object; None where the model draws cut-outs alone.
        blend: (H, W, 3), 8-bit RGB, both together as the model itself drew them; None where it draws no such picture.
    """

    foreground: U8
    background: U8 | None = None
    blend: U8 | None = None

    @property
    def image(self) -> U8 | None:
        """The layers composed, (H, W, 3); None without a background."""
        return None if self.background is None else over_u8(self.foreground, self.background)

    @property
    def mask(self) -> U8:
        """The object, 0 or 255, (H, W): where its alpha exceeds a half."""
        return np.where(self.foreground[..., 3] > 127, np.uint8(255), np.uint8(0))


class Generator(Protocol):
    """A named, versioned function from a text and a seed to layers."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: commits or content hashes of its weights."""

    @property
    def licence(self) -> str:
        """Of its weights, as their card states it."""

    @property
    def has_background(self) -> bool:
        """Whether it draws a background too."""

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """Draw one generation a prompt; what is drawn depends on its own prompt and seed, not on its neighbours."""


def checked_generation(made: Generation, where: str, *, has_background: bool = True) -> Generation:
    """The same generation, if it is of the right form; colour is zero where alpha is.

    Args:
        made: what a generator returned.
        where: of which model and prompt, for errors.
        has_background: whether one is expected.

    Raises:
        RunError: a layer is missing, no 8-bit picture, or of another size than the foreground.
    """
    height, width = made.foreground.shape[:2]
    expected = {"foreground": (height, width, 4), "background": (height, width, 3), "blend": (height, width, 3)}
    for name, shape in expected.items():
        layer = getattr(made, name)
        if layer is None and not (name == "background" and has_background):
            continue
        got = "none" if layer is None else f"{layer.dtype} {layer.shape}"
        if got != f"uint8 {shape}":
            raise RunError(f"{where}: {name}: expected uint8 {shape}, got {got}")
    if made.foreground[made.foreground[..., 3] == 0].any():
        raise RunError(f"{where}: foreground: expected colour 0 where alpha is 0, got others; clear it")
    return made

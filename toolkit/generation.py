"""The door between a layered generator and whoever uses it: a text and a seed in, layers out.

``checked_generator`` stands in that door, as ``decomposition.checked`` does for the models that take pictures apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import RunError, UsageError
from ..manifests.prompts import Prompt
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


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A :class:`Generator` whose results are checked; made by :func:`checked_generator`.

    Attributes:
        inner: the generator.
        name: see :class:`Generator`.
        revision: see there.
        licence: see there.
        has_background: see there.
        size: height and width that were asked for; None where it is the generator's own.
    """

    inner: Any
    name: str
    revision: str
    licence: str
    has_background: bool
    size: tuple[int, int] | None = None

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """Draw one generation a prompt.

        Raises:
            UsageError: not as many seeds as prompts.
            RunError: no list of as many generations came, or one has a layer that is missing, no 8-bit picture, of
                another size than asked for or than the foreground, or with colour where alpha is 0.
        """
        if len(prompts) != len(seeds):
            raise UsageError(f"expected a seed a prompt, got {len(seeds)} for {len(prompts)}")
        made = self.inner(prompts, seeds)
        if not isinstance(made, Sequence) or len(made) != len(prompts):
            got = len(made) if isinstance(made, Sequence) else type(made).__name__
            raise RunError(f"generator {self.name}: expected {len(prompts)} generations, got {got}")
        for one, prompt in zip(made, prompts, strict=True):
            where = f"generator {self.name}, {prompt.prompt!r}"
            check_generation(one, where, has_background=self.has_background, size=self.size)
        return list(made)


def checked_generator(generator: Generator, size: tuple[int, int] | None = None) -> Checked:
    """Put a generator behind the door.

    Args:
        generator: it.
        size: height and width that it was asked to draw at, if it was.

    Raises:
        UsageError: it does not say of itself what :class:`Generator` does.
    """
    names = ("name", "revision", "licence", "has_background")
    if missing := [name for name in names if not hasattr(generator, name)]:
        raise UsageError(f"expected a generator with {', '.join(names)}; {generator!r} lacks {', '.join(missing)}")
    return Checked(inner=generator, size=size, **{name: getattr(generator, name) for name in names})


def check_generation(
    made: Generation, where: str, *, has_background: bool = True, size: tuple[int, int] | None = None
) -> None:
    """Make sure that a generation is of the right form.

    Args:
        made: what a generator returned.
        where: of which generator and prompt, for errors.
        has_background: whether one is expected.
        size: height and width that are expected; None is the foreground's.

    Raises:
        RunError: it is no generation, or a layer is missing, no 8-bit picture, of another size, or with colour where
            alpha is 0.
    """
    if not isinstance(made, Generation):
        raise RunError(f"{where}: expected a Generation, got {type(made).__name__}")
    sides = size or getattr(made.foreground, "shape", ("H", "W"))[:2]
    _expect(made.foreground, (*sides, 4), f"{where}: foreground")
    if has_background or made.background is not None:
        _expect(made.background, (*sides, 3), f"{where}: background")
    if made.blend is not None:
        _expect(made.blend, (*sides, 3), f"{where}: blend")
    if made.foreground[made.foreground[..., 3] == 0].any():
        raise RunError(f"{where}: foreground: expected colour 0 where alpha is 0, got others; clear it")


def _expect(layer: Any, shape: tuple[int, ...], what: str) -> None:
    got = f"{layer.dtype} {layer.shape}" if isinstance(layer, np.ndarray) else type(layer).__name__
    if got != f"uint8 {shape}":
        raise RunError(f"{what}: expected uint8 {shape}, got {got}")

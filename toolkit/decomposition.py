"""The door between a model and whoever scores it: picture and mask in, background and perhaps a foreground out.

``checked`` stands in that door. It refuses what is not 8-bit, of the wrong size or of the wrong kind, on both sides,
and names the model and the case, so that a fault shows where it happens and not in a score.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import RunError, UsageError

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """What a model makes of a picture.

    Attributes:
        background: (H, W, 3), 8-bit RGB, without the object.
        foreground: (H, W, 4), 8-bit RGB with straight alpha; None where the model only removes.
    """

    background: U8
    foreground: U8 | None = None


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a report says of a model.

    Attributes:
        name: what it was asked for by.
        revision: which version ran: a library's, a commit or a content hash.
        licence: of its weights, as their card states it.
        native: longest side in pixels that it works at; 0 = any.
        needs: of ``mask`` and ``prompt``.
        is_random: whether its result depends on the generator.
    """

    name: str
    revision: str
    licence: str
    native: int = 0
    needs: frozenset[str] = frozenset({"mask"})
    is_random: bool = True


class Decomposer(Protocol):
    """A named, versioned model; the properties are those of :class:`Traits`."""

    @property
    def name(self) -> str: ...  # noqa: D102 - see Traits
    @property
    def revision(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102
    @property
    def native(self) -> int: ...  # noqa: D102
    @property
    def needs(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def is_random(self) -> bool: ...  # noqa: D102

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Take the object under a bool (H, W) mask apart from an 8-bit (H, W, 3) picture."""


@runtime_checkable
class Stored(Protocol):
    """Results that were made elsewhere and are found by the case's id; it states :class:`Traits` as well."""

    def find(self, case: str, size: tuple[int, int]) -> Decomposition:
        """The stored result of a case whose picture is ``size`` = (H, W)."""


@dataclass(frozen=True, kw_only=True)
class Checked(Traits):
    """A :class:`Decomposer` whose inputs and outputs are checked; made by :func:`checked`."""

    inner: Any

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator, case: str = "") -> Decomposition:
        """Decompose one case.

        Args:
            image: (H, W, 3), 8-bit RGB.
            mask: bool (H, W), True on the object.
            generator: of every random choice; the same state gives the same result.
            case: its id, for errors and for stored predictions.

        Raises:
            UsageError: the picture or the mask is not of this form.
            RunError: the result is not.
            BadImage: the model cannot do this case.
        """
        where = f"model {self.name}, case {case!r}"
        height, width = image.shape[:2]
        _expect(image, (height, width, 3), f"{where}: image", UsageError)
        _expect(mask, (height, width), f"{where}: mask", UsageError, "bool")
        if isinstance(self.inner, Stored):
            result = self.inner.find(case, (height, width))
        else:
            result = self.inner(image, mask, generator)
        if not isinstance(result, Decomposition):
            raise RunError(f"{where}: expected a Decomposition, got {type(result).__name__}")
        _expect(result.background, (height, width, 3), f"{where}: background", RunError)
        if result.foreground is not None:
            _expect(result.foreground, (height, width, 4), f"{where}: foreground", RunError)
        return result


def checked(decomposer: Decomposer | Stored) -> Checked:
    """Put a model behind the door.

    Raises:
        UsageError: it does not state every one of :class:`Traits`.
    """
    names = [field.name for field in fields(Traits)]
    if missing := [name for name in names if not hasattr(decomposer, name)]:
        raise UsageError(f"expected a decomposer with {', '.join(names)}; {decomposer!r} lacks {', '.join(missing)}")
    return Checked(inner=decomposer, **{name: getattr(decomposer, name) for name in names})


def _expect(
    array: Any, shape: tuple[int, ...], what: str, error: type[UsageError | RunError], dtype: str = "uint8"
) -> None:
    got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    if got != f"{dtype} {shape}":
        raise error(f"{what}: expected {dtype} {shape}, got {got}")

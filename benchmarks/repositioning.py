"""A model on a case whose subject is to be put elsewhere: any that takes pictures apart, or one that does it itself."""

from typing import Any

import numpy as np

from ..manifests.errors import RunError
from ..toolkit.decomposition import Checked, Decomposition, Stored
from ..toolkit.suites.cases import Case
from ..toolkit.suites.moves import moved


def repositioned(model: Checked, case: Case, generator: np.random.Generator) -> Decomposition:
    """The picture with its subject elsewhere, as the background of a result without a foreground.

    A model with a method ``reposition(image, mask, move, generator)`` is asked for the finished picture, 8-bit
    (H, W, 3). What is stored is taken for it. Any other model takes the picture apart, and its layers are put together
    anew by :func:`~layerkit.toolkit.suites.moves.moved`.

    Raises:
        UsageError, RunError, BadImage: see :class:`~layerkit.toolkit.decomposition.Checked`.
    """
    assert case.move is not None  # the caller has looked
    whole: Any = getattr(model.inner, "reposition", None)
    if whole is not None:
        return Decomposition(_picture(whole(case.image, case.mask, case.move, generator), model.name, case))
    made = model(case.image, case.mask, generator, case.id)
    if isinstance(model.inner, Stored):
        return Decomposition(made.background)
    return Decomposition(moved(made, case.image, case.mask, case.move))


def _picture(made: Any, name: str, case: Case) -> Any:
    got = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
    if got != f"uint8 {case.image.shape}":
        raise RunError(f"model {name}, case {case.id!r}: picture: expected uint8 {case.image.shape}, got {got}")
    return made

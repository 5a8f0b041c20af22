"""A generator as ``bench`` scores it: on a suite of texts, one case at a time, at the suite's size."""

from dataclasses import dataclass

import numpy as np

from ..manifests.errors import UsageError
from ..manifests.suites import Suite
from ..toolkit import generators
from ..toolkit.decomposition import Decomposition, Traits
from ..toolkit.generation import Checked
from ..toolkit.generators.options import Options
from ..toolkit.suites.cases import Case
from .options import BenchOptions


@dataclass(frozen=True, kw_only=True)
class Drawing(Traits):
    """A generator that is scored; made by :func:`load_drawing`."""

    generator: Checked

    def __call__(self, case: Case, rng: np.random.Generator) -> Decomposition:
        """The layers that it draws of a case's text; the seed follows from the case's own randomness."""
        assert case.prompt is not None  # a suite of texts has one in every case
        (made,) = self.generator([case.prompt], [int(rng.integers(2**63))])
        assert made.background is not None  # the door has checked it
        return Decomposition(made.background, made.foreground)


def load_drawing(name: str, suite: Suite, options: BenchOptions) -> Drawing:
    """Load a generator for a suite of texts.

    Raises:
        UsageError: no such generator, it cannot draw at the suite's size, or it draws no background.
        MissingWeights: its weights are not on this machine.
    """
    told = Options(weights=options.weights, size=(suite.size, suite.size), device=options.device)
    generator = generators.load(name, told)
    if not generator.has_background:
        raise UsageError(f"--model: expected a generator that draws a background too for {suite.name}, got {name}")
    return Drawing(
        name=name,
        revision=generator.revision,
        licence=generator.licence,
        native=suite.size,
        needs=frozenset({"prompt"}),
        generator=generator,
    )

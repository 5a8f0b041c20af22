"""The saved views of a build: what is worst, what is alike, and what was nearly refused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...manifests.exclusions import EXCLUDE
from ..filters import LESS_IS_BETTER, SCORES, Limits
from ..recipe import Mix
from .exhibit import View
from .tags import BROKEN, EXCLUDED

_TWO_SIDED = ("area", "texture")


def build_views(mixes: Sequence[Mix], sources: Iterable[str]) -> list[View]:
    """The views of a build with these mixes and sources."""
    return [*_of_any_build(), *_near_limits(mixes), *map(_of_source, sources)]


def _of_any_build() -> Iterator[View]:
    yield View(
        "worst recomposition",
        "the layers that recompose to something else than the image, and then those furthest from the float composite",
        lambda dataset, F: dataset.sort_by([("recomposition_error", -1), ("composite_error", -1)]),
    )
    yield View(
        "near-duplicates",
        "images that look alike, side by side",
        lambda dataset, F: dataset.match(F("alike") != None).sort_by("alike"),  # noqa: E711
    )
    yield View("broken", "samples that could not be read", lambda dataset, F: dataset.match_tags(BROKEN))
    about = f"tagged {EXCLUDED}; see {EXCLUDE}"
    yield View("excluded", about, lambda dataset, F: dataset.match_tags(EXCLUDED), fills=True)


def _near_limits(mixes: Sequence[Mix]) -> Iterator[View]:
    """For each filter that can refuse anything the samples sorted by how near they are to its limit."""
    for score in SCORES:
        for side, values in _limits(score, [(mix.name, mix.filters) for mix in mixes]):
            about = ", ".join(f"{value:g} in {mix}" for mix, value in values.items())
            yield View(
                f"near the limit of {score}{side}",
                f"nearest first; the limit is {about}",
                partial(_by_distance, score=score, limits=values),
            )


def _limits(score: str, filters: Sequence[tuple[str, Limits]]) -> Iterator[tuple[str, dict[str, float]]]:
    """Side, where both count, and mix to limit, of the mixes that have one there."""
    sides = (0, 1) if score in _TWO_SIDED else (1,) if score in LESS_IS_BETTER else (0,)
    for side in sides:
        values = {mix: getattr(limits, score)[side] for mix, limits in filters}
        idle = (0.0, 1.0, np.inf)  # a share below 0 or above 1 is none, so such a limit refuses nothing
        held = {mix: value for mix, value in values.items() if value not in idle}
        if held:
            yield (("", ""), (", lowest", ", highest"))[len(sides) > 1][side], held


def _by_distance(dataset: Any, F: Any, *, score: str, limits: Mapping[str, float]) -> Any:
    view = dataset.match((F(score) != None) & F("mix").is_in(list(limits)))  # noqa: E711
    return view.sort_by((F(score) - F("mix").map_values(dict(limits))).abs())


def _of_source(source: str) -> View:
    return View(
        f"source {source}",
        f"with a layer of {source}",
        lambda dataset, F: dataset.match(F("sources").contains(source)),
    )

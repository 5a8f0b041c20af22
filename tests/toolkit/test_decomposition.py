"""The door: results pass through it untouched, and whatever has another form is named with its model and case."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from layerkit.manifests.errors import RunError, UsageError
from layerkit.toolkit.decomposition import Decomposition, Traits, checked

IMAGE = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
MASK = np.eye(6, 5, dtype=bool)
RGBA = np.dstack([IMAGE, np.full((6, 5), 7, np.uint8)])


@dataclass(frozen=True, kw_only=True)
class Returns(Traits):
    result: Any
    name: str = "model-a"
    revision: str = "3"
    licence: str = "MIT"

    def __call__(self, image, mask, generator):
        return self.result


def run(result, image=IMAGE, mask=MASK):
    return checked(Returns(result=result))(image, mask, np.random.default_rng(0), "case-9")


@pytest.mark.parametrize("foreground", [None, RGBA])
def test_a_sound_result_passes_untouched_and_the_traits_are_kept(foreground):
    result = Decomposition(IMAGE, foreground)
    assert run(result) is result
    door = checked(Returns(result=result, native=512, needs=frozenset({"prompt"}), is_random=False))
    assert (door.name, door.revision, door.licence) == ("model-a", "3", "MIT")
    assert (door.native, door.needs, door.is_random) == (512, frozenset({"prompt"}), False)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (IMAGE, "expected a Decomposition, got ndarray"),
        (Decomposition(IMAGE[:-1]), r"background: expected uint8 \(6, 5, 3\), got uint8 \(5, 5, 3\)"),
        (Decomposition(RGBA), r"background: .*got uint8 \(6, 5, 4\)"),
        (Decomposition(IMAGE / 255), "background: .*got float64"),
        (Decomposition(None), "background: .*got NoneType"),
        (Decomposition(IMAGE, IMAGE), r"foreground: expected uint8 \(6, 5, 4\), got uint8 \(6, 5, 3\)"),
        (Decomposition(IMAGE, RGBA.astype(np.float32) * np.nan), "foreground: .*got float32"),
    ],
)
def test_an_unsound_result_names_model_and_case(result, text):
    with pytest.raises(RunError, match=f"model model-a, case 'case-9'.*{text}"):
        run(result)


@pytest.mark.parametrize(
    ("image", "mask", "text"),
    [
        (IMAGE / 255, MASK, "image: expected uint8"),
        (RGBA, MASK, r"image: .*got uint8 \(6, 5, 4\)"),
        (IMAGE, MASK.astype(np.uint8), r"mask: expected bool \(6, 5\), got uint8"),
        (IMAGE, MASK.T, r"mask: .*got bool \(5, 6\)"),
    ],
)
def test_unsound_inputs_never_reach_the_model(image, mask, text):
    with pytest.raises(UsageError, match=f"case 'case-9'.*{text}"):
        run(Decomposition(IMAGE), image, mask)


def test_a_model_must_state_its_traits():
    with pytest.raises(UsageError, match="lacks revision, licence"):
        checked(type("Half", (), {"name": "half", "native": 0, "needs": frozenset(), "is_random": True})())


def test_stored_results_are_found_by_the_id_of_their_case():
    class Shelf(Returns):
        def find(self, case, size):
            return Decomposition(np.full((*size, 3), int(case), np.uint8))

    found = checked(Shelf(result=None))(IMAGE, MASK, np.random.default_rng(0), "41")
    assert (found.background == 41).all()

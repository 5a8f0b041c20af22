"""The door of layered generators: what is asked for comes, in the right form, or is named."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layerkit.manifests.errors import RunError, UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.generation import Generation, checked_generator
from layerkit.toolkit.generators import load
from layerkit.toolkit.generators.options import Options

SIZE = (6, 8)
FOREGROUND = np.zeros((*SIZE, 4), np.uint8)
FOREGROUND[1:4, 2:5] = (200, 100, 50, 255)
FOREGROUND[4, 2:5] = (200, 100, 50, 127)
BACKGROUND = np.full((*SIZE, 3), 90, np.uint8)


def generator(make: Callable[[], Any], **traits: Any) -> Any:
    known = {"name": "stub", "revision": "1", "licence": "none", "has_background": True} | traits

    class Stub(SimpleNamespace):
        def __call__(self, prompts: Any, seeds: Any) -> Any:
            return [make() for _ in prompts]

    return Stub(**known)


def test_a_generation_knows_its_composition_and_its_mask():
    made = Generation(FOREGROUND, BACKGROUND)
    assert np.array_equal(made.image, over_u8(FOREGROUND, BACKGROUND))
    assert (made.mask > 0).sum() == 9  # the row of alpha 127 is no more than half there
    assert set(np.unique(made.mask)) == {0, 255}
    assert Generation(FOREGROUND).image is None


def test_what_is_sound_passes_through():
    made = Generation(FOREGROUND, BACKGROUND, BACKGROUND)
    (found,) = checked_generator(generator(lambda: made))([Prompt("a box")], [0])
    assert found is made
    alone = checked_generator(generator(lambda: Generation(FOREGROUND), has_background=False))
    assert alone([Prompt("a box")] * 2, [0, 1])[1].background is None


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Generation(FOREGROUND), r"generator stub, 'a box': background: expected uint8 \(6, 8, 3\), got NoneType"),
        (Generation(FOREGROUND[..., :3], BACKGROUND), r"foreground: expected uint8 \(6, 8, 4\), got uint8 \(6, 8, 3\)"),
        (Generation(FOREGROUND, BACKGROUND[:5]), r"background: expected .* got uint8 \(5, 8, 3\)"),
        (Generation(FOREGROUND, BACKGROUND, BACKGROUND / 255), r"blend: expected .* got float64"),
        (Generation(FOREGROUND | np.uint8([9, 0, 0, 0]), BACKGROUND), "expected colour 0 where alpha is 0"),
        (Generation(None, BACKGROUND), "foreground: expected uint8 .* got NoneType"),
        ((FOREGROUND, BACKGROUND), "expected a Generation, got tuple"),
    ],
)
def test_what_is_not_is_named_with_the_prompt(made: Generation, message: str):
    with pytest.raises(RunError, match=message):
        checked_generator(generator(lambda: made))([Prompt("a box")], [0])


def test_seeds_results_and_traits_are_counted():
    sound = generator(lambda: Generation(FOREGROUND, BACKGROUND))
    with pytest.raises(UsageError, match="expected a seed a prompt, got 1 for 2"):
        checked_generator(sound)([Prompt("a"), Prompt("b")], [0])
    sound_but_few = generator(lambda: None)
    sound_but_few.__class__.__call__ = lambda self, prompts, seeds: []
    with pytest.raises(RunError, match="expected 1 generations, got 0"):
        checked_generator(sound_but_few)([Prompt("a")], [0])
    sound_but_few.__class__.__call__ = lambda self, prompts, seeds: None
    with pytest.raises(RunError, match="expected 1 generations, got NoneType"):
        checked_generator(sound_but_few)([Prompt("a")], [0])
    with pytest.raises(RunError, match=r"foreground: expected uint8 \(6, 6, 4\), got uint8 \(6, 8, 4\)"):
        checked_generator(sound, (6, 6))([Prompt("a")], [0])
    del sound.licence
    with pytest.raises(UsageError, match=r"expected a generator with name, revision, licence, .* lacks licence"):
        checked_generator(sound)


def test_generators_are_found_by_name_run_or_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine_of_generation.py").write_text(
        "class Mine:\n    name, revision, licence, has_background = 'mine', '2', 'none', False\n"
        "    def __call__(self, prompts, seeds):\n        return []\n"
        "made = Mine()\ndef draw(prompt): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert load("python:mine_of_generation:Mine").name == "mine"
    assert load("python:mine_of_generation:made").name == "mine"
    with pytest.raises(UsageError, match="--steps: expected none with python:mine_of_generation:Mine"):
        load("python:mine_of_generation:Mine", Options(steps=3))
    with pytest.raises(UsageError, match="--base: expected none with layerfusion"):
        load("layerfusion", Options(base="some/base"))
    with pytest.raises(
        UsageError, match=r"expected a generator, .* at python:mine_of_generation:draw, it takes \(prom"
    ):
        load("python:mine_of_generation:draw")
    with pytest.raises(UsageError, match="expected python:MODULE:ATTRIBUTE, got python::Mine"):
        load("python::Mine")
    with pytest.raises(UsageError, match=r"expected a generator \(.*\), the folder of a run .* got 'layer'"):
        load("layer")
    with pytest.raises(UsageError, match="expected Other in the module mine_of_generation"):
        load("python:mine_of_generation:Other")

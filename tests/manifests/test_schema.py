"""Tables into dataclasses: what is taken, and errors that name the key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.schema import parse


@dataclass(frozen=True, kw_only=True)
class Mix:
    name: str
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    count: int
    size: int = 512
    route: Literal["paste", "cut"] = "paste"
    objects: tuple[int, int] = (1, 3)
    tags: tuple[str, ...] = ()
    mix: tuple[Mix, ...] = ()
    nested: Mix = field(default_factory=lambda: Mix(name="default"))
    weights: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    strict: bool = False


def read(toml: str) -> Recipe:
    return parse(Recipe, tomllib.loads(toml), "recipe.toml")


def test_a_whole_table() -> None:
    recipe = read(
        """
        count = 100_000
        route = "cut"
        objects = [2, 5]
        tags = ["a", "b"]
        limit = 3
        strict = true
        weights = {a = 1, b = 0.5}
        nested = {name = "n", share = 2}
        [[mix]]
        name = "x"
        [[mix]]
        name = "y"
        share = 0.25
        """
    )
    assert recipe == Recipe(
        count=100_000,
        route="cut",
        objects=(2, 5),
        tags=("a", "b"),
        limit=3.0,
        strict=True,
        weights={"a": 1.0, "b": 0.5},
        nested=Mix(name="n", share=2.0),
        mix=(Mix(name="x"), Mix(name="y", share=0.25)),
    )
    assert isinstance(recipe.nested.share, float)
    assert isinstance(recipe.objects, tuple)


def test_defaults_fill_what_is_absent() -> None:
    assert read("count = 1") == Recipe(count=1)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("size = 3", r"recipe\.toml: the key 'count' is missing; add count = …"),
        ("count = 1\nruote = 'cut'", r"unknown key 'ruote'; did you mean 'route'\?"),
        ("count = 1\nzzz = 1", r"unknown key 'zzz'; known keys: count, size"),
        ("count = 'many'", r"recipe\.toml\.count: expected a value of type int, got 'many'"),
        ("count = 1.5", r"recipe\.toml\.count: .*int, got 1\.5"),
        ("count = true", r"recipe\.toml\.count: expected a whole number, got True"),
        ("count = 1\nroute = 'fly'", r"recipe\.toml\.route: expected one of paste, cut, got 'fly'"),
        ("count = 1\nobjects = [1]", r"recipe\.toml\.objects: expected 2 values, got 1: \[1\]"),
        ("count = 1\nobjects = [1, 'x']", r"recipe\.toml\.objects\[1\]: .*int, got 'x'"),
        ("count = 1\ntags = 'a'", r"recipe\.toml\.tags: expected a value of type list, got 'a'"),
        ("count = 1\ntags = ['a', 3]", r"recipe\.toml\.tags\[1\]: .*str, got 3"),
        ("count = 1\nstrict = 1", r"recipe\.toml\.strict: .*bool, got 1"),
        ("count = 1\nlimit = 'x'", r"recipe\.toml\.limit: .*float, got 'x'"),
        ("count = 1\nlimit = true", r"recipe\.toml\.limit: .*float, got True"),
        ("count = 1\nweights = {a = 'x'}", r"recipe\.toml\.weights\.a: .*float, got 'x'"),
        ("count = 1\nnested = 3", r"recipe\.toml\.nested: expected a table, got 3"),
        ("count = 1\n[[mix]]\nname = 'a'\n[[mix]]\nnam = 'b'", r"recipe\.toml\.mix\[1\]: unknown key 'nam'; .*'name'"),
    ],
)
def test_an_error_names_the_key_and_the_value(toml: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(toml)


@pytest.mark.parametrize("table", [[], "x", None, 3])
def test_what_is_no_table_is_refused(table: Any) -> None:
    with pytest.raises(UsageError, match="w: expected a table, got"):
        parse(Recipe, table, "w")

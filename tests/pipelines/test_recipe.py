import json
import tomllib

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.recipes import shipped
from layerkit.pipelines import recipe
from layerkit.pipelines.filters import Limits
from layerkit.pipelines.lock import to_toml

TEXT = """
count = 10
size = 64
[filters]
area = [0.1, 0.5]
haze = [0, 0.2]
[[mix]]
name = "paste"
share = 2
route = "paste"
foregrounds = "rgba"
backgrounds = "photos"
filters = { area = [0.2, 0.4] }
[[mix]]
name = "cut"
share = 1
route = "cut"
photos = "photos"
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "own.toml"
        path.write_text(text)
        return str(path)

    return write


def test_every_shipped_recipe_loads():
    assert "demo" in shipped()
    for name in shipped():
        assert recipe.load(name, {}).name == name


def test_a_mix_overrides_the_limits_of_the_recipe_one_by_one(written):
    paste, cut = recipe.load(written(TEXT), {}).mix
    assert paste.filters == Limits(area=(0.2, 0.4), haze=(0.0, 0.2))
    assert cut.filters == Limits(area=(0.1, 0.5), haze=(0.0, 0.2))


def test_overrides_replace_the_files_values_and_none_leaves_them(written):
    loaded = recipe.load(written(TEXT), {"count": 3, "size": None})
    assert (loaded.count, loaded.size, loaded.name) == (3, 64, "own")


def test_the_fingerprint_follows_the_values_and_not_their_order(written):
    first = recipe.load(written(TEXT), {}).fingerprint
    moved = TEXT.replace("count = 10\nsize = 64\n", "size = 64\ncount = 10\n")
    assert recipe.load(written(moved), {}).fingerprint == first
    assert recipe.load(written(TEXT), {"seed": 1}).fingerprint != first


def test_a_lock_gives_its_recipe_back(written, tmp_path):
    loaded = recipe.load(written(TEXT), {"seed": 3})
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text(to_toml({"layerkit": "0", "recipe": loaded.table()}))
    assert recipe.load(str(lock), {}).fingerprint == loaded.fingerprint
    lock.write_text(to_toml({"layerkit": "9.9", "recipe": loaded.table() | {"algorithm": 99}}))
    with pytest.raises(UsageError, match=r"expected a lock of algorithm \d+, got 99; take layerkit 9\.9"):
        recipe.load(str(lock), {})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("share = 2", "shares = 2", r"mix\[0\]: unknown key 'shares'; did you mean 'share'\?"),
        ("count = 10", 'count = "ten"', r"count: expected a value of type int, got 'ten'"),
        ("count = 10", "count = 0", r"count must lie in 1\.\.1000000000, got 0"),
        (
            'route = "cut"',
            'route = "cutt"',
            r"mix\[1\]\.route: expected one of paste, .*generate, got 'cutt'",
        ),
        ('photos = "photos"', "", r"mix 'cut': route 'cut' needs photos"),
        ('name = "cut"', 'name = "paste"', r"mix names must differ, got paste, paste"),
        ('name = "cut"', 'name = "Cut!"', r"mix 'Cut!': a name is 1 to 32 of a-z"),
        (
            "area = [0.1, 0.5]",
            "area = [0.5, 0.1]",
            r"filters: area: expected \[lowest, highest\], got \[0\.5, 0\.1\]",
        ),
        ("haze = [0, 0.2]", "hazy = [0, 0.2]", r"filters: unknown key 'hazy'; did you mean 'haze'\?"),
        ("share = 1", "share = -1", r"mix 'cut': share must not be negative, got -1\.0"),
        ("count = 10", "count = = 10", r"own\.toml: expected a TOML file: .*line 2"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_came(written, old, new, said):
    assert old in TEXT
    with pytest.raises(UsageError, match=said) as raised:
        recipe.load(written(TEXT.replace(old, new)), {})
    assert "own.toml: " in str(raised.value)


def test_shares_that_sum_to_nothing_and_no_mix_at_all(written):
    with pytest.raises(UsageError, match="must sum to more than 0"):
        recipe.load(written(TEXT.replace("share = 2", "share = 0").replace("share = 1", "share = 0")), {})
    with pytest.raises(UsageError, match=r"at least one \[\[mix\]\]"):
        recipe.load(written("count = 1"), {})
    with pytest.raises(UsageError, match="expected one of demo"):
        recipe.load("no-such-recipe", {})


def test_differences_name_every_key_that_differs_with_both_values(written):
    mine = recipe.load(written(TEXT), {}).table()
    theirs = json.loads(json.dumps(mine))
    assert recipe.differences(mine, theirs) == []
    theirs["seed"] = 5
    theirs["mix"][0]["shadow"]["none"] = 0.9
    assert recipe.differences(mine, theirs) == ["mix[0].shadow.none: 0.9 there, 0.1 now", "seed: 5 there, 0 now"]
    assert tomllib.loads(TEXT)["count"] == mine["count"]

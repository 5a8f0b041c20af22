"""Training recipes as tables: presets in order, settings over them, and what the papers say."""

from pathlib import Path
from typing import Any

import pytest

from layerkit.manifests import trainings
from layerkit.manifests.errors import UsageError
from layerkit.manifests.recipes import assign, parse_setting

RECIPE = """
system = "layerdecomp"
about = "a test"
lr = 1e-5

[data]
size = 512
masks = { tight = 0.5, loose = 0.5 }

[model]
network = { width = 64, depth = 2 }

[presets.small]
lr = 1e-3
data.size = 32

[presets.small.model]
network = { depth = 1 }

[presets.tight.data]
masks = { tight = 1.0 }
size = 64
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return str(path)


def test_a_recipe_is_read_without_its_presets(recipe: str):
    table = trainings.load(recipe)
    assert table == {
        "system": "layerdecomp",
        "about": "a test",
        "lr": 1e-5,
        "data": {"size": 512, "masks": {"tight": 0.5, "loose": 0.5}},
        "model": {"network": {"width": 64, "depth": 2}},
    }


def test_presets_are_laid_over_one_another_in_their_order(recipe: str):
    table = trainings.load(recipe, ["small"])
    assert table["lr"] == 1e-3
    assert table["data"] == {"size": 32, "masks": {"tight": 0.5, "loose": 0.5}}
    assert table["model"] == {"network": {"width": 64, "depth": 1}}
    assert trainings.load(recipe, ["small", "tight"])["data"]["size"] == 64
    assert trainings.load(recipe, ["tight", "small"])["data"]["size"] == 32


def test_a_preset_gives_the_masks_whole(recipe: str):
    """Weights that are laid over one another would leave the others' shares in."""
    assert trainings.load(recipe, ["tight"])["data"]["masks"] == {"tight": 1.0}


def test_settings_come_last(recipe: str):
    settings = ["data.size=8", "model.network.depth=7", "about=in words", "new.key=[1, 2]", "data.size=16"]
    table = trainings.load(recipe, ["small", "tight"], settings)
    assert table["data"]["size"] == 16
    assert table["model"]["network"] == {"width": 64, "depth": 7}
    assert (table["about"], table["new"]) == ("in words", {"key": [1, 2]})


def test_what_is_not_there_is_told_with_what_is(recipe: str, tmp_path: Path):
    with pytest.raises(
        UsageError, match=r"expected one of .*layerdecomp, .*rgba-vae, .*text2layer-ae, text2layer or a TOML file"
    ):
        trainings.load("layer-decomp")
    with pytest.raises(UsageError, match=r"--preset: expected one of small, tight of mine, got 'big'"):
        trainings.load(recipe, ["big"])
    with pytest.raises(UsageError, match=r"data in data\.x\.y is no table"):
        trainings.load(recipe, settings=["data=3", "data.x.y=1"])
    (tmp_path / "broken.toml").write_text("lr = \n")
    with pytest.raises(UsageError, match=r"broken\.toml: expected a TOML file: .*line 1"):
        trainings.load(str(tmp_path / "broken.toml"))


def test_every_shipped_recipe_is_listed_with_its_presets():
    rows = {row["name"]: row for row in trainings.rows()}
    assert {"layerdecomp", "outpaint-and-remove", "rgba-vae", "seele", "text2layer", "text2layer-ae"} <= set(rows)
    assert rows["layerdecomp"]["presets"] == "v0, v1, v2, full, debug, small, medium"
    assert rows["rgba-vae"]["presets"] == "debug"
    assert rows["seele"]["presets"] == "remove, complete, harmonise, debug, small"
    assert all(row["about"] for row in rows.values())


def test_the_papers_numbers_stand_in_the_recipes():
    """LayerDecomp: arXiv 2411.17864, section 4; Outpaint-and-Remove: arXiv 2511.20996; Text2Layer: arXiv 2307.09781;
    SEELE: arXiv 2401.16861, section 4.
    """
    text2layer = trainings.load("text2layer-ae")
    assert (text2layer["steps"], text2layer["data"]["size"]) == (250_000, 256)
    assert (trainings.load("text2layer")["steps"], trainings.load("text2layer", ["finetune"])["steps"]) == (
        75_000,
        25_000,
    )
    assert [trainings.load("text2layer", presets)["data"]["size"] for presets in ([], ["512"])] == [256, 512]
    assert trainings.load("text2layer", ["unfiltered"])["data"]["scores"] == {}
    layerdecomp, outpaint = (trainings.load(name) for name in ("layerdecomp", "outpaint-and-remove"))
    keys = ("steps", "batch", "lr")
    assert [layerdecomp[key] for key in keys] + [layerdecomp["data"]["size"]] == [80_000, 128, 1e-5, 512]
    assert [outpaint[key] for key in keys] + [outpaint["data"]["size"]] == [7_200, 8, 5e-5, 1024]
    seele = trainings.load("seele")
    assert [seele[key] for key in (*keys, "weight_decay")] + [seele["data"]["size"]] == [9_000, 32, 8e-5, 0.01, 512]
    assert trainings.load("seele", ["remove"])["model"]["tasks"] == ["remove"]


# ---- settings


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr=1e-4", ["lr"], 1e-4),
        ("data.size=64", ["data", "size"], 64),
        ("data.crop=false", ["data", "crop"], False),
        ("model.contexts=['edges', 'depth']", ["model", "contexts"], ["edges", "depth"]),
        ("data.masks={tight = 1.0}", ["data", "masks"], {"tight": 1.0}),
        ("model.rgba_vae=/runs/vae", ["model", "rgba_vae"], "/runs/vae"),
        ("about='two words'", ["about"], "two words"),
        ("base=", ["base"], ""),
        ("about=a=b", ["about"], "a=b"),
    ],
)
def test_a_setting_is_a_dotted_key_and_a_value_of_toml_or_a_word(text: str, key: list[str], value: Any):
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["", "lr", "=3"])
def test_a_setting_without_key_or_value_is_refused(text: str):
    with pytest.raises(UsageError, match="--set: expected KEY=VALUE"):
        parse_setting(text)


def test_a_value_is_put_where_its_key_points():
    table: dict[str, Any] = {"a": {"b": 1}}
    assign(table, ["a", "c", "d"], 2)
    assign(table, ["e"], 3)
    assert table == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    with pytest.raises(UsageError, match=r"b in a\.b\.c is no table"):
        assign(table, ["a", "b", "c"], 4)

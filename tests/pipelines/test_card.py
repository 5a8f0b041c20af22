import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from layerkit.pipelines.card import render
from layerkit.pipelines.card_pictures import SIDE, spread
from layerkit.pipelines.ledger import Commit
from layerkit.pipelines.recipe import load
from layerkit.toolkit.images import read
from layerkit.toolkit.shards import decode_layers, read_samples

PICTURES = ("image.png", "foreground.png", "background.jpg", "mask.png", "shadow.png", "occluder.png")
MODES = ("RGB", "RGBA", "RGB", "L", "L", "RGBA")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face with an empty cache, without the network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def in_tars(build: Path) -> dict[str, dict[str, bytes]]:
    return {key: sample for tar in sorted((build / "data").glob("*.tar")) for key, sample in read_samples(tar)}


def front_matter(build: Path) -> dict[str, Any]:
    return yaml.safe_load((build / "README.md").read_text().split("---\n")[1])


def check_rows(rows: Any, build: Path) -> None:
    expected = in_tars(build)
    assert set(rows.column_names) == {*PICTURES, "json", "__key__", "__url__"}
    assert len(rows) == len(expected)
    for row in rows:
        sample = expected[row["__key__"].rpartition("/")[2]]
        record = json.loads(sample["json"])
        assert [row[name].mode for name in PICTURES] == list(MODES)
        foreground = decode_layers(sample).foreground
        np.testing.assert_array_equal(np.asarray(row["foreground.png"]), foreground)
        assert row["json"] == record


def test_datasets_reads_the_folder_as_the_card_says(tiny_build: Path, offline: Path):
    from datasets import Image, load_dataset

    rows = load_dataset(str(tiny_build), split="train", cache_dir=str(offline))
    assert all(isinstance(rows.features[name], Image) for name in PICTURES)
    check_rows(rows, tiny_build)


def test_datasets_infers_the_same_columns_from_the_tars_alone(tiny_build: Path, offline: Path):
    from datasets import load_dataset

    tars = sorted(map(str, (tiny_build / "data").glob("*.tar")))
    bare = load_dataset("webdataset", data_files={"train": tars}, split="train", cache_dir=str(offline))
    check_rows(bare, tiny_build)
    carded = load_dataset(str(tiny_build), split="train", cache_dir=str(offline / "card"))
    assert bare.features == carded.features


def test_webdataset_yields_layers(tiny_build: Path):
    import webdataset

    tars = sorted(map(str, (tiny_build / "data").glob("*.tar")))
    found = list(webdataset.WebDataset(tars, shardshuffle=False).map(decode_layers))
    assert len(found) == 12
    assert all(layers.foreground.shape == (64, 64, 4) and layers.recomposition_error() == 0 for layers in found)


def test_the_cards_examples_run(tiny_build: Path, offline: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wids")
    monkeypatch.chdir(tiny_build)
    examples = re.findall(r"```python\n(.*?)```", (tiny_build / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert not list((tiny_build / "data").glob("*.lock"))


def test_the_front_matter_names_licence_files_and_size(tiny_build: Path):
    data = front_matter(tiny_build)
    assert data["license"] == "unknown"  # some of the embedded photographs state none
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.tar"}]
    assert "webdataset" in data["tags"]
    assert [feature["name"] for feature in data["dataset_info"]["features"]] == [
        *PICTURES,
        "json",
        "__key__",
        "__url__",
    ]


def test_the_card_tells_funnel_licences_models_and_the_rebuild(tiny_build: Path):
    text = (tiny_build / "README.md").read_text()
    statistics = json.loads((tiny_build / "manifests" / "stats.json").read_bytes())
    assert f"Of {statistics['funnel']['candidates']} candidates for 12 places" in text
    for reason, count in statistics["funnel"]["sources_dropped"].items():
        assert f"| {reason} | {count} |" in text
    for who in statistics["attributions"]:
        assert f"| {who['author'] or 'not stated'} | {who['licence']} |" in text
    for models in statistics["models"].values():
        assert all(f"| {name} |" in text for name in models if name)
    assert "layerkit build-triplets manifests/recipe.lock.toml --out DIR\n" in text
    assert statistics["fingerprint"] in text
    for _, target in re.findall(r"!\[(.*?)\]\((.*?)\)", text):
        assert (tiny_build / target).is_file()


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ({"cc0-1.0": 3, "cc-by-nc-4.0": 1}, {"license": "cc-by-nc-4.0"}),
        ({"public-domain": 1}, {"license": "other", "license_name": "public-domain"}),
        ({"cc-by-sa-2.0": 1, "mit": 1}, {"license": "other", "license_name": "cc-by-sa-2.0"}),
    ],
)
def test_the_licence_is_the_strictest(tiny_build: Path, licences: dict[str, int], expected: dict[str, str]):
    statistics = json.loads((tiny_build / "manifests" / "stats.json").read_bytes())
    statistics["licences"]["sample"] = licences
    data = yaml.safe_load(render(load("demo", {"size": 64}), statistics).split("---\n")[1])
    assert {name: data[name] for name in expected} == expected
    assert ("license_link" in data) == (expected["license"] == "other")


def test_a_hostile_author_stays_in_its_cell(tiny_build: Path):
    statistics = json.loads((tiny_build / "manifests" / "stats.json").read_bytes())
    statistics["attributions"][0]["author"] = "A | B\n# C"
    text = render(load("demo", {"size": 64}), statistics)
    assert "| A \\| B # C |" in text


def test_the_card_of_an_empty_build_is_still_a_card(tiny_build: Path):
    statistics = json.loads((tiny_build / "manifests" / "stats.json").read_bytes())
    statistics["funnel"] |= {"kept": 0, "dropped": {"area": 96}}
    statistics |= {"licences": {}, "models": {}, "attributions": [], "mixes": {}}
    text = render(load("demo", {"size": 64}), statistics)
    assert "| area | 96 |" in text
    assert "12 places stayed empty" in text


def test_the_contact_sheet_shows_samples_of_every_mix(tiny_build: Path):
    sheet = read(tiny_build / "card" / "contact_sheet.png")
    rows = 12  # fewer than a full sheet: all are shown
    assert sheet.shape == (24 + rows * (18 + SIDE), 6 * SIDE + 5 * 6, 3)
    assert sheet.std() > 20


def test_the_histograms_are_a_picture(tiny_build: Path):
    picture = read(tiny_build / "card" / "histograms.png")
    assert picture.shape == (640, 1400, 3)
    assert picture.std() > 20


def commit(shard: int, mix: str, kept: int) -> Commit:
    tar = f"train-{mix}-{shard:06d}.tar" if kept else ""
    return Commit(
        shard=shard,
        fingerprint="f",
        mix=mix,
        split="train",
        tar=tar,
        bytes=1,
        sha256="",
        licence="mit" if kept else "",
        kept=kept,
        candidates=kept,
        dropped={},
        seconds=0.0,
    )


def test_the_chosen_samples_lie_evenly_over_shards_and_mixes():
    shards = [commit(0, "a", 1000), commit(1, "a", 1000), commit(2, "a", 0), commit(3, "a", 1000), commit(4, "b", 10)]
    chosen = spread(shards, 16)
    counts = {tar: len(indices) for tar, indices in chosen.items()}
    assert sum(counts.values()) == 17
    assert counts.pop("train-b-000004.tar") == 1
    assert set(counts) == {"train-a-000000.tar", "train-a-000001.tar", "train-a-000003.tar"}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(0 <= index < 1000 for indices in chosen.values() for index in indices)


def test_no_sample_is_chosen_twice_and_none_of_nothing():
    assert spread([commit(0, "a", 0)], 16) == {}
    assert spread([commit(0, "a", 3), commit(1, "a", 2)], 16) == {
        "train-a-000000.tar": [0, 1, 2],
        "train-a-000001.tar": [0, 1],
    }

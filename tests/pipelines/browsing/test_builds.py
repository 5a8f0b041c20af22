"""A build as an exhibit: pixels, overlays and values against its tars and its records, and what cannot be read."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.errors import UsageError
from layerkit.manifests.exclusions import EXCLUDE
from layerkit.manifests.record import NOT_MEASURED
from layerkit.pipelines.browsing.builds import evenly, exhibit
from layerkit.pipelines.browsing.exhibit import Shown
from layerkit.pipelines.filters import SCORES
from layerkit.toolkit.shards import decode_layers, read_samples
from layerkit.toolkit.similarity import perceptual_hash


def samples_in(build: Path) -> dict[str, dict[str, bytes]]:
    tars = sorted((build / "data").glob("*.tar"), key=lambda tar: tar.stem.rpartition("-")[2])
    return {key: sample for tar in tars for key, sample in read_samples(tar)}


def shown_of(build: Path, *, limit: int = 1000, where: str = "", name: str = "b") -> list[Shown]:
    return list(exhibit(build, name, limit=limit, where=where).samples())


@pytest.fixture(scope="module")
def shown(tiny_build: Path) -> dict[str, Shown]:
    return {one.key: one for one in shown_of(tiny_build)}


@pytest.fixture
def copied(tiny_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_build, tmp_path / "build"))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_every_sample_is_shown_with_the_bytes_of_its_members(shown: dict[str, Shown], tiny_build: Path):
    samples = samples_in(tiny_build)
    assert list(shown) == list(samples), "in the order of the build"
    for key, sample in samples.items():
        for name in ("image", "foreground", "background"):
            (member,) = (data for member, data in sample.items() if member.startswith(name))
            assert shown[key].panels[name].picture.read_bytes() == member
        assert pixels(shown[key].panels["foreground"].picture).shape[-1] == 4, "alpha is kept"
        assert shown[key].panels["foreground"].thumbnail.suffix == ".jpg"
        assert shown[key].panels["image"].size == pixels(shown[key].panels["image"].picture).shape[1::-1]


def test_mask_shadow_and_alpha_lie_over_them(shown: dict[str, Shown], tiny_build: Path):
    for key, sample in samples_in(tiny_build).items():
        layers = decode_layers(sample)
        over = shown[key].panels["image"].overlays
        assert {name: one.kind for name, one in over.items()} == {"mask": "mask", "shadow": "heat", "alpha": "heat"}
        expected = {"mask": layers.mask, "shadow": layers.shadow, "alpha": layers.foreground[..., 3]}
        for name, channel in expected.items():
            np.testing.assert_array_equal(cv2.imread(str(over[name].path), cv2.IMREAD_UNCHANGED), channel)


def test_the_recomposition_is_the_layers_composed(shown: dict[str, Shown], tiny_build: Path):
    for key, sample in samples_in(tiny_build).items():
        layers = decode_layers(sample)
        reference = Image.fromarray(layers.background).convert("RGBA")
        for layer in (layers.foreground, layers.occluder):
            reference = Image.alpha_composite(reference, Image.fromarray(layer))
        got = pixels(shown[key].panels["recomposition"].picture)
        assert np.abs(got.astype(int) - np.asarray(reference)[..., :3]).max() <= 1
        assert shown[key].panels["recomposition"].picture == shown[key].panels["image"].picture, "to the bit, so once"
        assert shown[key].values["recomposition_error"] == 0


def test_fields_say_what_the_record_says(shown: dict[str, Shown], tiny_build: Path):
    for key, sample in samples_in(tiny_build).items():
        record, values = json.loads(sample["json"]), shown[key].values
        for name in ("key", "split", "mix", "route", "licence", "caption", "objects", "composite_error", "choices"):
            assert values[name] == record[name]
        for name in SCORES:
            score = record["scores"][name]
            assert values[name] == (None if score == NOT_MEASURED else score)
        assert values["sources"] == sorted({layer["dataset"] for layer in record["layers"]})
        (background,) = (layer for layer in record["layers"] if layer["layer"] == "background")
        assert values["background_from"] == f"{background['dataset']}/{background['id']}"
        assert set(values["authors"]) == {layer["author"] for layer in record["layers"]} - {""}
        assert all(": " in model for model in values["models"])
        assert shown[key].phash == perceptual_hash(decode_layers(sample).image)


def test_a_lossy_image_shows_where_it_differs(build_demo, tmp_path: Path):
    build_demo(tmp_path / "jpg", count=4, settings=['members.image="jpg"', "members.quality=60"])
    for one in shown_of(tmp_path / "jpg"):
        (overlay,) = one.panels["recomposition"].overlays.values()
        image, made = (pixels(one.panels[name].picture).astype(int) for name in ("image", "recomposition"))
        heat = cv2.imread(str(overlay.path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(heat, np.abs(image - made).max(axis=2))
        assert one.values["recomposition_error"] == heat.max() > 0


def test_a_limit_takes_them_from_all_of_the_build(tiny_build: Path):
    keys = list(samples_in(tiny_build))
    assert [one.key for one in shown_of(tiny_build, limit=3)] == [keys[2], keys[6], keys[10]]
    assert exhibit(tiny_build, "b", limit=3, where="").total == 3


@pytest.mark.parametrize("count", [1, 2, 7, 10, 11])
def test_evenly_is_even(count: int):
    chosen = evenly(range(10), count)
    assert len(chosen) == len(set(chosen)) == min(count, 10)
    gaps = np.diff(chosen)
    assert gaps.max(initial=1) - gaps.min(initial=10 if len(gaps) else 1) <= 1
    assert abs(chosen[0] - (9 - chosen[-1])) <= 1, "as far from one end as from the other"


def test_a_condition_chooses_by_scores_and_passes_over_what_was_not_measured(tiny_build: Path):
    records = {key: json.loads(sample["json"]) for key, sample in samples_in(tiny_build).items()}
    measured = {key for key, record in records.items() if record["scores"]["composite"] != NOT_MEASURED}
    assert 0 < len(measured) < len(records), "the demo has a mix that measures it and one that does not"
    assert {one.key for one in shown_of(tiny_build, where="composite < 1000")} == measured
    cut = {key for key, record in records.items() if record["mix"] == "cut"}
    assert {one.key for one in shown_of(tiny_build, where="mix == 'cut' and 'embedded' in sources")} == cut
    with pytest.raises(UsageError, match="is true of no sample"):
        exhibit(tiny_build, "b", limit=5, where="mix == 'other'")


def test_the_same_is_known_again_and_anything_else_is_not(tiny_build: Path, copied: Path, build_demo, tmp_path: Path):
    def identity(build: Path, limit: int = 5, where: str = "") -> str:
        return exhibit(build, "b", limit=limit, where=where).identity

    first = identity(tiny_build)
    assert identity(copied) == first
    assert len({first, identity(tiny_build, 6), identity(tiny_build, 5, "objects > 0")}) == 3
    build_demo(tmp_path / "other", seed=1)
    assert identity(tmp_path / "other") != first
    (copied / EXCLUDE).write_text(f"{next(iter(samples_in(copied)))}\n")
    changed = exhibit(copied, "b", limit=5, where="")
    assert changed.identity == first, "tags are no reason to load it anew"
    assert list(changed.said.values()) == [["exclude"]]


def test_a_build_is_shown_before_it_is_finished(copied: Path, tiny_build: Path):
    for name in ("samples.parquet", "shards.parquet"):
        (copied / "manifests" / name).unlink()
    last = sorted((copied / ".layerkit/commit").iterdir())[-1]
    tar = json.loads(last.read_bytes())["tar"]
    last.unlink()
    done = [key for key, _ in samples_in(tiny_build).items() if key not in dict(read_samples(copied / "data" / tar))]
    shown = shown_of(copied)
    assert [one.key for one in shown] == done
    whole = {one.key: one.values for one in shown_of(tiny_build)}
    assert {one.key: one.values for one in shown} == {key: whole[key] for key in done}


def test_what_cannot_be_read_shows_why_and_hides_no_other(copied: Path):
    gone, first, second, *rest = sorted((copied / "data").glob("*.tar"))
    lost = {key for key, _ in read_samples(gone)}
    gone.unlink()
    keys = {tar: [key for key, _ in read_samples(tar)] for tar in (first, second)}
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    data = bytearray(second.read_bytes())
    at = data.index(b".image.png") + 512 + 200
    data[at : at + 60] = bytes(60)
    second.write_bytes(data)
    shown = {one.key: one for one in shown_of(copied, name="broken")}
    broken = {key for key, one in shown.items() if "broken" in one.tags}
    assert keys[second][0] in broken
    assert lost <= broken, "those of a tar that is missing"
    assert broken & set(keys[first]), "the end of a truncated tar"
    assert not broken & {key for tar in rest for key, _ in read_samples(tar)}
    for key in broken:
        assert shown[key].values["fault"]
        assert shown[key].panels["image"].picture.is_file()
        assert shown[key].phash is None


def test_a_damaged_manifest_is_named(copied: Path):
    path = copied / "manifests/samples.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"samples\.parquet cannot be read: .*; run the build command again"):
        exhibit(copied, "b", limit=5, where="")


def test_no_build_and_an_empty_one_are_refused(tmp_path: Path, copied: Path):
    with pytest.raises(UsageError, match="expected a build folder"):
        exhibit(tmp_path, "b", limit=5, where="")
    for path in (copied / ".layerkit/commit").iterdir():
        path.unlink()
    (copied / "manifests/samples.parquet").unlink()
    with pytest.raises(UsageError, match="holds no sample yet"):
        exhibit(copied, "b", limit=5, where="")

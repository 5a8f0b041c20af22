"""Preparation: what becomes of every kind of input, and that the cache changes nothing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.entry import Entry, Seed
from layerkit.pipelines import prepare, recipe
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.pools import Pixels
from layerkit.pipelines.prepare import Preparation

SIZE = 96


@pytest.fixture
def preparation(tmp_path):
    def make(use, **overrides):
        loaded = recipe.load("demo", {"size": SIZE, **overrides})
        mix = loaded.mix[1 if use == "cut" else 0]
        return Preparation(recipe=loaded, mix=mix, use=use, cache=tmp_path / "cache", weights=None)

    return make


def save(folder: Path, name: str, picture: np.ndarray) -> Path:
    path = folder / name
    Image.fromarray(picture).save(path)
    return path


def cutout(radius: int = 40, centre: tuple[int, int] = (64, 64), haze: int = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    rgba = np.dstack([rng.integers(0, 256, (128, 128, 3), np.uint8), np.full((128, 128), haze, np.uint8)])
    alpha = np.ascontiguousarray(rgba[..., 3])
    cv2.circle(alpha, centre, radius, 255, -1, cv2.LINE_AA)
    rgba[..., 3] = np.maximum(alpha, haze)
    return rgba


def photo_with_disc() -> np.ndarray:
    """A bright yellow disc on even, slightly noisy ground."""
    rng = np.random.default_rng(1)
    picture = rng.normal(90, 6, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    cv2.circle(picture, (80, 60), 30, (240, 220, 40), -1, cv2.LINE_AA)
    return picture


def test_an_rgba_cutout_is_cropped_to_its_object_and_keeps_its_colour(preparation, tmp_path):
    path = save(tmp_path, "disc.png", cutout())
    (row,) = preparation("foreground")([Entry(source="rgba", id="disc.png", path=path, kind="rgba")])
    assert row.drop is None
    assert (row.height, row.width) == (85, 85)  # the disc with its soft edge, 83 px, and one clear pixel on each side
    rgba = Pixels(Cache(tmp_path / "cache")).of(row)["foreground"]
    inside = rgba[..., 3] == 255
    assert (rgba[inside] == cutout()[64 - 42 : 64 + 43, 64 - 42 : 64 + 43][inside]).all()
    assert not rgba[rgba[..., 3] == 0].any()


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((128, 128, 4), 255, np.uint8), "no_alpha"),
        (np.zeros((128, 128, 4), np.uint8), "no_object"),
        (cutout(centre=(64, 100)), "border"),
        (cutout(haze=120), "haze"),
        (cutout(radius=8), "side"),
    ],
)
def test_an_unusable_cutout_is_a_row_with_its_reason(preparation, tmp_path, picture, reason):
    path = save(tmp_path, "odd.png", picture)
    (row,) = preparation("foreground")([Entry(source="rgba", id="odd.png", path=path, kind="rgba")])
    assert row.drop is not None
    assert row.drop.reason == reason


def test_the_dirt_of_layerdiffuse_is_cleaned_and_its_whole_objects_are_kept(preparation, shared_data):
    folder = shared_data / "layerdiffuse_cli"
    paths = sorted(path for path in folder.rglob("*.png") if Image.open(path).mode == "RGBA")
    assert paths
    rows = preparation("foreground")([Entry(source="rgba", id=path.name, path=path, kind="rgba") for path in paths])
    assert len(rows) == len(paths)
    kept = [row for row in rows if row.drop is None]
    for row in kept:
        rgba = Pixels(Cache(preparation("foreground").cache)).of(row)["foreground"]
        assert max(rgba.shape[:2]) <= SIZE
        assert not rgba[rgba[..., 3] == 0].any()
    assert all(row.drop.reason in {"no_alpha", "border", "haze", "fragments"} for row in rows if row.drop)


def test_a_photograph_is_cut_out_by_its_seed_with_a_soft_edge(preparation, tmp_path):
    path = save(tmp_path, "photo.png", photo_with_disc())
    seeds = (Seed(id="disc", box=(45, 25, 70, 70), caption="a disc", stance="lying"),)
    (row,) = preparation("foreground")([Entry(source="photos", id="photo", path=path, seeds=seeds)])
    assert row.drop is None
    assert (row.id, row.caption, row.stance) == ("photo/disc", "a disc", "lying")
    alpha = Pixels(Cache(tmp_path / "cache")).of(row)["foreground"][..., 3]
    assert (alpha > 127).sum() == pytest.approx(np.pi * 30**2, rel=0.05)
    assert ((alpha > 0) & (alpha < 255)).any()
    assert row.models["matting"].startswith("closed-form@pymatting-")


def test_a_photograph_without_seeds_is_cut_out_where_it_is_salient(preparation, tmp_path):
    path = save(tmp_path, "photo.png", photo_with_disc())
    (row,) = preparation("foreground")([Entry(source="photos", id="photo", path=path)])
    assert row.drop is None
    assert "saliency" in row.models
    alpha = Pixels(Cache(tmp_path / "cache")).of(row)["foreground"][..., 3]
    assert (alpha > 127).sum() == pytest.approx(np.pi * 30**2, rel=0.15)


def test_a_photograph_taken_apart_keeps_what_is_outside_its_hole(preparation, tmp_path):
    picture = photo_with_disc()
    path = save(tmp_path, "photo.png", picture)
    seeds = (Seed(box=(45, 25, 70, 70)),)
    (row,) = preparation("cut")([Entry(source="photos", id="photo", path=path, seeds=seeds)])
    assert row.drop is None
    parts = Pixels(Cache(tmp_path / "cache")).of(row)
    assert (parts["image"] == picture).all()
    distance = np.hypot(*np.mgrid[-60:60, -80:80])
    assert (parts["background"][distance > 40] == picture[distance > 40]).all()
    inside = distance < 28
    assert parts["background"][inside][:, 0].mean() < 110  # the disc is gone
    assert parts["layer-00"][inside][:, 3].min() == 255
    assert {"residual", "texture"} <= {name for name, value in row.scores.items() if value >= 0}


def test_a_broken_missing_empty_or_misnamed_picture_is_a_row_and_the_others_go_on(preparation, tmp_path):
    good = save(tmp_path, "good.png", photo_with_disc())
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:2000])
    names = ["empty.jpg", "text.jpg", "good.png", "cut.png", "absent.png"]
    entries = [Entry(source="photos", id=name, path=tmp_path / name) for name in names]
    rows = {row.id: row.drop.reason if row.drop else None for row in preparation("background")(entries)}
    assert rows == {
        "empty.jpg": "empty_file",
        "text.jpg": "unreadable",
        "good.png": None,
        "cut.png": "unreadable",
        "absent.png": "unreadable",
    }


def test_a_picture_of_another_licence_is_refused_before_it_is_read(preparation, tmp_path):
    entries = [
        Entry(source="photos", id=licence, path=tmp_path / "absent.png", licence=licence)
        for licence in ("unknown", "cc-by-nc-4.0", "cc0-1.0")
    ]
    rows = preparation("background", allow_licence=["open"])(entries)
    assert [row.drop.reason for row in rows if row.drop] == ["licence", "licence", "unreadable"]


def test_the_cache_gives_the_same_row_without_the_work(preparation, tmp_path, monkeypatch):
    path = save(tmp_path, "disc.png", cutout())
    entry = Entry(source="rgba", id="disc.png", path=path, kind="rgba")
    first = preparation("foreground")([entry])
    monkeypatch.setattr(prepare.images, "decode", lambda *args, **kwargs: pytest.fail("decoded again"))
    assert preparation("foreground")([entry]) == first


def test_another_recipe_seed_shares_the_bundles_and_another_size_or_matting_does_not(preparation, tmp_path):
    path = save(tmp_path, "photo.png", photo_with_disc())
    entry = Entry(source="photos", id="photo", path=path, seeds=(Seed(box=(45, 25, 70, 70)),))
    (first,) = preparation("foreground")([entry])
    (reseeded,) = preparation("foreground", seed=9)([entry])
    (smaller,) = preparation("foreground", size=48)([entry])
    assert reseeded.bundle == first.bundle
    assert smaller.bundle != first.bundle
    assert max(smaller.height, smaller.width) <= 48


def test_a_mask_that_cannot_be_read_refuses_its_object_and_no_other(preparation, tmp_path):
    path = save(tmp_path, "photo.png", photo_with_disc())
    disc = np.zeros((60, 80), np.uint8)  # at half the picture's size
    cv2.circle(disc, (40, 30), 15, 255, -1)
    seeds = (
        Seed(id="absent", method="mask", mask=tmp_path / "absent.png"),
        Seed(id="there", method="mask", mask=save(tmp_path, "mask.png", disc)),
        Seed(id="refused", method="mask", drop="occluded"),
    )
    rows = preparation("foreground")([Entry(source="openimages", id="photo", path=path, seeds=seeds)])
    assert {row.id: row.drop.reason if row.drop else None for row in rows} == {
        "photo/absent": "unreadable",
        "photo/there": None,
        "photo/refused": "occluded",
    }
    alpha = Pixels(Cache(tmp_path / "cache")).of(rows[1])["foreground"][..., 3]
    assert (alpha > 127).sum() == pytest.approx(np.pi * 30**2, rel=0.1)


def test_a_background_loses_its_known_objects_and_is_refused_where_one_cannot_be_located(preparation, tmp_path):
    path = save(tmp_path, "photo.png", photo_with_disc())
    located = Seed(id="disc", box=(45, 25, 70, 70))
    lost = Seed(id="crowd", method="mask", drop="crowd")
    entries = [
        Entry(source="coco", id="clean", path=path, seeds=(located,)),
        Entry(source="coco", id="lost", path=path, seeds=(located, lost)),
    ]
    clean, refused = preparation("background")(entries)
    assert clean.drop is None
    assert clean.models.keys() == {"segmentation", "inpainting", "saliency"}  # all that its key must tell apart
    background = Pixels(Cache(tmp_path / "cache")).of(clean)["background"]
    assert background[40:80, 60:100, 0].mean() < 110  # the bright disc is gone
    assert refused.drop is not None
    assert refused.drop.reason == "object_not_located"
    assert "'crowd'" in refused.drop.detail


def test_a_clean_plate_of_the_source_is_the_background_and_nothing_is_inpainted(preparation, tmp_path):
    picture = photo_with_disc()
    plate = np.full_like(picture, 77)
    disc = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(disc, (80, 60), 30, 255, -1)
    entry = Entry(
        source="rorem",
        id="photo",
        path=save(tmp_path, "photo.png", picture),
        base=save(tmp_path, "plate.png", plate),
        seeds=(Seed(method="mask", mask=save(tmp_path, "mask.png", disc), uses=("cut",)),),
    )
    (row,) = preparation("cut", filters={"texture": [0, 1000]})([entry])
    assert row.drop is None
    assert (Pixels(Cache(tmp_path / "cache")).of(row)["background"] == plate).all()
    assert "inpainting" not in row.models

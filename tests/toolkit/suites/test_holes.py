"""Suites of holes: what is hidden is hidden, the truth is the picture, and masks that are drawn are always the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from layerkit.manifests.errors import UsageError
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.suites.cases import Case, Dropped, cases
from layerkit.toolkit.suites.holes import SHARE, free_form, outside_crop

MISATO, PLACES, OUTPAINTING = (SUITES[name] for name in ("misato", "places2", "outpainting"))
COFFEE = np.ascontiguousarray(data.coffee()[:256, :384])


def saved(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def hole(height: int, width: int, rows: slice, columns: slice, level: int = 255) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = level
    return mask


def misato(root: Path, mask: np.ndarray, name: str = "0500.png") -> Path:
    saved(root / "512/image" / name, COFFEE)
    saved(root / "512/mask" / name, mask)
    return root


def only(suite, root: Path) -> Case:
    (case,) = cases(suite, {suite.reader: root})
    assert isinstance(case, Case), case
    return case


NATIVE = replace(MISATO, resize="native")


def test_a_model_is_shown_grey_in_the_hole_and_the_truth_is_the_picture(tmp_path: Path):
    case = only(NATIVE, misato(tmp_path, hole(256, 384, slice(0, 200), slice(0, 384))))
    assert case.mask.mean() > 0.75  # more than a mask of an object may cover
    np.testing.assert_array_equal(case.background, COFFEE)
    assert (case.image[case.mask] == 128).all()
    np.testing.assert_array_equal(case.image[~case.mask], COFFEE[~case.mask])
    assert (case.category, case.foreground, set(case.regions)) == ("indoor", None, {"mask"})


def test_nothing_of_the_hole_leaks_through_a_resize(tmp_path: Path):
    root = misato(tmp_path, hole(256, 384, slice(60, 130), slice(90, 210)))
    before = only(MISATO, root)
    changed = COFFEE.copy()
    changed[60:130, 90:210] = 255 - changed[60:130, 90:210]
    saved(root / "512/image/0500.png", changed)
    after = only(MISATO, root)
    inner = (before.image == after.image).all(axis=2)
    # Outside the hole a pixel of the border is an average over both sides of it, as in the truth.
    assert inner[before.mask].all()
    assert before.image.shape == (512, 512, 3)
    assert (before.image[before.mask] == 128).all()
    assert not (before.background == after.background).all()


def test_masks_are_white_above_half_and_of_any_size(tmp_path: Path):
    mask = hole(128, 192, slice(10, 20), slice(30, 50), 128)
    mask[60:, :] = 127
    case = only(NATIVE, misato(tmp_path, mask))
    expected = hole(256, 384, slice(20, 40), slice(60, 100)) > 0
    np.testing.assert_array_equal(case.mask, expected)


def test_a_hole_that_is_everything_nothing_or_unreadable_is_a_drop(tmp_path: Path):
    misato(tmp_path, np.full((256, 384), 255, np.uint8), "0000.png")
    misato(tmp_path, np.zeros((256, 384), np.uint8), "0001.png")
    misato(tmp_path, np.zeros((256, 384), np.uint8), "0002.png")
    (tmp_path / "512/mask/0002.png").write_bytes(b"x")
    misato(tmp_path, np.zeros((256, 384), np.uint8), "0003.png")
    (tmp_path / "512/mask/0003.png").unlink()
    found = {case.id: case.reason for case in cases(MISATO, {"misato": tmp_path}) if isinstance(case, Dropped)}
    assert found == {
        "0000": "hole_covers_image",
        "0001": "empty_mask",
        "0002": "unreadable",
        "0003": "missing_mask",
    }


def test_drawn_masks_are_a_function_of_the_name_and_within_their_shares():
    drawn = [free_form((120, 160), f"abbey/{k}") for k in range(60)]
    np.testing.assert_array_equal(drawn[0], free_form((120, 160), "abbey/0"))
    shares = np.array([mask.mean() for mask in drawn])
    assert len({mask.tobytes() for mask in drawn}) == 60
    assert shares.min() >= SHARE[0]
    assert shares.max() < 0.9
    assert 0.2 < shares.mean() < 0.5
    for shape in ((1, 1), (2, 300), (7, 5)):
        assert free_form(shape, "x").shape == shape


def test_outpainting_is_given_the_middle():
    mask = outside_crop((40, 60))
    assert not mask[10:30, 15:45].any()
    assert mask.sum() == 40 * 60 - 20 * 30
    assert not outside_crop((1, 1)).any()


def test_places_with_masks_of_ours_and_of_one_s_own(tmp_path: Path):
    saved(tmp_path / "val/abbey/a.png", COFFEE)
    case = only(replace(PLACES, resize="native"), tmp_path)
    np.testing.assert_array_equal(case.mask, free_form((256, 384), "abbey/a"))
    with pytest.raises(UsageError, match="needs given masks, got a data set with drawn only"):
        list(cases(SUITES["places2-given"], {"places2": tmp_path}))
    saved(tmp_path / "masks/abbey/a.png", hole(256, 384, slice(0, 9), slice(0, 9)))
    assert only(replace(SUITES["places2-given"], resize="native"), tmp_path).mask.sum() == 81
    assert only(PLACES, tmp_path).category == "abbey"
    saved(tmp_path / "val/abbey/b.png", COFFEE)  # of which there is no mask of one's own
    found = {case.id: case for case in cases(SUITES["places2-given"], {"places2": tmp_path})}
    assert found["abbey/b"].reason == "missing_mask"
    assert {type(case) for case in cases(PLACES, {"places2": tmp_path})} == {Case}


def test_a_folder_to_be_outpainted(tmp_path: Path):
    saved(tmp_path / "lakes/a.png", COFFEE)
    saved(tmp_path / "b.png", COFFEE[:1, :1])
    found = {case.id: case for case in cases(replace(OUTPAINTING, resize="native"), {"outpainting": tmp_path})}
    case = found["lakes/a.png"]
    np.testing.assert_array_equal(case.image[64:192, 96:288], COFFEE[64:192, 96:288])
    assert case.mask.mean() == 0.75
    assert found["b.png"].reason == "empty_mask"

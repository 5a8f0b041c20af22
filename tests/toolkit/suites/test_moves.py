"""Moves between two views: by centres and by feet, of subjects that are partly hidden; and ReS as cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.errors import BadImage
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.decomposition import Decomposition
from layerkit.toolkit.suites.cases import Case, cases
from layerkit.toolkit.suites.moves import Move, move_between, moved

RES = SUITES["res"]


def box(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_move_is_between_the_centres_of_the_largest_pieces_in_shares():
    source, target = box(10, 20, 21, 11) | box(80, 100, 2, 2), box(40, 50, 21, 11) | box(0, 0, 3, 3)
    move = move_between(source, source, target)
    assert (move.dx, move.dy, move.scale) == (pytest.approx(30 / 120), pytest.approx(30 / 90), 1)


def test_what_is_hidden_counts_for_where_the_subject_is():
    whole, target = box(10, 20, 21, 11), box(40, 50, 21, 11)
    visible = box(10, 20, 8, 11)  # the lower part is behind something
    assert move_between(visible, whole, target) == move_between(whole, whole, target)


def test_scaled_moves_go_from_foot_to_foot_and_by_the_root_of_the_areas():
    source, target = box(10, 20, 20, 10), box(30, 60, 40, 20)
    move = move_between(source, source, target, scaled=True)
    assert move.scale == 2
    assert move.dx == pytest.approx((70 - 25) / 120)
    assert move.dy == pytest.approx((70 - 30) / 90)


def test_a_visible_part_is_put_where_the_whole_has_it():
    picture = np.zeros((90, 120, 3), np.uint8)
    whole, target, visible = box(10, 20, 20, 10), box(30, 60, 40, 20), box(10, 20, 10, 10)
    picture[visible] = 200
    move = move_between(visible, whole, target, scaled=True)
    made = moved(Decomposition(np.zeros_like(picture)), picture, visible, move)
    rows, columns = np.nonzero(made[..., 0] > 100)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (30, 50, 60, 80)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (box(0, 0, 0, 0), box(0, 0, 9, 9), "empty_mask"),
        (box(0, 0, 9, 9), box(0, 0, 0, 0), "empty_mask"),
        (box(0, 0, 2, 2), box(0, 0, 90, 120), "wrong_scale"),
    ],
)
def test_what_cannot_be_moved_is_said(source: np.ndarray, target: np.ndarray, reason: str):
    with pytest.raises(BadImage, match=reason):
        move_between(source, source, target, scaled=True)


def test_layers_are_put_together_at_the_new_place():
    rng = np.random.default_rng(0)
    image, ground = (rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(2))
    mask = box(10, 20, 20, 10)
    made = moved(Decomposition(ground), image, mask, Move(0.25, 1 / 3))
    expected = ground.copy()
    expected[40:60, 50:60] = image[10:30, 20:30]
    np.testing.assert_array_equal(made, expected)
    layer = np.dstack([np.full((90, 120, 3), 7, np.uint8), mask.astype(np.uint8) * 255])
    made = moved(Decomposition(ground, layer), image, mask, Move(0, 0))
    expected = ground.copy()
    expected[mask] = 7
    np.testing.assert_array_equal(made, expected)


# ReS


def view(at: tuple[int, int], size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """A dark block on a ramp, and its mask at half the size."""
    y, x = np.mgrid[: size[0], : size[1]]
    picture = np.stack([x, y, x + y], axis=-1).astype(np.uint8)
    mask = np.zeros((size[0] // 2, size[1] // 2), np.uint8)
    top, left = at
    picture[top : top + 16, left : left + 24] = 250
    mask[top // 2 : top // 2 + 8, left // 2 : left // 2 + 12] = 255
    return picture, mask


def written(root: Path, **exif: object) -> Path:
    """Scene 1, its first view on its side with the orientation that rights it."""
    for number, at in ((1, (20, 10)), (2, (60, 90))):
        picture, mask = view(at)
        Image.fromarray(mask).save(root / f"p1_{number}_mask.png")
        turned = np.rot90(picture).copy() if number == 1 else picture
        tag = Image.Exif()
        tag[0x0112] = 6 if number == 1 else 1
        Image.fromarray(turned).save(root / f"p1_{number}.jpg", format="PNG", exif=tag)
    return root


def test_photographs_are_turned_and_masks_of_another_size_are_fitted(tmp_path: Path):
    suite = replace(RES, resize="native", dilate=0)
    forth, back = sorted(cases(suite, {"res": written(tmp_path)}), key=lambda case: case.id)
    np.testing.assert_array_equal(forth.image, view((20, 10))[0])
    np.testing.assert_array_equal(forth.background, view((60, 90))[0])
    assert forth.mask.sum() == 16 * 24
    assert (forth.image[forth.mask] == 250).all()
    assert forth.move == Move(pytest.approx(80 / 128), pytest.approx(40 / 96), 1)
    assert back.move == Move(-forth.move.dx, -forth.move.dy, 1)
    assert forth.scene == back.scene == "p1"


def test_the_true_ground_and_the_cut_out_give_the_other_view(tmp_path: Path):
    suite = replace(RES, resize="native", dilate=0)
    case = next(iter(cases(suite, {"res": written(tmp_path)})))
    ground = view((0, 0))[0]
    y, x = np.mgrid[:96, :128]
    ground[:16, :24] = np.stack([x, y, x + y], axis=-1)[:16, :24]
    np.testing.assert_array_equal(moved(Decomposition(ground), case.image, case.mask, case.move), case.background)


def test_the_shorter_side_is_the_suite_s_and_the_longer_one_rounded_down(tmp_path: Path):
    case = next(iter(cases(replace(RES, size=50), {"res": written(tmp_path)})))
    assert isinstance(case, Case)
    assert case.image.shape == case.background.shape == (50, 66, 3)


def test_a_hidden_part_makes_one_task_of_the_two(tmp_path: Path):
    written(tmp_path)
    whole = np.zeros((48, 64), np.uint8)
    whole[10:26, 5:17] = 255  # twice as tall as what can be seen
    Image.fromarray(whole).save(tmp_path / "p1_1_amodal.png")
    (case,) = cases(replace(RES, resize="native", dilate=0), {"res": tmp_path})
    assert case.id == "p1_1-to-2"
    assert case.move.dy == pytest.approx((40 - 8) / 96)
    assert case.mask.sum() == 16 * 24


def test_the_move_is_part_of_the_hash(tmp_path: Path):
    suite = replace(RES, resize="native")
    (first, _), (scaled, _) = (
        list(cases(one, {"res": written(tmp_path)})) for one in (suite, replace(suite, split="scaled"))
    )
    assert first.id == scaled.id
    assert scaled.move.scale == 1  # the same size in both views
    Image.fromarray(np.kron(view((60, 90))[1], np.ones((2, 2), np.uint8))).save(tmp_path / "p1_2_mask.png")
    shifted = np.roll(np.asarray(Image.open(tmp_path / "p1_2_mask.png")), -8, axis=0)
    Image.fromarray(shifted).save(tmp_path / "p1_2_mask.png")
    again = next(iter(cases(suite, {"res": tmp_path})))
    assert again.id == first.id
    assert again.sha256 != first.sha256

"""Pictures of any size through systems whose answer is known: shapes, blends, seeds, and what is kept bit for bit."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from layerkit.manifests.errors import RunError, UsageError
from layerkit.toolkit import compose
from layerkit.toolkit.models.inference import Fit, decompose_picture, tiles, working_size
from layerkit.toolkit.models.system import System

Answer = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor | None]]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Toy(System):
    """Gives what a function gives, and records the sizes that it was shown and the mode that it was in."""

    def __init__(self, answer: Answer, multiple: int = 8) -> None:
        super().__init__()
        self.answer, self.multiple = answer, multiple
        self.frozen = nn.Dropout().eval()
        self.seen: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        assert image.shape[:2] == (1, 3)
        assert mask.shape == (1, 1, *image.shape[2:])
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert not torch.is_grad_enabled()
        self.seen.append(tuple(image.shape[2:]))
        self.modes.append(self.training)
        return self.answer(image, mask, generator)


def negative(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A local system: the negative behind, the picture before it, as transparent as its red is."""
    return 1 - image, torch.cat([image, image[:, :1]], 1)


def removed(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
    return 1 - image, None


def noisy(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.rand((1, 4, *image.shape[2:]), generator=generator)
    return noise[:, :3], noise


def masked_out(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An oracle: black behind everywhere, and the picture's own colour where the mask is."""
    return torch.zeros_like(image), torch.cat([image, mask], 1)


def a_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def a_mask(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    return mask


def run(system: System, image: np.ndarray, mask: np.ndarray, fit: Fit, seed: int = 0):
    return decompose_picture(system, image, mask, np.random.default_rng(seed), fit)


def own_output(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ``negative`` gives, in integers."""
    foreground = np.dstack([image, image[..., 0]])
    foreground[foreground[..., 3] == 0] = 0
    return 255 - image, foreground


# ---- what the system is shown


@pytest.mark.parametrize(
    ("shape", "side", "multiple", "expected"),
    [
        ((64, 64), 64, 8, (64, 64)),
        ((480, 640), 64, 8, (56, 72)),
        ((20, 80), 64, 8, (32, 128)),
        ((1, 1), 64, 8, (64, 64)),
        ((1, 10_000), 64, 8, (8, 256)),
        ((10_000, 1), 64, 16, (256, 16)),
    ],
)
def test_the_whole_picture_is_shown_at_about_the_trained_area(shape, side, multiple, expected):
    assert working_size(shape, side, multiple) == expected


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 600), st.sampled_from([1, 2, 8, 16]))
@settings(deadline=None)
def test_sides_are_multiples_and_the_aspect_is_kept_as_far_as_they_allow(height, width, side, multiple):
    working = working_size((height, width), side, multiple)
    assert all(extent >= multiple and extent % multiple == 0 for extent in working)
    if max(height, width) <= 16 * min(height, width):
        scale = side / np.sqrt(height * width)
        assert abs(working[0] - height * scale) <= multiple
        assert abs(working[1] - width * scale) <= multiple


@pytest.mark.parametrize("shape", [(64, 64), (40, 100), (1, 50), (50, 1), (1, 1), (3, 300), (129, 70)])
@pytest.mark.parametrize("way", ["resize", "tile"])
@pytest.mark.parametrize("keep", ["none", "mask", "alpha"])
def test_every_size_comes_back_at_its_own(shape, way, keep):
    system = Toy(negative)
    made = run(system, a_picture(*shape), np.ones(shape, bool), Fit(side=32, way=way, keep=keep))
    assert made.background.shape == (*shape, 3)
    assert made.background.dtype == np.uint8
    assert made.foreground.shape == (*shape, 4)
    assert made.foreground.dtype == np.uint8
    assert not made.foreground[made.foreground[..., 3] == 0].any()
    assert system.seen
    assert all(extent % 8 == 0 for size in system.seen for extent in size)
    if way == "tile":
        assert set(system.seen) == {(32, 32)}


def test_a_speck_that_shrinking_would_lose_is_shown_nevertheless():
    shown = []
    mask = np.zeros((512, 512), bool)
    mask[77, 401] = True
    system = Toy(lambda image, mask, generator: (shown.append(mask) or image, None))
    run(system, a_picture(512, 512), mask, Fit(side=32))
    assert torch.nonzero(shown[0][0, 0]).tolist() == [[77 // 16, 401 // 16]]


def test_the_modes_of_the_parts_come_back():
    system = Toy(negative).train()
    system.frozen.eval()
    run(system, a_picture(32, 32), a_mask(32, 32), Fit(side=32))
    assert system.modes == [False]
    assert system.training
    assert not system.frozen.training

    def broken(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        raise RunError("out of memory")

    system.answer = broken
    with pytest.raises(RunError):
        run(system, a_picture(32, 32), a_mask(32, 32), Fit(side=32))
    assert system.training


# ---- the system's own output


@pytest.mark.parametrize("way", ["resize", "tile"])
def test_at_the_trained_size_the_result_is_the_systems_own(way):
    image, mask = a_picture(64, 64), a_mask(64, 64)
    made = run(Toy(noisy), image, mask, Fit(side=64, way=way), seed=5)
    draws = torch.Generator().manual_seed(int(np.random.default_rng(5).integers(2**63)))
    noise = torch.rand((4, 64, 64), generator=draws).permute(1, 2, 0).numpy()
    expected = np.rint(noise * 255).astype(np.uint8)
    assert np.array_equal(made.background, expected[..., :3])
    expected[expected[..., 3] == 0] = 0
    assert np.array_equal(made.foreground, expected)


def test_a_remover_has_no_foreground():
    for way in ("resize", "tile"):
        made = run(Toy(removed), a_picture(80, 50), a_mask(80, 50), Fit(side=32, way=way, keep="alpha"))
        assert made.foreground is None


@pytest.mark.parametrize("way", ["resize", "tile"])
def test_seeds_reproduce_and_one_number_is_drawn_a_picture(way):
    image, mask, fit = a_picture(70, 90), a_mask(70, 90), Fit(side=32, way=way)
    first, again, other = (run(Toy(noisy), image, mask, fit, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.foreground, again.foreground)
    assert np.array_equal(first.background, again.background)
    assert not np.array_equal(first.background, other.background)
    for where in (mask, np.zeros_like(mask)):
        generator, expected = np.random.default_rng(3), np.random.default_rng(3)
        decompose_picture(Toy(noisy), image, where, generator, fit)
        expected.integers(2**63)
        assert generator.integers(2**63) == expected.integers(2**63)


def test_an_empty_mask_runs_nothing():
    image = a_picture(30, 40)
    system = Toy(negative)
    made = run(system, image, np.zeros((30, 40), bool), Fit(side=32))
    assert np.array_equal(made.background, image)
    assert not made.foreground.any()
    assert not system.seen


def test_layers_come_back_without_fringes():
    """The picture is white in the mask, green around: a straight resampling would bleed green, or black, into it."""
    image = np.full((96, 150, 3), (0, 255, 0), np.uint8)
    mask = np.zeros((96, 150), bool)
    mask[20:70, 30:90] = True
    image[mask] = 255
    system = Toy(lambda image, mask, generator: (image, torch.cat([mask.expand_as(image), mask], 1)))
    foreground = run(system, image, mask, Fit(side=48)).foreground
    assert (foreground[foreground[..., 3] > 0][:, :3] == 255).all()
    assert ((foreground[..., 3] > 127) == mask).mean() > 0.98


# ---- tiles


@given(st.integers(1, 400), st.integers(1, 400), st.integers(2, 64), st.floats(0, 0.5))
@settings(deadline=None)
def test_tiles_cover_everything_and_overlap_enough(height, width, side, overlap):
    boxes = tiles((max(height, side), max(width, side)), side, overlap)
    covered = np.zeros((max(height, side), max(width, side)), bool)
    for box in boxes:
        assert box.height == box.width == side
        covered[box.slices] = True
    assert covered.all()
    for starts in ({box.top for box in boxes}, {box.left for box in boxes}):
        gaps = np.diff(sorted(starts))
        assert (gaps <= max(1, side * (1 - overlap))).all()


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([16, 24, 40]), st.floats(0, 0.5), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_tiles_of_a_local_system_blend_to_its_own_output_exactly(height, width, side, overlap, seed):
    image = a_picture(height, width, seed)
    fit = Fit(side=side, way="tile", overlap=overlap)
    made = run(Toy(negative), image, np.ones((height, width), bool), fit)
    background, foreground = own_output(image)
    assert np.array_equal(made.background, background)
    assert np.array_equal(made.foreground, foreground)


def test_only_tiles_that_the_mask_is_near_run_and_the_others_keep_the_input():
    image, mask = a_picture(200, 200), np.zeros((200, 200), bool)
    mask[10:20, 10:20] = True
    near, far = Toy(negative), Toy(negative)
    made = run(near, image, mask, Fit(side=40, way="tile", margin=0))
    run(far, image, mask, Fit(side=40, way="tile", margin=0.5))
    assert len(near.seen) == 1
    assert len(far.seen) == 4
    assert np.array_equal(made.background[40:], image[40:])
    assert not made.foreground[40:].any()
    assert np.array_equal(made.background[:20, :20], 255 - image[:20, :20])


def test_the_seam_to_a_tile_that_does_not_run_is_smooth():
    image, mask = np.zeros((40, 200, 3), np.uint8), np.zeros((40, 200), bool)
    mask[:, :10] = True
    made = run(Toy(negative), image, mask, Fit(side=40, way="tile", margin=0, overlap=0.5))
    line = made.background[20, :, 0].astype(int)
    assert line[0] == 255
    assert line[-1] == 0
    assert np.abs(np.diff(line)).max() <= np.ceil(255 * np.pi / 2 / 20)


def test_an_object_larger_than_a_tile_is_put_together():
    image, mask = a_picture(100, 130), a_mask(100, 130)
    made = run(Toy(masked_out), image, mask, Fit(side=32, way="tile", margin=2.0))
    assert np.array_equal(made.foreground[..., 3] > 0, mask)
    assert np.array_equal(made.foreground[mask][:, :3], image[mask])


# ---- keep


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from(["resize", "tile"]))
@settings(deadline=None, max_examples=30)
def test_keep_mask_leaves_every_other_pixel_alone(height, width, way):
    image, mask = a_picture(height, width), a_mask(height, width)
    fit = Fit(side=32, way=way, keep="mask")
    made = run(Toy(negative), image, mask, fit)
    free = run(Toy(negative), image, mask, replace(fit, keep="none"))
    assert np.array_equal(made.background[~mask], image[~mask])
    assert np.array_equal(made.background[mask], free.background[mask])
    assert np.array_equal(made.foreground, free.foreground)


def test_keep_alpha_follows_the_mask_and_the_predicted_alpha():
    image, mask = a_picture(64, 64), np.zeros((64, 64), bool)
    mask[10:20, 10:20] = True
    shadow = torch.zeros(1, 4, 64, 64)
    shadow[:, 3, 30:36, 5:40] = 0.6 / 255  # the faintest alpha that 8 bits hold
    system = Toy(lambda image, mask, generator: (1 - image, shadow))
    made = run(system, image, mask, Fit(side=64, keep="alpha", grow=2, feather=4))
    touched = mask.copy()
    touched[30:36, 5:40] = True
    distance = cv2.distanceTransform((~touched).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert np.array_equal(made.background[distance >= 7], image[distance >= 7])
    assert np.array_equal(made.background[distance <= 2], 255 - image[distance <= 2])
    between = (distance > 2) & (distance < 7)
    low, high = np.minimum(image, 255 - image), np.maximum(image, 255 - image)
    assert ((made.background >= low) & (made.background <= high))[between].all()
    hard = run(system, image, mask, Fit(side=64, keep="alpha", grow=0, feather=0))
    assert np.array_equal(hard.background, np.where(touched[..., None], 255 - image, image))


def test_keep_alpha_of_a_remover_follows_the_mask():
    image, mask = a_picture(64, 64), a_mask(64, 64)
    made = run(Toy(removed), image, mask, Fit(side=64, keep="alpha", grow=0, feather=0))
    assert np.array_equal(made.background, np.where(mask[..., None], 255 - image, image))


def test_what_is_kept_recomposes_where_nothing_was_taken():
    image, mask = a_picture(50, 70), a_mask(50, 70)
    made = run(Toy(masked_out), image, mask, Fit(side=64, keep="mask"))
    clear = made.foreground[..., 3] == 0
    composite = compose.over_u8(made.foreground, made.background)
    assert np.array_equal(composite[clear & ~mask], image[clear & ~mask])


# ---- errors


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 0},
        {"way": "crop"},
        {"keep": "all"},
        {"overlap": 0.6},
        {"overlap": float("nan")},
        {"margin": -0.1},
        {"margin": float("inf")},
        {"grow": -1},
        {"feather": -1},
    ],
)
def test_a_fit_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError, match=f"fit.{next(iter(wrong))}: expected .*, got"):
        Fit(**{"side": 64} | wrong)


def test_pictures_and_masks_of_another_form_are_refused():
    image, mask, fit = a_picture(8, 9), a_mask(8, 9), Fit(side=8)
    with pytest.raises(UsageError, match="expected an 8-bit picture"):
        run(Toy(negative), image / 255, mask, fit)
    with pytest.raises(UsageError, match="with pixels"):
        run(Toy(negative), image[:0], mask[:0], fit)
    with pytest.raises(UsageError, match=r"expected a bool mask \(8, 9\)"):
        run(Toy(negative), image, mask.T, fit)
    with pytest.raises(UsageError, match=r"got uint8 \(8, 9\)"):
        run(Toy(negative), image, mask.astype(np.uint8), fit)


def test_tiles_that_the_system_does_not_take_are_refused():
    with pytest.raises(UsageError, match="multiple of 8 px, got 30; try 32"):
        run(Toy(negative), a_picture(50, 50), a_mask(50, 50), Fit(side=30, way="tile"))


def test_a_network_that_gives_no_numbers_is_an_error():
    system = Toy(lambda image, mask, generator: (image * float("nan"), None))
    with pytest.raises(RunError, match="finite"):
        run(system, a_picture(16, 16), a_mask(16, 16), Fit(side=16))

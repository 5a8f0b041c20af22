"""Scores of a system whose answers are known, against scikit-image and closed forms."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from layerkit.pipelines.training.sample import Sample
from layerkit.pipelines.training.validation import MOST, Validation, torch_generator, validate
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.models.system import Predicted, System, Triplets

SIDE = 24
Answer = Callable[[Triplets], Predicted]


class Known(System):
    """Answers by a function of the batch; every draw of its noise is kept."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.answer = answer
        self.drawn: list[float] = []

    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        self.drawn.append(float(torch.rand(1, generator=generator)))
        return self.answer(batch)


def samples(count: int = 5) -> list[Sample]:
    """Noise that recomposes to the bit, with an object in the middle."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        foreground, background = (rng.integers(0, 256, (SIDE, SIDE, c), np.uint8) for c in (4, 3))
        inside = np.zeros((SIDE, SIDE), bool)
        inside[6 : 14 + number, 7:17] = True
        foreground[~inside] = 0
        foreground[inside, 3] |= 1
        found.append(
            Sample(
                image=over_u8(foreground, background),
                foreground=foreground,
                background=background,
                mask=inside.astype(np.uint8) * 255,
                has_foreground=True,
                key=f"s{number}",
            )
        )
    return found


def the_truth(batch: Triplets) -> Predicted:
    return Predicted(background=batch.background, foreground=batch.foreground)


def score(answer: Answer, some: list[Sample], micro: int = 2) -> Mapping[str, float]:
    return validate(Known(answer), some, micro, seed=0).scores


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_truth_scores_as_perfect():
    scores = score(the_truth, samples())
    assert scores == {
        "background_psnr": MOST,
        "background_psnr_footprint": MOST,
        "background_ssim": pytest.approx(1, abs=1e-6),
        "foreground_psnr": MOST,
        "alpha_iou": 1.0,
        "recomposition_psnr": MOST,
    }
    assert MOST == 100


def test_a_wrong_background_scores_as_scikit_image_says():
    """Ten levels too dark inside the object, right elsewhere."""
    some = samples()
    for sample in some:
        sample.background[...] = np.maximum(sample.background, 10)

    def darker(batch: Triplets) -> Predicted:
        return Predicted(background=batch.background - 10 / 255 * batch.mask, foreground=batch.foreground)

    scores = score(darker, some)
    made = [s.background - 10 * (s.mask > 0)[..., None].astype(np.uint8) for s in some]
    expected = [peak_signal_noise_ratio(s.background, m, data_range=255) for s, m in zip(some, made, strict=True)]
    assert scores["background_psnr"] == pytest.approx(mean(expected))
    assert scores["background_psnr_footprint"] == pytest.approx(20 * math.log10(255 / 10))
    options = {
        "channel_axis": 2,
        "data_range": 255,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    ssims = [structural_similarity(s.background, m, **options) for s, m in zip(some, made, strict=True)]
    assert scores["background_ssim"] == pytest.approx(mean(ssims), abs=1e-4)
    recomposed = [over_u8(s.foreground, m) for s, m in zip(some, made, strict=True)]
    pairs = zip(some, recomposed, strict=True)
    expected = [peak_signal_noise_ratio(s.image, r, data_range=255) for s, r in pairs]
    assert scores["recomposition_psnr"] == pytest.approx(mean(expected))
    assert (scores["foreground_psnr"], scores["alpha_iou"]) == (MOST, 1)


def test_a_wrong_foreground_scores_by_its_alpha_and_what_shows_of_its_colour():
    some = samples()

    def fainter(batch: Triplets) -> Predicted:
        alpha = (batch.foreground[:, 3:] * 255 / 2).floor() / 255
        return Predicted(foreground=torch.cat([batch.foreground[:, :3], alpha], 1))

    scores = score(fainter, some)
    assert set(scores) == {"foreground_psnr", "alpha_iou"}
    halves = [s.foreground[..., 3] // 2 for s in some]
    ious = [h.sum(dtype=float) / s.foreground[..., 3].sum(dtype=float) for h, s in zip(halves, some, strict=True)]
    assert scores["alpha_iou"] == pytest.approx(mean(ious))
    errors = [
        ((s.foreground[..., 3] - h.astype(float))[..., None] / 255 * (s.foreground[..., :3] - 128.0))
        for s, h in zip(some, halves, strict=True)
    ]
    expected = [10 * math.log10(255**2 / np.square(error).mean()) for error in errors]
    assert scores["foreground_psnr"] == pytest.approx(mean(expected), rel=1e-2)  # levels are rounded


def test_what_a_system_does_not_make_has_no_score():
    scores = score(lambda batch: Predicted(background=batch.background), samples())
    assert set(scores) == {"background_psnr", "background_psnr_footprint", "background_ssim"}


def test_where_no_foreground_is_known_the_mask_is_the_footprint():
    some = [replace(sample, has_foreground=False, foreground=0 * sample.foreground) for sample in samples()]
    for sample in some:
        sample.background[...] = np.maximum(sample.background, 10)
    scores = score(
        lambda batch: Predicted(background=batch.background - 10 / 255 * batch.mask, foreground=batch.foreground), some
    )
    assert scores["background_psnr_footprint"] == pytest.approx(20 * math.log10(255 / 10))
    assert not {"foreground_psnr", "alpha_iou"} & set(scores)


def test_an_empty_region_has_no_score_rather_than_a_perfect_one():
    one, other = samples(2)
    empty = replace(one, foreground=0 * one.foreground, image=one.background)

    def grey(batch: Triplets) -> Predicted:
        return Predicted(background=torch.full_like(batch.background, 0.5), foreground=batch.foreground)

    scores = score(grey, [empty, other])
    assert scores["background_psnr_footprint"] == pytest.approx(score(grey, [other])["background_psnr_footprint"])
    assert scores["alpha_iou"] == 1
    assert "background_psnr_footprint" not in score(grey, [empty])


def test_pictures_too_small_for_a_score_have_the_others():
    def cut(layer: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(layer[6:14, 7:15])

    names = ("image", "foreground", "background", "mask")
    small = [replace(s, **{name: cut(getattr(s, name)) for name in names}) for s in samples()]
    assert "background_ssim" not in score(the_truth, small)
    assert score(the_truth, small)["background_psnr"] == MOST


# ---- draws


def test_noise_is_seeded_by_the_samples_and_the_seed():
    def draws(some: list[Sample], micro: int, seed: int) -> list[float]:
        system = Known(the_truth)
        validate(system, some, micro, seed)
        return system.drawn

    some = samples()
    first = draws(some, 1, 0)
    assert len(set(first)) == 5
    assert draws(some, 1, 0) == first
    assert draws(some[::-1], 1, 0) == first[::-1]
    assert draws(some, 2, 0) == first[::2]
    assert not set(draws(some, 1, 1)) & set(first)


def test_a_generator_is_one_for_its_purpose():
    def draw(*names: str | int) -> Tensor:
        return torch.rand(4, generator=torch_generator(0, *names))

    assert torch.equal(draw("noise", 1, 2), draw("noise", 1, 2))
    assert not torch.equal(draw("noise", 1, 2), draw("noise", 12))
    assert not torch.equal(draw("noise", 1, 2), draw("noise", 2, 1))


# ---- pictures


def sized(result: Validation) -> tuple[int, ...]:
    return result.pictures.shape


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 4), (9, 6)])
def test_pictures_have_a_row_a_sample_up_to_six(count: int, rows: int):
    """A line of titles of 24 px, and of each sample a caption of 18 px and squares of 128 px with 6 px between them."""
    some = samples(count)
    both = validate(Known(the_truth), some, 4, seed=0)
    assert sized(both) == (24 + rows * (18 + 128), 7 * 128 + 6 * 6, 3)
    one = validate(Known(lambda batch: Predicted(background=batch.background)), some, 4, seed=0)
    assert sized(one) == (24 + rows * (18 + 128), 5 * 128 + 4 * 6, 3)


def test_pictures_show_what_came_what_was_made_and_the_truth():
    (sample,) = samples(1)
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    result = validate(
        Known(lambda batch: Predicted(background=blue.expand(1, 3, SIDE, SIDE), foreground=0 * batch.foreground)),
        [sample],
        1,
        seed=0,
    )
    row = result.pictures[24 + 18 :]
    squares = [row[:, k * 134 : k * 134 + 128] for k in range(7)]
    image, mask, background, _, recomposition, truth, _ = squares
    assert np.unique(background.reshape(-1, 3), axis=0).tolist() == [[0, 0, 255]]
    assert np.array_equal(recomposition, background)  # nothing lies over it
    assert mask[64, 64].tolist() == [255] * 3
    assert mask[0, 0].tolist() == [0] * 3
    for square, layer in ((image, sample.image), (truth, sample.background)):
        assert np.abs(square.mean((0, 1)) - layer.mean((0, 1))).max() < 4

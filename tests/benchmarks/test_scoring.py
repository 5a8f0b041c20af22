"""Every measure of every suite of pictures on one made-up case, against scikit-image and sums written out here."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from layerkit.benchmarks.measures import parse_measure, with_pasted
from layerkit.benchmarks.networks import Networks
from layerkit.benchmarks.scoring import applies, picture_pair, score, why_not
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.decomposition import Decomposition
from layerkit.toolkit.suites.cases import Case

SIDE = 80
OF_PICTURES = [suite for suite in SUITES.values() if not suite.generates]
ELSEWHERE = {"gradient", "connectivity", "users"}  # compared in the tests of mattes, and of votes
ALL = {one for suite in OF_PICTURES for one in with_pasted(map(parse_measure, suite.metrics))}
NAMES = {str(one) for one in ALL if one.metric not in ELSEWHERE}
SETS = {name for name in NAMES if parse_measure(name.replace("+pasted", "")).row.kind == "distribution"}
LPIPS = {name for name in NAMES if name.startswith("lpips")}


def noise(seed: int, *shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


MASK, SHADOW = rectangle(10, 50, 20, 60), rectangle(50, 60, 30, 70)


def over(layer: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Straight alpha over an opaque picture, by Pillow."""
    out = Image.alpha_composite(Image.fromarray(below).convert("RGBA"), Image.fromarray(layer))
    return np.asarray(out.convert("RGB"))


@pytest.fixture
def case() -> Case:
    foreground = np.dstack([noise(1, SIDE, SIDE, 3), np.where(MASK, noise(2, SIDE, SIDE), 0).astype(np.uint8)])
    background = noise(3, SIDE, SIDE, 3, high=200)
    return Case(
        id="case",
        scene="scene",
        category="cup",
        image=over(foreground, np.where(SHADOW[..., None], background // 2, background)),
        mask=MASK,
        background=background,
        foreground=foreground,
        occluder=None,
        regions={"mask": MASK, "outside": ~MASK, "shadow": SHADOW},
        sha256="0",
    )


@pytest.fixture
def made(case: Case) -> Decomposition:
    """A prediction that errs in every layer, outside the mask too."""
    background = np.clip(case.background.astype(int) + noise(4, SIDE, SIDE, 3, high=40) - 10, 0, 255).astype(np.uint8)
    alpha = np.clip(case.foreground[..., 3].astype(int) + noise(5, SIDE, SIDE, high=20), 0, 255).astype(np.uint8)
    colour = np.clip(case.foreground[..., :3].astype(int) - 9, 0, 255).astype(np.uint8)
    return Decomposition(background, np.dstack([colour, alpha]))


def decibel(preds: np.ndarray, target: np.ndarray, over_pixels: np.ndarray | None = None) -> float:
    if over_pixels is None:
        return peak_signal_noise_ratio(target, preds, data_range=255)
    return 20 * math.log10(255) - 10 * math.log10(np.mean((preds.astype(float) - target)[over_pixels] ** 2))


def wang(preds: np.ndarray, target: np.ndarray, over_pixels: np.ndarray | None = None) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, full = structural_similarity(target, preds, channel_axis=2, full=True, **options)
    inner = np.zeros((SIDE, SIDE), np.bool_)
    inner[5:-5, 5:-5] = True
    return float(full[inner if over_pixels is None else inner & over_pixels].mean())


def edges(preds: np.ndarray, target: np.ndarray) -> float:
    edge = cv2.Canny(MASK.astype(np.uint8) * 255, 100, 200) > 0
    gradients = []
    for picture in (np.where(MASK[..., None], preds, target), target):
        padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)), mode="reflect")
        smooth, slope = (1, 2, 1), (-1, 0, 1)
        across = sum(smooth[i] * slope[j] * padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3))
        down = sum(slope[i] * smooth[j] * padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3))
        gradients.append((across, down))
    (x, y), (u, v) = gradients
    return float(np.hypot(x - u, y - v)[edge].mean())


def by_hand(case: Case, made: Decomposition) -> dict[str, float]:
    raw, truth, image = made.background, case.background, case.image
    pasted, composite = (np.where(MASK[..., None], raw, around) for around in (image, truth))
    luma = [picture @ np.array([0.2989, 0.587, 0.114]) / 255 for picture in (composite, truth)]
    everywhere = np.zeros((SIDE, SIDE, 3))
    everywhere[SHADOW] = (raw.astype(float) - truth)[SHADOW]
    alpha, beta = made.foreground[..., 3] / 255, case.foreground[..., 3] / 255
    colours = np.abs(made.foreground[..., :3].astype(float) - case.foreground[..., :3])
    soft = np.minimum(alpha, beta).sum() / np.maximum(alpha, beta).sum()
    hard = ((alpha >= 0.5) & (beta >= 0.5)).sum() / ((alpha >= 0.5) | (beta >= 0.5)).sum()
    shown = np.where(alpha[..., None] > 0, made.foreground[..., :3], 0).astype(float)
    front = np.abs(shown - case.foreground[..., :3])[beta > 0].mean() / 255
    back = np.abs(raw.astype(float) - truth).mean() / 255
    out = {
        "psnr:area@outside": decibel(raw, truth, ~MASK),
        "psnr:all-pixels@shadow": 20 * math.log10(255) - 10 * math.log10(np.mean(everywhere**2)),
        "psnr:area@composite": decibel(composite, truth),
        "ssim:grey@composite": structural_similarity(*luma, data_range=1.0),
        "edge-gradient:asuka@whole": edges(raw, truth),
        "recomposition-psnr:area@whole": decibel(over(made.foreground, raw), image),
        "iou:soft@whole": soft,
        "iou:hard@whole": hard,
        "sad:mmagic@whole": np.abs(alpha - beta).sum() / 1000,
        "matting-mse:mmagic@whole": np.mean((alpha - beta) ** 2),
        "colour-error:common@whole": np.average(colours.mean(axis=2), weights=np.minimum(alpha, beta)),
        "layer-distance:layerd@whole": ((front + 1 - soft) / 2 + back / 2) / 2,
    }
    for suffix, preds in (("", raw), ("+pasted", pasted)):
        out |= {
            f"psnr:area{suffix}@whole": decibel(preds, truth),
            f"psnr:area{suffix}@mask": decibel(preds, truth, MASK),
            f"psnr:area{suffix}@shadow": decibel(preds, truth, SHADOW),
            f"rmse:area{suffix}@shadow": math.sqrt(np.mean((preds.astype(float) - truth)[SHADOW] ** 2)),
            f"ssim:gaussian{suffix}@whole": wang(preds, truth),
            f"ssim:gaussian{suffix}@shadow": wang(preds, truth, SHADOW),
        }
    everywhere[SHADOW] = (pasted.astype(float) - truth)[SHADOW]
    out["psnr:all-pixels+pasted@shadow"] = 20 * math.log10(255) - 10 * math.log10(np.mean(everywhere**2))
    return out


def scored(case: Case, made: Decomposition, names: set[str] = NAMES - SETS - LPIPS) -> dict[str, float]:
    measures = with_pasted(parse_measure(name) for name in sorted(names) if "+pasted" not in name)
    return {str(one): score(one, case, made, Networks()) for one in measures if str(one) in names}


def test_every_measure_of_every_suite_is_what_it_says(case: Case, made: Decomposition):
    found, expected = scored(case, made), by_hand(case, made)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_perfect_layers_are_perfect(case: Case):
    lit = replace(case, image=over(case.foreground, case.background))
    lowest = {"rmse", "edge-gradient", "sad", "matting-mse", "colour-error", "layer-distance"}
    for name, value in scored(lit, Decomposition(case.background, case.foreground)).items():
        metric = name.partition(":")[0]
        assert value == (math.inf if "psnr" in metric else 0 if metric in lowest else 1), name


@pytest.mark.parametrize(("alpha", "least"), [(255, math.inf), (120, 50)])
def test_with_what_stands_in_front_the_layers_give_the_picture_back(case: Case, alpha: int, least: float):
    front = np.dstack([noise(6, SIDE, SIDE, 3), np.where(rectangle(5, 30, 5, 40), alpha, 0).astype(np.uint8)])
    image = over(front, over(case.foreground, case.background))
    behind = replace(case, occluder=front, image=image, background=over(front, case.background))
    measure = parse_measure("recomposition-psnr")
    perfect = Decomposition(behind.background, behind.foreground)
    # behind glass the truth is rounded once more, to levels
    assert score(measure, behind, perfect, Networks()) >= least
    assert score(measure, replace(behind, occluder=None), perfect, Networks()) < 40


def test_a_remover_has_no_foreground_measures(case: Case, made: Decomposition):
    remover = Decomposition(made.background)
    found = scored(case, remover)
    layers = {name for name in found if parse_measure(name.replace("+pasted", "")).row.compares[0] != "preds"}
    assert len(layers) == 7
    assert all(math.isnan(found[name]) == (name in layers) for name in found)
    assert {why_not(parse_measure(name), case, remover) for name in layers} == {"the model gives no foreground"}
    jitter = parse_measure("jitter-fid")
    assert why_not(jitter, case, remover) == "the model gives no foreground"
    assert why_not(jitter, replace(case, foreground=None), made) == ""


def test_without_the_true_foreground_the_picture_is_still_recomposed(case: Case, made: Decomposition):
    found = scored(replace(case, foreground=None), made)
    unknown = {name for name, value in found.items() if math.isnan(value)}
    assert {name.partition(":")[0] for name in unknown} == {
        "iou",
        "sad",
        "matting-mse",
        "colour-error",
        "layer-distance",
    }


def test_a_missing_shadow_is_nan_and_never_a_number(case: Case, made: Decomposition):
    without = replace(case, regions={"mask": MASK, "outside": ~MASK})
    found = scored(without, made, {*NAMES - SETS - LPIPS, "recomposition-psnr:area@shadow"})
    assert {name for name, value in found.items() if math.isnan(value)} == {name for name in found if "@shadow" in name}
    empty = replace(case, regions={**case.regions, "shadow": np.zeros_like(MASK)})
    assert math.isnan(score(parse_measure("psnr@shadow"), empty, made, Networks()))


def test_without_a_truth_only_the_layers_are_compared(case: Case, made: Decomposition):
    found = scored(replace(case, background=None), made)
    known = {name.partition(":")[0] for name, value in found.items() if not math.isnan(value)}
    assert known == {"recomposition-psnr", "iou", "sad", "matting-mse", "colour-error"}


def test_boxes_and_composites_are_cut_and_pasted_as_their_authors_do(case: Case, made: Decomposition):
    preds, target, mask = picture_pair(parse_measure("ssim@box"), case, made)
    assert mask is None
    # 40 px of mask grow to 64, evenly, within the picture
    np.testing.assert_array_equal(target, case.background[0:64, 8:72])
    np.testing.assert_array_equal(preds, made.background[0:64, 8:72])
    preds, target, mask = picture_pair(parse_measure("lpips@composite"), case, made)
    assert mask is None
    np.testing.assert_array_equal(preds[MASK], made.background[MASK])
    np.testing.assert_array_equal(preds[~MASK], case.background[~MASK])


def test_jittered_foregrounds_are_compared_with_the_pictures(case: Case, made: Decomposition):
    preds, target, mask = picture_pair(parse_measure("jitter-fid"), case, made)
    again, _, _ = picture_pair(parse_measure("jitter-fid"), case, made)
    assert mask is None
    assert target is case.image
    np.testing.assert_array_equal(preds, again)
    other, _, _ = picture_pair(parse_measure("jitter-fid"), replace(case, id="another"), made)
    assert (preds != other).any()


def test_reasons_name_what_is_not_known():
    everything = {"foreground": True, "true_foreground": True}
    assert applies(parse_measure("ber"), **everything) == "the model gives no shadow mask"
    assert applies(parse_measure("clip-score"), **everything) == "the suite has no captions"
    assert applies(parse_measure("clip-score"), **everything, captions=True) == ""
    assert applies(parse_measure("iou"), foreground=True, true_foreground=False) == "the suite knows no true foreground"
    assert applies(parse_measure("users:quality"), **everything).startswith("no votes of people; fill in votes.csv")


class MeanColours:
    """A model of vectors that can be written out: a picture's mean colour."""

    def images(self, pictures):
        return np.array([picture.reshape(-1, 3).mean(axis=0) for picture in pictures])


def test_clip_of_images_is_the_cosine_of_both_vectors(case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Networks, "clip", lambda self, name: MeanColours())
    made = Decomposition(background=noise(9, SIDE, SIDE, 3, high=90))
    a, b = MeanColours().images([made.background, case.background])
    expected = 100 * a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert score(parse_measure("clip-image"), case, made, Networks()) == pytest.approx(expected)


def test_lpips_of_pictures_too_small_for_it_is_no_number(case: Case):
    small = replace(case, image=case.image[:40], background=case.background[:40], mask=MASK[:40], foreground=None)
    made = Decomposition(background=small.background)
    assert math.isnan(score(parse_measure("lpips:alex"), small, made, Networks()))

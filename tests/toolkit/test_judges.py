"""Judges: the heuristics rank what they should, features are transformers' own, a trained folder is read or refused."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import revision_of
from layerkit.toolkit.inpaint import PatchMatch, Telea, inpaint
from layerkit.toolkit.judges import BASE, HEURISTICS, ROLES, Features, LearnedJudge, load_judge
from layerkit.toolkit.saliency import IMAGENET_MEAN, IMAGENET_STD

SIDE = 64  # of the network of ``judge_weights``
MASK, INPAINT = (HEURISTICS[role] for role in ROLES)


def texture(seed: int, low: int, high: int) -> np.ndarray:
    """Blurred noise between two levels, (96, 128, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, low, high, cv2.NORM_MINMAX)


@pytest.fixture
def disc():
    """A bright disc on a dark texture, and its mask."""
    mask = cv2.circle(np.zeros((96, 128), np.uint8), (64, 48), 24, 1, -1) > 0
    return np.where(mask[..., None], texture(1, 150, 255), texture(2, 0, 100)), mask


def write_run(folder: Path, role: str, revision: str, size: int, **changes: object) -> Path:
    """A trained judge's folder whose neuron has weights 0.01."""
    table = {"role": role, "base": BASE, "revision": revision, "epochs": 100, "lr": 0.01, "seed": 0}
    table |= {"n_train": 10, "n_test": 2, "threshold": 0.5, **changes}
    folder.mkdir()
    folder.joinpath("config.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()))
    tensors = {"weight": np.full(size, 0.01, np.float32), "bias": np.array([0.25], np.float32)}
    save_file(tensors, folder / "head.safetensors")
    return folder


# ---- heuristics


def test_an_intact_mask_is_judged_better_than_a_spoilt_one(disc):
    image, mask = disc
    half, shifted, specks, wide = (
        mask.copy(),
        np.roll(mask, 20, 1),
        mask.copy(),
        cv2.dilate(mask.astype("u1"), None) > 0,
    )
    half[:48] = False
    specks[40:56:4] = False
    for _ in range(10):
        wide = cv2.dilate(wide.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    tiny = cv2.circle(np.zeros(mask.shape, np.uint8), (64, 48), 4, 1, -1) > 0
    cut_off = np.roll(mask, 50, 1)
    intact = MASK(image, mask)
    for name, spoilt in {"half": half, "shifted": shifted, "wide": wide, "tiny": tiny, "cut off": cut_off}.items():
        assert MASK(image, spoilt) < intact, name
    assert intact > 0.8


def test_a_mask_in_pieces_is_judged_worse(disc):
    image, mask = disc
    pieces = mask.copy()
    pieces[46:50] = pieces[:, 62:66] = False
    assert MASK(image, pieces) < 0.8 * MASK(image, mask)


def test_an_object_or_a_smear_in_the_hole_is_judged_worse_than_texture():
    image, hole = texture(3, 0, 255), np.zeros((96, 128), bool)
    hole[30:66, 40:88] = True
    left = image.copy()
    left[40:56, 50:78] = (255, 0, 0)
    textured = INPAINT(inpaint(PatchMatch(), image, hole), hole)
    assert INPAINT(inpaint(Telea(), image, hole), hole) < 0.7 * textured
    assert INPAINT(left, hole) < textured
    assert INPAINT(image, hole) > 0.8


@settings(max_examples=40, deadline=None)
@given(role=st.sampled_from(ROLES), seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_heuristics_stay_in_0_to_1_for_any_picture_and_mask(role, seed, share):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, rng.integers(1, 257), (40, 56, 3), np.uint8)
    assert 0 <= HEURISTICS[role](image, rng.random((40, 56)) < share) <= 1


def test_an_empty_mask_is_bad_and_an_empty_hole_is_good(disc):
    image, mask = disc
    assert MASK(image, np.zeros_like(mask)) == 0
    assert INPAINT(image, np.zeros_like(mask)) == 1


@pytest.mark.parametrize("role", ROLES)
def test_the_heuristic_is_named_and_versioned(role):
    judge = load_judge(role, "heuristic")
    assert (judge.name, judge.revision) == ("heuristic", "1")


def test_mask_heuristic_tells_true_masks_of_photographs_from_spoilt_ones(shared_data):
    from sklearn.metrics import roc_auc_score

    scores = {"true": [], "shifted": [], "grown": []}
    for path in sorted((shared_data / "ecssd").rglob("*.jpg"))[:30]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(next((shared_data / "ecssd").rglob(f"{path.stem}.png"))), cv2.IMREAD_GRAYSCALE) > 127
        step = round(mask.sum() ** 0.5) // 3
        scores["true"].append(MASK(image, mask))
        scores["shifted"].append(MASK(image, np.roll(mask, (step, step), (0, 1))))
        scores["grown"].append(MASK(image, cv2.dilate(mask.astype(np.uint8), np.ones((step, step), np.uint8)) > 0))
    for spoilt in ("shifted", "grown"):
        assert roc_auc_score([1] * 30 + [0] * 30, scores["true"] + scores[spoilt]) > 0.8, spoilt


# ---- features


def test_features_are_those_of_transformers_for_the_crop_and_the_crop_in_grey(judge_weights, disc):
    import torch
    from transformers import EfficientNetModel

    image, mask = disc
    region = np.s_[12:85, 28:101]  # the box 24..72 × 40..88 and a quarter of its 49 px around it
    views = [image[region], np.where(mask[region][..., None], image[region], np.uint8(128))]
    sized = [cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / 255 for view in views]
    pixels = torch.tensor((np.stack(sized) - IMAGENET_MEAN) / IMAGENET_STD, dtype=torch.float32).permute(0, 3, 1, 2)
    network = EfficientNetModel.from_pretrained(judge_weights / BASE).eval()
    with torch.no_grad():
        expected = network(pixels).last_hidden_state.mean((2, 3)).numpy()
    features = Features(judge_weights)
    found = features("mask-quality", image, mask)
    np.testing.assert_allclose(found[:-1], expected.ravel(), rtol=1e-4, atol=1e-5)
    assert found[-1] == pytest.approx(mask.mean() ** 0.5)
    np.testing.assert_allclose(features("inpaint-quality", image, mask), expected[0], rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01, "random weights must not let everything vanish"


def test_features_see_the_surroundings_of_the_mask_and_nothing_beyond(judge_weights, disc):
    image, mask = disc
    near, far = image.copy(), image.copy()
    near[20:24, 60:68], far[:10] = 255, 255
    features = Features(judge_weights)
    for role in ROLES:
        seen = features(role, image, mask)
        np.testing.assert_array_equal(features(role, far, mask), seen)
        assert not np.array_equal(features(role, near, mask), seen)


def test_features_of_an_empty_and_of_a_full_mask_are_finite(judge_weights, disc):
    image, mask = disc
    features = Features(judge_weights)
    for role in ROLES:
        assert np.isfinite(features(role, image, np.zeros_like(mask))).all()
        assert np.isfinite(features(role, image, np.ones_like(mask))).all()


def test_incomplete_weights_are_missing_weights(tmp_path):
    (tmp_path / BASE).mkdir()
    (tmp_path / BASE / "config.json").write_text("{}")
    with pytest.raises(MissingWeights, match=r"hf download google/efficientnet-b0"):
        Features(tmp_path)


def test_a_broken_file_and_another_network_are_refused(judge_weights, tmp_path):
    folder = tmp_path / BASE
    shutil.copytree(judge_weights / BASE, folder)
    save_file({"conv_stem.weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"it lacks \d+ tensors such as efficientnet\."):
        Features(tmp_path)
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(MissingWeights, match=f"expected an EfficientNet of transformers with safetensors in {folder}"):
        Features(tmp_path)


# ---- trained folders


def test_a_learned_judge_is_the_sigmoid_of_its_neuron(judge_weights, disc, tmp_path):
    image, mask = disc
    features = Features(judge_weights)
    seen = features("mask-quality", image, mask)
    run = write_run(tmp_path / "run", "mask-quality", features.revision, len(seen))
    judge = load_judge("mask-quality", str(run), judge_weights)
    assert judge(image, mask) == pytest.approx(1 / (1 + np.exp(-(0.01 * seen.sum() + 0.25))), rel=1e-5)
    assert judge.name == "efficientnet-b0-mask-quality"
    assert judge.revision == revision_of(run / "head.safetensors")


def test_a_judge_of_another_role_is_refused(judge_weights, tmp_path):
    run = write_run(tmp_path / "run", "mask-quality", "abc", 1)
    with pytest.raises(UsageError, match=r"expected a judge of inpaint-quality.*it judges mask-quality"):
        load_judge("inpaint-quality", str(run), judge_weights)


def test_a_judge_of_another_base_is_refused(judge_weights, tmp_path):
    run = write_run(tmp_path / "run", "mask-quality", "0123abcd", 1)
    with pytest.raises(UsageError, match=r"trained on efficientnet-b0@0123abcd, but efficientnet-b0@sha256:"):
        LearnedJudge(run, judge_weights)


@pytest.mark.parametrize("file", ["config.toml", "head.safetensors"])
def test_a_folder_without_its_files_is_refused(judge_weights, tmp_path, file):
    run = write_run(tmp_path / "run", "mask-quality", "abc", 1)
    (run / file).unlink()
    with pytest.raises(UsageError, match=rf"{run} lacks {file}"):
        load_judge("mask-quality", str(run), judge_weights)


def test_what_is_no_judge_is_refused(judge_weights, tmp_path):
    with pytest.raises(UsageError, match=r"expected 'heuristic' or the folder of a trained judge, got 'nowhere'"):
        load_judge("mask-quality", "nowhere")
    with pytest.raises(UsageError, match=r"mask-quality, inpaint-quality\), got 'taste'"):
        load_judge("taste", "heuristic")
    run = write_run(tmp_path / "run", "mask-quality", "abc", 1, colour="red")
    with pytest.raises(UsageError, match=r"config\.toml: unknown key 'colour'"):
        load_judge("mask-quality", str(run), judge_weights)
    broken = write_run(tmp_path / "broken", "mask-quality", "abc", 1)
    (broken / "head.safetensors").write_bytes(b"\x08")
    with pytest.raises(UsageError, match=r"head\.safetensors: expected the tensors weight"):
        load_judge("mask-quality", str(broken), judge_weights)

"""Inpainting: only the hole changes, seeds reproduce, and every method runs, diffusion with a tiny random pipeline."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from layerkit.manifests.errors import BadImage, MissingWeights, RunError, UsageError
from layerkit.toolkit.inpaint import (
    INPAINTERS,
    NavierStokes,
    PatchMatch,
    Telea,
    dilated,
    inpaint,
    load_inpainter,
    texture_ratio,
)
from layerkit.toolkit.inpaint_diffusers import DiffusersInpaint

CLASSICAL = [PatchMatch(), PatchMatch(scale=1), Telea(), NavierStokes()]


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blurred noise, stretched to the whole range."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


def square(height: int, width: int, side: int) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    top, left = (height - side) // 2, (width - side) // 2
    hole[top : top + side, left : left + side] = True
    return hole


class Noise:
    """An inpainter that repaints everything."""

    name, revision = "noise", "1"

    def __call__(self, image, hole, seed):
        return np.random.default_rng(seed).integers(0, 256, image.shape, np.uint8)


# ---- the contract


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    dilate=st.integers(0, 3),
    which=st.sampled_from([Noise(), *CLASSICAL]),
)
def test_only_the_hole_changes(height, width, share, seed, dilate, which):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    hole = rng.random((height, width)) < share
    before = image.copy(), hole.copy()
    allowed = dilated(hole, dilate)
    if allowed.all():
        with pytest.raises(BadImage, match="hole_covers_image"):
            inpaint(which, image, hole, seed, dilate)
    else:
        result = inpaint(which, image, hole, seed, dilate)
        assert result is not image
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result[~allowed], image[~allowed])
        np.testing.assert_array_equal(result, inpaint(which, image, hole, seed, dilate))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(hole, before[1])


def test_an_empty_hole_returns_a_copy_without_running_anything():
    image = texture(16, 16)
    result = inpaint(None, image, np.zeros((16, 16), bool), dilate=4)
    assert result is not image
    np.testing.assert_array_equal(result, image)


def test_a_hole_that_leaves_nothing_is_a_bad_image_with_its_reason():
    with pytest.raises(BadImage, match=r"no pixel of \(9, 9\).*dilated 0 px") as caught:
        inpaint(Telea(), texture(9, 9), np.ones((9, 9), bool))
    assert caught.value.reason == "hole_covers_image"
    with pytest.raises(BadImage, match="dilated 9 px"):
        inpaint(Telea(), texture(9, 9), square(9, 9, 1), dilate=9)


def test_dilation_is_a_disc():
    grown = dilated(square(31, 31, 1), 7)
    rows, columns = np.nonzero(grown)
    radii = np.hypot(rows - 15, columns - 15)
    assert rows.min() == 8
    assert rows.max() == 22
    assert radii.max() < 8
    assert grown.sum() == pytest.approx(np.pi * 7.5**2, rel=0.1)
    np.testing.assert_array_equal(dilated(grown, 0), grown)


@pytest.mark.parametrize(
    ("image", "hole", "dilate", "text"),
    [
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), bool), 0, r"8-bit picture \(H, W, 3\), got float32"),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), bool), 0, r"got uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), bool), 0, r"bool hole \(4, 4\).*got bool \(4, 5\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), 0, "got uint8"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), -1, "dilation of 0 px or more, got -1"),
    ],
)
def test_wrong_arguments_are_named(image, hole, dilate, text):
    with pytest.raises(UsageError, match=text):
        inpaint(Telea(), image, hole, dilate=dilate)


def test_an_inpainter_that_breaks_its_contract_is_named():
    class Halved(Noise):
        def __call__(self, image, hole, seed):
            return image[::2]

    with pytest.raises(RunError, match=r"noise must return 8-bit \(8, 8, 3\), it returned uint8 \(4, 8, 3\)"):
        inpaint(Halved(), texture(8, 8), square(8, 8, 2))


# ---- methods without weights


@pytest.mark.parametrize("method", CLASSICAL, ids=lambda m: f"{m.name}-{getattr(m, 'scale', 1)}")
def test_nothing_of_what_was_in_the_hole_seeps_out(method):
    image, hole = texture(47, 65), square(47, 65, 23)
    defaced = image.copy()
    defaced[hole] = 255 - image[hole]
    np.testing.assert_array_equal(inpaint(method, defaced, hole), inpaint(method, image, hole))


@pytest.mark.parametrize("method", CLASSICAL, ids=lambda m: f"{m.name}-{getattr(m, 'scale', 1)}")
def test_a_constant_picture_is_restored(method):
    image = np.full((48, 64, 3), (20, 120, 220), np.uint8)
    restored = inpaint(method, image, square(48, 64, 24))
    # OpenCV's Telea rounds up at every step of its march.
    assert np.abs(restored.astype(int) - image).max() <= 4


@pytest.mark.parametrize("scale", [0.5, 1])
def test_patchmatch_follows_its_seed(scale):
    image, hole = texture(64, 64), square(64, 64, 30)
    results = [inpaint(PatchMatch(scale=scale), image, hole, seed) for seed in (3, 4, 3)]
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


def test_patchmatch_keeps_texture_that_telea_smears():
    image, hole = texture(128, 128), square(128, 128, 48)
    full, half, telea = (
        texture_ratio(inpaint(m, image, hole), hole) for m in (PatchMatch(scale=1), PatchMatch(), Telea())
    )
    assert full > 0.5
    assert telea < half
    assert telea < 0.25 < full


def test_small_holes_are_filled_at_full_resolution():
    image, hole = texture(64, 64), square(64, 64, 8)
    np.testing.assert_array_equal(inpaint(PatchMatch(), image, hole), inpaint(PatchMatch(scale=1), image, hole))


# ---- names


def test_names_and_revisions_of_the_classical_methods():
    for name in ("patchmatch", "telea", "navier-stokes"):
        method = load_inpainter(name)
        assert method.name == name
        assert method.revision
    assert load_inpainter("telea").revision == f"opencv-{cv2.__version__}"


@pytest.mark.parametrize("name", ["lama", "diffusers:", "patchmatch:2"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(UsageError) as caught:
        load_inpainter(name)
    assert ", ".join(INPAINTERS) in str(caught.value)
    assert repr(name) in str(caught.value)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("sd-inpaint", "sdxl-inpaint", "flux-fill", "diffusers:some/repo"):
        with pytest.raises(MissingWeights, match="hf download"):
            load_inpainter(name, tmp_path / "given")
    with pytest.raises(MissingWeights, match="give a folder that exists"):
        load_inpainter(f"diffusers:{tmp_path / 'nowhere'}")


# ---- diffusers


@pytest.mark.slow
@pytest.mark.parametrize(
    "index",
    [None, {"_class_name": "StableDiffusionPipeline"}, {"_class_name": ["my_code", "InpaintPipeline"]}, {"a": 1}],
)
def test_a_folder_without_an_inpainting_pipeline_is_refused(tmp_path, index):
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"model_index\.json"):
        load_inpainter(f"diffusers:{tmp_path}")


def tiny_tokenizer(folder):
    """A CLIP tokenizer of single letters, written to disk and read back."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["!", *letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


@pytest.fixture(scope="module")
def tiny_pipeline(tmp_path_factory):
    """A random Stable Diffusion inpainting pipeline of a few thousand weights, saved as safetensors."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    blocks = (8, 16)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=blocks,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    text = CLIPTextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=53,
        eos_token_id=54,
        pad_token_id=54,
    )
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tiny_tokenizer(folder / "vocabulary"),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


@pytest.mark.slow
def test_a_diffusers_folder_fills_the_hole_and_follows_its_seed(tiny_pipeline):
    method = load_inpainter(f"diffusers:{tiny_pipeline}")
    method.steps = 2
    assert method.name == "diffusers:model"
    assert method.revision.startswith("sha256:")
    image, hole = texture(37, 50), square(37, 50, 15)
    results = [inpaint(method, image, hole, seed, dilate=2) for seed in (5, 6, 5)]
    allowed = dilated(hole, 2)
    np.testing.assert_array_equal(results[0][~allowed], image[~allowed])
    np.testing.assert_array_equal(results[0], results[2])
    assert (results[0] != results[1])[allowed].mean() > 0.1
    assert (results[0] != image)[allowed].mean() > 0.5


@pytest.mark.slow
def test_pipelines_work_at_multiples_and_at_the_side_they_were_trained_at(tiny_pipeline):
    sizes = []

    class Spy:
        vae_scale_factor = 8

        def __call__(self, **given):
            sizes.append((given["width"], given["height"], given["image"].size, given["mask_image"].size))
            picture = np.full((given["height"], given["width"], 3), 0.5, np.float32)
            return type("Output", (), {"images": [picture], "nsfw_content_detected": [given["prompt"] == "bad"]})

    method = DiffusersInpaint(tiny_pipeline, side=512)
    method._pipeline = Spy()
    filled = inpaint(method, texture(300, 400), square(300, 400, 100))
    assert sizes == [(512, 384, (512, 384), (512, 384))]
    assert (filled[square(300, 400, 100)] == 128).all()
    method.side = None
    inpaint(method, texture(100, 10), square(100, 10, 4))
    assert sizes[-1][:2] == (64, 128)
    method.prompt = "bad"
    with pytest.raises(BadImage, match="refused_by_safety_checker"):
        inpaint(method, texture(100, 10), square(100, 10, 4))


@pytest.mark.slow
def test_an_empty_prompt_makes_guidance_idle(tiny_pipeline):
    image, hole = texture(32, 32), square(32, 32, 12)
    without, strong = (
        inpaint(DiffusersInpaint(tiny_pipeline, steps=2, guidance=g), image, hole).astype(int) for g in (1.0, 7.5)
    )
    assert np.abs(without - strong).max() <= 1
    prompted = inpaint(DiffusersInpaint(tiny_pipeline, "a cat", steps=2, guidance=7.5), image, hole)
    assert np.abs(prompted - strong).max() > 1


@pytest.mark.slow
def test_pickled_weights_are_not_read(tiny_pipeline, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_pipeline, tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(MissingWeights, match=r"expected a complete pipeline with safetensors in .*copy"):
        DiffusersInpaint(copy)


# ---- texture ratio


def energy(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    return sum((ndimage.sobel(grey, axis, mode="mirror") / 8) ** 2 for axis in (0, 1))


@pytest.mark.parametrize("corner", [False, True])
def test_texture_ratio_is_the_ratio_of_mean_gradient_energies(corner):
    image, hole = texture(80, 90), square(80, 90, 20)
    if corner:
        hole = np.roll(hole, (-30, -35), (0, 1))
    image[hole] //= 2
    ring = ndimage.binary_dilation(hole, np.ones((25, 25))) & ~hole
    expected = (energy(image)[hole].mean() + 1) / (energy(image)[ring].mean() + 1)
    assert texture_ratio(image, hole) == pytest.approx(expected, rel=1e-5)


def test_texture_ratio_at_its_limits():
    image, hole = texture(64, 64), square(64, 64, 32)
    assert texture_ratio(image, hole) == pytest.approx(1, abs=0.2)
    smeared = image.copy()
    smeared[hole] = 128
    assert texture_ratio(smeared, hole) < 0.2
    assert texture_ratio(image, np.zeros((64, 64), bool)) == 1
    assert texture_ratio(image, np.ones((64, 64), bool)) == 1
    assert texture_ratio(np.full((64, 64, 3), 9, np.uint8), hole) == 1

"""Stable Diffusion's inpainting as a base: read as diffusers saves it, shown and sampled as its pipeline does."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models.bases import DEBUG
from layerkit.toolkit.models.sd_inpaint import (
    SD2,
    SD15,
    decode,
    encode,
    load_sd_inpaint,
    pasted,
    sample,
    save_debug,
    seen,
)
from layerkit.toolkit.models.system import Origin


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "sd"
    save_debug(folder)
    return folder


def load(base: object, **options: object):
    return load_sd_inpaint(Origin(base=str(base), **options), torch.float32)


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = torch.rand(1, 3, 16, 24), torch.zeros(1, 1, 16, 24)
    mask[..., 4:12, 6:16] = 1
    return image, mask


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_it_paints_what_the_pipeline_paints(folder: Path, guidance: float):
    base = load(folder)
    image, mask = scene()
    states, other, noise = torch.randn(1, 5, 16), torch.randn(1, 5, 16), torch.randn(1, 4, 8, 12)
    view = seen(base.vae, image, mask)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        image=image,
        mask_image=mask,
        masked_image_latents=view[:, 1:],
        height=16,
        width=24,
        latents=noise,
        prompt_embeds=states,
        negative_prompt_embeds=other,
        num_inference_steps=4,
        guidance_scale=guidance,
        output_type="pt",
    ).images
    made = decode(base.vae, sample(base, view, states, noise, steps=4, guidance=guidance, other=other)).clamp(0, 1)
    assert made.shape == image.shape
    torch.testing.assert_close(made.detach(), expected, atol=1e-4, rtol=0)


def test_what_is_masked_is_grey_unless_it_is_to_be_seen(folder: Path):
    base = load(folder)
    image, mask = scene()
    view = seen(base.vae, image, mask)
    assert view.shape == (1, 5, 8, 12)
    assert torch.equal(view[:, 1:], encode(base.vae, torch.where(mask > 0, 0.5, image)))
    assert torch.equal(view, seen(base.vae, torch.where(mask > 0, torch.rand(()), image), mask))
    shown = seen(base.vae, image, mask, hidden=False)
    assert torch.equal(shown[:, 1:], encode(base.vae, image))
    assert torch.equal(shown[:, :1], mask[..., ::2, ::2])


def test_what_is_not_masked_comes_back_to_the_bit():
    image, mask = scene()
    made = pasted(torch.full_like(image, 2.0), image, mask)
    assert torch.equal(made[mask.expand_as(made) == 0], image[mask.expand_as(image) == 0])
    assert (made[mask.expand_as(made) == 1] == 1).all()


def test_the_debug_base_is_always_the_same(folder: Path):
    random, saved = load(DEBUG), load(folder)
    assert (random.width, random.multiple) == (16, 4)
    for name, tensor in random.unet.state_dict().items():
        assert torch.equal(tensor, saved.unet.state_dict()[name])


@pytest.mark.parametrize(("base", "width"), [(SD2, 1024), (SD15, 768), ("sd15-inpaint", 768), ("", 1024)])
def test_published_bases_are_known_without_their_weights(base: str, width: int):
    loaded = load(base, meta=True)
    assert (loaded.width, loaded.multiple) == (width, 64)
    count = sum(parameter.numel() for parameter in loaded.unet.parameters())
    assert count == {1024: 865_925_124, 768: 859_535_364}[width]  # theirs


def test_what_is_no_base_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=f"give --base {SD2}"):
        load("")
    with pytest.raises(MissingWeights, match="hf download some/repo"):
        load("some/repo")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(UsageError, match="expected a StableDiffusionInpaintPipeline"):
        load(other)


def test_a_unet_that_does_not_inpaint_is_refused(folder: Path, tmp_path: Path):
    import shutil

    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    config = UNet2DConditionModel.load_config(plain / "unet")
    UNet2DConditionModel.from_config({**config, "in_channels": 4}).save_pretrained(plain / "unet")
    with pytest.raises(UsageError, match="expected a UNet of 9 channels"):
        load(plain)

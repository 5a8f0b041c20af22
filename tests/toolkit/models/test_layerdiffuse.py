"""LayerDiffuse from text to cut-out, with a tiny random SDXL pipeline in place of the real one."""

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.models.layerdiffuse import LayerDiffuseGenerator, load_generator

ATTENTION, ENCODER, DECODER = WEIGHTS["layerdiffuse-sdxl"].files
OFFSET = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(scope="module")
def weights(layerdiffuse_weights) -> Path:
    return layerdiffuse_weights


def tiny(weights: Path, layers: Path | None = None, **options) -> LayerDiffuseGenerator:
    options = {"size": (48, 32), "steps": 3, "device": "cpu", **options}
    return LayerDiffuseGenerator(weights / "layerdiffuse-sdxl-base", layers or weights / "layerdiffuse-sdxl", **options)


@pytest.fixture(scope="module")
def generator(weights) -> LayerDiffuseGenerator:
    return tiny(weights)


@pytest.fixture
def layers(weights, tmp_path) -> Path:
    """A copy of LayerDiffuse's files to spoil."""
    return Path(shutil.copytree(weights / "layerdiffuse-sdxl", tmp_path / "layers"))


# ---- pictures


def test_a_seed_and_the_texts_make_the_picture(generator):
    first = generator("a cat", 5)
    assert first.shape == (32, 48, 4)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, generator("a cat", 5))
    for other in (generator("a cat", 6), generator("two dogs", 5), generator("a cat", 5, "fur")):
        assert (other != first).mean() > 0.05


def test_there_is_no_colour_where_nothing_is_visible(generator):
    picture = generator("a cat", 5)
    empty = picture[..., 3] == 0
    assert 0.02 < empty.mean() < 0.98
    assert not picture[empty].any()
    assert picture[~empty][:, :3].any()


def test_the_generators_own_negative_is_used_where_the_call_has_none(generator, weights):
    np.testing.assert_array_equal(tiny(weights, negative="fur")("a cat", 5), generator("a cat", 5, "fur"))


def test_the_picture_is_that_of_the_released_sampler(generator):
    """DPM-Solver++ (2M) on Karras' noise levels as k-diffusion has it, on the network with its offsets."""
    import torch

    from layerkit.toolkit.models.transparent_vae import decode

    pipeline, steps, guidance = generator._pipeline, 3, 7.0
    with torch.no_grad():
        prompt, negative, pooled, pooled_negative = pipeline.encode_prompt("a cat", negative_prompt="fur")
        levels = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = torch.cumprod(1 - levels, 0).float()
        sigmas = ((1 - kept) / kept) ** 0.5
        ramp, low, high = torch.linspace(0, 1, steps), sigmas[0] ** (1 / 7), sigmas[-1] ** (1 / 7)
        schedule = torch.cat([(high + ramp * (low - high)) ** 7, torch.zeros(1)])
        sizes = torch.tensor([[32.0, 48, 0, 0, 32, 48]])

        def denoised(x, sigma):
            scaled, time = x / (sigma**2 + 1) ** 0.5, (sigmas.log() - sigma.log()).abs().argmin()
            with_prompt, without = (
                pipeline.unet(scaled, time, text, added_cond_kwargs={"text_embeds": whole, "time_ids": sizes}).sample
                for text, whole in ((prompt, pooled), (negative, pooled_negative))
            )
            return x - sigma * (without + guidance * (with_prompt - without))

        x = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(5)) * (schedule[0] ** 2 + 1) ** 0.5
        before = None
        for i, (sigma, after) in enumerate(pairwise(schedule)):
            now = denoised(x, sigma)
            ahead = now
            if before is not None and after > 0:
                ratio = (schedule[i - 1] / sigma).log() / (sigma / after).log()
                ahead = now + (now - before) / (2 * ratio)
            x = after / sigma * x + (1 - after / sigma) * ahead
            before = now
        wanted = decode(pipeline.vae, generator._decoder, x / 0.13025)[0].permute(1, 2, 0).numpy()
    picture = generator("a cat", 5, "fur")
    difference = np.abs(picture[..., 3] / 255 - wanted[..., 3])
    assert difference.max() < 0.01
    seen = picture[..., 3] > 0
    assert np.abs(picture[seen][:, :3] / 255 - wanted[seen][:, :3]).max() < 0.01


# ---- weights


def test_a_name_finds_both_parts_and_the_revision_tells_them_apart(weights, generator, layers):
    loaded = load_generator("layerdiffuse-sdxl", weights)
    assert loaded.name == "layerdiffuse-sdxl"
    assert (loaded.size, loaded.steps, loaded.guidance) == ((896, 1152), 25, 7.0)
    assert loaded.revision == generator.revision
    base, own = loaded.revision.split("+")
    offsets = load_file(layers / ATTENTION)
    save_file({name: value * 2 for name, value in offsets.items()}, layers / ATTENTION)
    changed = tiny(weights, layers).revision.split("+")
    assert changed[0] == base
    assert changed[1] != own


def test_offsets_are_added_and_no_file_is_touched(weights, generator):
    base = load_file(weights / "layerdiffuse-sdxl-base" / "unet" / "diffusion_pytorch_model.safetensors")
    offsets = load_file(weights / "layerdiffuse-sdxl" / ATTENTION)
    state = generator._pipeline.unet.state_dict()
    assert OFFSET in offsets
    for name, value in state.items():
        wanted = base[name] + offsets[name].float() if name in offsets else base[name]
        np.testing.assert_array_equal(value.numpy(), wanted.numpy())
    assert tiny(weights).revision == generator.revision


def test_offsets_for_another_network_are_listed(weights, layers):
    import torch

    offsets = load_file(layers / ATTENTION)
    save_file({**offsets, "mid_block.no.such": torch.zeros(1), OFFSET: torch.zeros(2, 3)}, layers / ATTENTION)
    with pytest.raises(UsageError) as caught:
        tiny(weights, layers)
    assert "1 unexpected: mid_block.no.such" in str(caught.value)
    assert f"1 of another shape: {OFFSET} [2, 3] for [16, 16]" in str(caught.value)
    assert "missing" not in str(caught.value)


def test_a_decoder_with_a_tensor_too_few_or_too_many_is_refused(weights, layers):
    import torch

    tensors = load_file(layers / DECODER)
    bias = tensors.pop("conv_out.bias")
    save_file(tensors, layers / DECODER)
    with pytest.raises(UsageError, match=r"1 missing: conv_out\.bias"):
        tiny(weights, layers)
    save_file({**tensors, "conv_out.bias": bias, "time.weight": torch.zeros(1)}, layers / DECODER)
    with pytest.raises(UsageError, match=r"1 unexpected: time\.weight"):
        tiny(weights, layers)


@pytest.mark.parametrize("size", [(896, 1150), (0, 32), (48, -8)])
def test_a_size_that_the_decoder_cannot_halve_is_refused(weights, size):
    with pytest.raises(UsageError, match=rf"sides that 8 divides, got {size[0]}x{size[1]} px"):
        tiny(weights, size=size)


def test_what_is_no_complete_sdxl_pipeline_is_refused(weights, tmp_path):
    base = tmp_path / "layerdiffuse-sdxl-base"
    shutil.copytree(weights / "layerdiffuse-sdxl-base", base)
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingWeights, match="expected a complete pipeline with safetensors"):
        tiny(tmp_path, weights / "layerdiffuse-sdxl")
    (base / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UsageError, match=r"expected a StableDiffusionXLPipeline in .*'StableDiffusionPipeline'"):
        tiny(tmp_path, weights / "layerdiffuse-sdxl")
    with pytest.raises(UsageError, match=r"nowhere.* has no model_index\.json"):
        tiny(tmp_path / "nowhere", weights / "layerdiffuse-sdxl")


def test_missing_weights_say_which_and_how_to_get_them(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"'layerdiffuse-sdxl-base'.*hf download SG161222/RealVisXL_V4\.0 --rev"):
        load_generator("layerdiffuse-sdxl")
    (tmp_path / "layerdiffuse-sdxl-base").symlink_to(weights / "layerdiffuse-sdxl-base")
    wanted = f"hf download lllyasviel/LayerDiffuse_Diffusers {ATTENTION} {ENCODER} {DECODER} --revision main"
    with pytest.raises(MissingWeights, match=wanted):
        load_generator("layerdiffuse-sdxl", tmp_path)


def test_an_unknown_generator_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"expected a generator \(layerdiffuse-sdxl\), got 'layerdiffuse'"):
        load_generator("layerdiffuse")


def test_the_registry_loads_no_network_library():
    code = "import sys, layerkit.toolkit.models.layerdiffuse; print({'torch', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.gpu
def test_a_seed_repeats_on_a_gpu(weights):
    generator = tiny(weights, device="cuda")
    np.testing.assert_array_equal(generator("a cat", 5), generator("a cat", 5))

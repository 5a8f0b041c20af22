"""FLUX.1-Fill as a base: read as diffusers saves it, laid out as FluxFillPipeline does."""

import json
import shutil

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import calculate_shift

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models.flux_fill import (
    PUBLISHED,
    dynamic_shift,
    load_flux_fill,
    pack,
    pack_mask,
    positions,
    shifted,
    unpack,
)
from layerkit.toolkit.models.system import Origin


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


def load(base: object, **options: object):
    return load_flux_fill(Origin(base=str(base), **options), torch.float32, "zeros", 3)


# ---- its layout


def test_latents_are_packed_as_the_pipeline_does():
    latents = torch.randn(2, 4, 6, 10)
    tokens = pack(latents)
    assert torch.equal(tokens, FluxFillPipeline._pack_latents(latents, 2, 4, 6, 10))
    assert torch.equal(unpack(tokens, 6, 10), latents)


def test_mask_and_masked_picture_are_laid_out_as_the_pipeline_does(fill):
    base = load(fill)
    names = ("scheduler", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipeline = FluxFillPipeline(vae=base.vae, transformer=base.transformer, **dict.fromkeys(names))
    mask, picture = (torch.rand(2, 1, 12, 20) > 0.5).float(), torch.randn(2, 3, 12, 20)
    generator = torch.Generator().manual_seed(0)
    arguments = (mask, picture, 2, 4, 1, 12, 20, torch.float32, torch.device("cpu"), generator)
    packed_mask, packed_latents = pipeline.prepare_mask_latents(*arguments)
    assert torch.equal(pack_mask(mask, 2), packed_mask)
    sampled = base.vae.encode(picture).latent_dist.sample(torch.Generator().manual_seed(0))
    assert torch.equal(pack((sampled - 0.06) * 1.5), packed_latents)


def test_places_are_the_pipelines_but_for_the_stream():
    expected = FluxFillPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(positions(3, 5, 0, torch.device("cpu")), expected)
    second = positions(3, 5, 1, torch.device("cpu"))
    assert torch.equal(second[:, 1:], expected[:, 1:])
    assert second[:, 0].eq(1).all()


def test_levels_move_up_as_the_pipelines_do():
    for tokens in (64, 256, 1000, 4096):
        assert dynamic_shift(tokens) == pytest.approx(calculate_shift(tokens))
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    levels = torch.linspace(0.1, 1, 10).flip(0)
    scheduler.set_timesteps(sigmas=levels.numpy(), mu=0.8)
    torch.testing.assert_close(shifted(levels, 0.8), scheduler.sigmas[:-1])


# ---- the base


def test_a_folder_gives_its_own_weights(fill):
    base = load(fill)
    own = FluxFillPipeline.from_pretrained(
        fill, text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None
    )
    for part in ("transformer", "vae"):
        for name, tensor in getattr(own, part).state_dict().items():
            assert torch.equal(getattr(base, part).state_dict()[name], tensor)
    assert base.prompt.shape == (1, 3, 32)
    assert base.pooled.shape == (1, 32)
    assert not base.prompt.any()


def test_a_dtype_holds_for_every_weight(fill):
    base = load_flux_fill(Origin(base=str(fill)), torch.bfloat16, "zeros", 3)
    tensors = [*base.transformer.parameters(), *base.vae.parameters(), base.prompt, base.pooled]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


def test_the_empty_prompt_is_encoded_by_the_bases_own_encoders(make_fill):
    folder = make_fill(encoders=True)
    base = load_flux_fill(Origin(base=str(folder)), torch.float32, "empty", 5)
    pipeline = FluxFillPipeline.from_pretrained(folder)
    with torch.no_grad():
        prompt, pooled, _ = pipeline.encode_prompt("", "", max_sequence_length=5)
    assert torch.equal(base.prompt, prompt)
    assert torch.equal(base.pooled, pooled)
    assert prompt.any()
    assert pooled.any()


def test_without_encoders_there_is_no_empty_prompt(fill):
    with pytest.raises(UsageError, match='no text encoders for text = "empty"; give text = "zeros"'):
        load_flux_fill(Origin(base=str(fill)), torch.float32)


def test_on_the_meta_device_a_folder_is_known_by_its_configuration(fill, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(fill, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    base = load(folder, meta=True)
    assert base.transformer.config.num_attention_heads == 4
    assert {tensor.device.type for tensor in (*base.vae.parameters(), base.prompt)} == {"meta"}
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(MissingWeights, match="expected the configuration of the vae"):
        load(folder, meta=True)


@pytest.mark.parametrize("base", ["", PUBLISHED, "flux-fill"])
def test_the_published_base_is_known_without_its_weights(base):
    known = load(base, meta=True)
    assert sum(parameter.numel() for parameter in known.transformer.parameters()) == 11_902_391_360
    assert sum(parameter.numel() for parameter in known.vae.parameters()) == 83_819_683
    assert known.prompt.shape == (1, 3, 4096)
    assert known.pooled.shape == (1, 768)


def test_the_debug_base_needs_no_files_and_is_always_the_same():
    state = torch.get_rng_state()
    first = load("debug")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    second = load("debug")
    for part in ("transformer", "vae"):
        one, other = getattr(first, part).state_dict(), getattr(second, part).state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert load("debug", meta=True).transformer.config == first.transformer.config
    with pytest.raises(UsageError, match="the base debug has no text encoders"):
        load_flux_fill(Origin(base="debug"), torch.float32)


def test_what_is_not_here_is_asked_for():
    with pytest.raises(UsageError, match=f"give --base {PUBLISHED}"):
        load("")
    for name in (PUBLISHED, "flux-fill"):
        with pytest.raises(MissingWeights, match=f"hf download {PUBLISHED}"):
            load(name)
    for meta in (False, True):
        with pytest.raises(MissingWeights, match="hf download somebody/else"):
            load("somebody/else", meta=meta)


def test_a_base_in_the_hub_cache_is_found_by_its_name(fill, tmp_path):
    repo = tmp_path / "hub" / f"models--{PUBLISHED.replace('/', '--')}"
    shutil.copytree(fill, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    assert load(PUBLISHED).transformer.config.num_attention_heads == 4


def test_an_incomplete_base_is_told(fill, tmp_path):
    folder = tmp_path / "part"
    shutil.copytree(fill, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(MissingWeights, match="expected a complete FluxTransformer2DModel with safetensors"):
        load(folder)


def test_another_pipeline_is_refused(fill, make_fill, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(fill, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(UsageError, match=r"expected a FluxFillPipeline in .* names 'FluxPipeline'"):
        load(folder)
    with pytest.raises(UsageError, match=r"has no model_index\.json"):
        load(tmp_path)
    with pytest.raises(UsageError, match=r"expected a transformer of 48 channels in .* got 16; give a base that fills"):
        load(make_fill(in_channels=16))

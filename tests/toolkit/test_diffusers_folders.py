"""Folders of diffusers: found by path or name, read part by part, and told apart by what they say they are."""

import json

import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.diffusers_folders import expect_pipeline, find_folder, inpainting_name, load_part


@pytest.fixture
def vae(tmp_path):
    """A pipeline's folder with a tiny random VAE in half precision."""
    from diffusers import AutoencoderKL

    AutoencoderKL(block_out_channels=(4,), norm_num_groups=1).half().save_pretrained(tmp_path / "vae")
    return tmp_path


def names(folder, kind: object):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def test_a_folder_or_a_snapshot_of_the_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MissingWeights, match=rf"in the hub cache {tmp_path}; run: hf download some/repo --revision main"
    ):
        find_folder("some/repo")
    repo = tmp_path / "models--some--repo"
    (repo / "snapshots" / "0123abcd").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123abcd")
    assert find_folder("some/repo") == repo / "snapshots" / "0123abcd"
    assert find_folder(str(repo)) == repo
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "repo").mkdir(parents=True)
    assert find_folder("some/repo").resolve() == tmp_path / "some" / "repo"
    for source in (str(tmp_path / "nowhere"), "./some/where", "nowhere"):
        with pytest.raises(MissingWeights, match=rf"no folder {source}, .*; give a folder that exists"):
            find_folder(source)


@pytest.mark.slow
def test_a_part_is_read_as_float32_unless_asked_otherwise(vae):
    import torch

    assert load_part("AutoencoderKL", vae / "vae").dtype == torch.float32
    assert load_part("AutoencoderKL", vae / "vae", dtype=torch.float16).dtype == torch.float16


@pytest.mark.slow
def test_a_part_that_is_not_complete_is_named(vae):
    expected = "expected a complete AutoencoderKL with safetensors in"
    weights = vae / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(MissingWeights, match=f"{expected} {vae / 'vae'}: "):
        load_part("AutoencoderKL", vae / "vae")
    with pytest.raises(MissingWeights, match=f"{expected} {vae / 'no'}, which is no folder"):
        load_part("AutoencoderKL", vae / "no")
    with pytest.raises(MissingWeights, match=f"expected a complete pipeline with safetensors in {vae}: "):
        load_part("StableDiffusionPipeline", vae)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "Nothing", ["my_code", "FluxFillPipeline"]])
def test_a_folder_that_names_no_pipeline_of_diffusers(tmp_path, kind):
    with pytest.raises(UsageError, match=rf"{tmp_path} has no model_index\.json"):
        inpainting_name(tmp_path)
    with pytest.raises(UsageError, match=r"expected a pipeline of diffusers, but .*model_index\.json names"):
        inpainting_name(names(tmp_path, kind))


@pytest.mark.slow
def test_pipelines_are_told_apart_by_their_names(tmp_path):
    assert inpainting_name(names(tmp_path, "FluxFillPipeline")) == "FluxFillPipeline"
    expect_pipeline(tmp_path, "FluxFillPipeline")
    with pytest.raises(UsageError, match=rf"expected a FluxPipeline in {tmp_path}, but .* names 'FluxFillPipeline'"):
        expect_pipeline(tmp_path, "FluxPipeline")
    with pytest.raises(UsageError, match=r"expected an inpainting pipeline of diffusers, but .* names FluxPipeline"):
        inpainting_name(names(tmp_path, "FluxPipeline"))

"""LayerFusion on a tiny random SDXL: three streams of one network against networks of their own."""

import shutil
import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.edit import Edit, edited, recomposed
from layerkit.toolkit.generation import checked_generator
from layerkit.toolkit.generators import load
from layerkit.toolkit.generators.options import Options
from layerkit.toolkit.models.layerdiffuse import LayerDiffuseGenerator, sdxl_pipeline
from layerkit.toolkit.models.layerfusion import LayerFusionGenerator, load_layerfusion
from layerkit.toolkit.models.layerfusion_attention import execution_order, foreground_weights, fuse, last_self_attention
from layerkit.toolkit.models.layerfusion_options import FusionOptions
from layerkit.toolkit.models.layerfusion_streams import Texts, sample

ATTENTION, _, DECODER = WEIGHTS["layerdiffuse-sdxl"].files
CAT = Prompt("a cat in a garden", foreground="a cat", background="a garden", negative="fur")
DOG = Prompt("dogs on snow", foreground="two dogs", background="snow")
APART = FusionOptions(priors="none", sharing="off")


def tiny(weights: Path, layers: Path | None = None, **options) -> LayerFusionGenerator:
    options = {"size": (48, 32), "steps": 3, "device": "cpu", **options}
    return LayerFusionGenerator(weights / "layerdiffuse-sdxl-base", layers or weights / "layerdiffuse-sdxl", **options)


@pytest.fixture(scope="module")
def weights(layerdiffuse_weights, tmp_path_factory) -> Path:
    """With attention that looks at some tokens more than at others, which that of a random network hardly does."""
    folder = Path(shutil.copytree(layerdiffuse_weights, tmp_path_factory.mktemp("fusion"), dirs_exist_ok=True))
    path = folder / "layerdiffuse-sdxl-base" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({name: value * (4 if ".attn" in name else 1) for name, value in tensors.items()}, path)
    return folder


@pytest.fixture(scope="module")
def generator(weights) -> LayerFusionGenerator:
    return tiny(weights)


@pytest.fixture
def choose(weights):
    """The generator with options."""
    return lambda **options: tiny(weights, options=FusionOptions(**options))


def far(a: np.ndarray, b: np.ndarray) -> float:
    """The share of values that differ visibly; what rounds differently does not."""
    return float((np.abs(a.astype(int) - b.astype(int)) > 2).mean())


def near(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a.astype(int), b.astype(int), atol=1)


# ---- the network


def test_the_last_self_attention_is_the_one_that_runs_last(weights):
    unet = sdxl_pipeline(weights / "layerdiffuse-sdxl-base").unet
    registered = [name.removesuffix(".processor") for name in unet.attn_processors]
    ran = execution_order(unet)
    assert sorted(ran) == sorted(registered)
    assert registered[-1].startswith("mid_block")
    assert last_self_attention(unet) == "up_blocks.0.attentions.1.transformer_blocks.0.attn1"
    real = []
    for name, module in unet.named_modules():
        if name in ran:
            module.register_forward_pre_hook(lambda *_, name=name: real.append(name))
    sizes = {"text_embeds": torch.zeros(1, 8), "time_ids": torch.zeros(1, 6)}
    unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 3, 16), added_cond_kwargs=sizes)
    assert ran == real


def streams_of(weights: Path, options: FusionOptions, soft: torch.Tensor | None):
    """The guess of one forward of all streams, (2, 3, 1, 4, 5, 6), and those of the plain and of the merged network."""
    base, layers = weights / "layerdiffuse-sdxl-base", weights / "layerdiffuse-sdxl"
    draws = torch.Generator().manual_seed(0)
    x, text = torch.randn(6, 4, 5, 6, generator=draws), torch.randn(6, 7, 16, generator=draws)
    added = {"text_embeds": torch.randn(6, 8, generator=draws), "time_ids": torch.ones(6, 6)}
    merged = LayerDiffuseGenerator(base, layers, size=(48, 32), device="cpu")._pipeline.unet
    unet = sdxl_pipeline(base).unet
    with torch.no_grad():
        plain, alone = (net(x, 7, text, added_cond_kwargs=added).sample for net in (unet, merged))
        own = foreground_weights(unet, load_file(layers / ATTENTION), layers / ATTENTION)
        fusion = fuse(unet, options, own)
        fusion.begin((5, 6), torch.tensor([3]), 2)
        fusion.soft = soft
        fused = unet(x, 7, text, added_cond_kwargs=added).sample
    return (each.unflatten(0, (2, 3, 1)) for each in (fused, plain, alone))


def test_offsets_reach_the_foregrounds_rows_alone(weights):
    fused, plain, alone = streams_of(weights, APART, None)
    torch.testing.assert_close(fused[:, 0], alone[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused[:, 1:], plain[:, 1:], atol=1e-5, rtol=1e-4)
    assert (alone[:, 0] - plain[:, 0]).abs().mean() > 0.01


def test_an_empty_mask_leaves_the_streams_and_a_full_one_joins_them(weights):
    hard = FusionOptions(sharing="off", decision=inf)
    fused, plain, alone = streams_of(weights, hard, torch.zeros(1, 3, 3))
    torch.testing.assert_close(fused[:, 0], alone[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused[:, 1:], plain[:, 1:], atol=1e-5, rtol=1e-4)
    fused, plain, alone = streams_of(weights, hard, torch.ones(1, 3, 3))
    torch.testing.assert_close(fused[:, 2], plain[:, 2], atol=1e-5, rtol=1e-4)
    assert (fused[:, 1] - plain[:, 1]).abs().mean() > 0.01


def test_sharing_changes_those_who_share(weights):
    apart, blended, joint = (
        next(streams_of(weights, FusionOptions(sharing=sharing), None)) for sharing in ("off", "blended", "joint")
    )
    for made, changed in ((blended, [False, True, False]), (joint, [False, True, True])):
        moved = (made - apart).abs().mean((0, 2, 3, 4, 5)) > 1e-4
        assert moved.tolist() == changed


def test_offsets_of_other_layers_are_refused(weights, tmp_path):
    unet = sdxl_pipeline(weights / "layerdiffuse-sdxl-base").unet
    path = weights / "layerdiffuse-sdxl" / ATTENTION
    kept = load_file(path)
    others = {"conv_in.weight": torch.zeros(8, 4, 3, 3), "mid_block.attentions.0.proj_in.bias": torch.zeros(16)}
    with pytest.raises(
        UsageError, match=r"attention projections .* got conv_in\.weight, mid_block\.attentions\.0\.proj"
    ):
        foreground_weights(unet, {**kept, **others}, path)
    with pytest.raises(UsageError, match=r"1 unexpected: no\.such\.attn1\.to_q\.weight"):
        foreground_weights(unet, {**kept, "no.such.attn1.to_q.weight": torch.zeros(1)}, path)


def test_a_network_with_other_attention_is_refused():
    from diffusers import UNet2DConditionModel

    blocks = {"down_block_types": ("AttnDownBlock2D",), "up_block_types": ("AttnUpBlock2D",)}
    unet = UNet2DConditionModel(block_out_channels=(8,), norm_num_groups=4, cross_attention_dim=8, **blocks)
    with pytest.raises(UsageError, match=r"transformer blocks alone, as SDXL's, got \['down_blocks\.0\.attentions\.0'"):
        fuse(unet, FusionOptions(), {})


def test_it_runs_on_the_whole_of_sdxl_without_its_weights():
    """896 x 1152 px with guidance, on the meta device: every shape of the real network, none of its numbers."""
    from diffusers import UNet2DConditionModel

    sdxl = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel(**sdxl)
        assert round(sum(p.numel() for p in unet.parameters()) / 1e6) == 2567
        assert last_self_attention(unet) == "up_blocks.1.attentions.2.transformer_blocks.1.attn1"
        fusion = fuse(unet, FusionOptions(), {})
        fusion.begin((144, 112), torch.zeros(1, dtype=torch.long), 2)
        added = {"text_embeds": torch.zeros(6, 1280), "time_ids": torch.zeros(6, 6)}
        given = torch.zeros(6, 4, 144, 112), torch.zeros(()), torch.zeros(6, 77, 2048)
        unet(*given, added_cond_kwargs=added)
        assert fusion.renew().shape == (1, 72, 56)
        assert unet(*given, added_cond_kwargs=added).sample.shape == (6, 4, 144, 112)


# ---- the sampler


def test_masks_are_those_of_the_foregrounds_own_attention(weights):
    """Read off by hooks on the network with its offsets, one pass of the foreground with its text."""
    base, layers = weights / "layerdiffuse-sdxl-base", weights / "layerdiffuse-sdxl"
    draws = torch.Generator().manual_seed(0)
    x, text = torch.randn(3, 1, 4, 6, 4, generator=draws), torch.randn(6, 7, 16, generator=draws)
    added = {"text_embeds": torch.randn(6, 8, generator=draws), "time_ids": torch.ones(6, 6)}
    merged = LayerDiffuseGenerator(base, layers, size=(48, 32), device="cpu")._pipeline
    seen, block = {}, merged.unet.up_blocks[0].attentions[1].transformer_blocks[0]
    for name in ("attn1", "attn2"):
        for part in ("to_q", "to_k"):
            getattr(getattr(block, name), part).register_forward_hook(
                lambda _, __, out, key=name + part: seen.update({key: out})
            )
    pipeline = sdxl_pipeline(base)
    own = foreground_weights(pipeline.unet, load_file(layers / ATTENTION), layers / ATTENTION)
    texts = Texts(states=text, added=added, eos=torch.tensor([4]))
    masks = {}
    for timing in ("previous", "prepass"):
        fusion = fuse(pipeline.unet, FusionOptions(timing=timing), own)
        masks[timing] = sample(pipeline.unet, pipeline.scheduler, x, texts, fusion, steps=2, guidance=7.0).masks[0]
    merged.scheduler.set_timesteps(2)
    t = merged.scheduler.timesteps[0]
    scaled = merged.scheduler.scale_model_input(x[0] * merged.scheduler.init_noise_sigma, t)
    with torch.no_grad():
        merged.unet(scaled, t, text[3:4], added_cond_kwargs={name: rows[3:4] for name, rows in added.items()})

    def probabilities(name, heads):
        q, k = (seen[name + part][0].unflatten(-1, (heads, -1)).movedim(1, 0) for part in ("to_q", "to_k"))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(0)

    s, c = 1 / (probabilities("attn1", 4) ** 2).sum(-1), probabilities("attn2", 4)[:, 4]
    product = (1 - (s - s.min()) / (s.max() - s.min())) * c
    wanted = ((product - product.min()) / (product.max() - product.min())).view(1, 3, 2)
    for made in masks.values():
        torch.testing.assert_close(made, wanted, atol=2e-3, rtol=1e-3)


def test_streams_apart_are_those_of_the_pipelines(choose, weights):
    """Without blending and sharing: LayerDiffuse, and the SDXL pipeline itself."""
    generator = choose(priors="none", sharing="off")
    (made,) = generator.fused([CAT], [5])
    cutouts = LayerDiffuseGenerator(
        weights / "layerdiffuse-sdxl-base", weights / "layerdiffuse-sdxl", size=(48, 32), steps=3, device="cpu"
    )
    near(made.foreground, cutouts("a cat", 5, "fur"))
    pipeline = sdxl_pipeline(weights / "layerdiffuse-sdxl-base")
    noise = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(5))
    for layer, text in ((made.background, "a garden"), (made.blend, "a cat in a garden")):
        settings = {"num_inference_steps": 3, "guidance_scale": 7.0, "width": 48, "height": 32, "output_type": "np"}
        wanted = pipeline(prompt=text, negative_prompt="fur", latents=noise, **settings).images[0]
        near(layer, (wanted * 255).round())
    assert not made.masks.any()


def test_blending_and_its_variants_reach_the_picture(choose):
    (plain,) = choose(priors="none").fused([CAT], [5])
    made = {"default": choose(priors="both").fused([CAT], [5])[0]}
    variants = [
        {"priors": "self"},
        {"priors": "cross"},
        {"polarity": "dense"},
        {"content": "all"},
        {"decision": inf},
        {"order": "original"},
        {"timing": "prepass"},
        {"noise": "independent"},
        {"sharing": "off"},
        {"sharing": "joint"},
    ]
    for variant in variants:
        made[str(variant)] = choose(**variant).fused([CAT], [5])[0]
    layers = {name: np.concatenate([one.foreground[..., :3], one.blend]) for name, one in made.items()}
    assert far(plain.blend, made["default"].blend) > 0.02
    for name, layer in layers.items():
        assert name == "default" or far(layer, layers["default"]) > 0.005, name
    for one in made.values():
        assert one.masks.shape == (3, 2, 3)
        assert one.masks.dtype == np.float32
        np.testing.assert_allclose(one.masks.min((1, 2)), 0)
        np.testing.assert_allclose(one.masks.max((1, 2)), 1)


# ---- pictures


def test_a_seed_and_the_texts_make_the_layers(generator):
    made = generator.fused([CAT], [5])[0]
    assert made.foreground.shape == (32, 48, 4)
    again = checked_generator(generator)([CAT], [5])[0]
    for name in ("foreground", "background", "blend"):
        np.testing.assert_array_equal(getattr(made, name), getattr(again, name))
        assert far(getattr(made, name), getattr(generator([CAT], [6])[0], name)) > 0.05
    plain = generator([Prompt(CAT.prompt)], [5])[0]
    spelt = generator(
        [Prompt(CAT.prompt, foreground=CAT.prompt, background=CAT.prompt, negative=generator.negative)], [5]
    )
    np.testing.assert_array_equal(plain.background, spelt[0].background)
    assert far(plain.background, made.background) > 0.05


@pytest.mark.parametrize("timing", ["previous", "prepass"])
def test_a_batch_is_its_prompts_one_by_one(choose, timing, monkeypatch):
    """In float64: a random network makes much of what a pass of one row rounds otherwise than one of two."""
    monkeypatch.setattr("layerkit.toolkit.models.layerfusion.placement", lambda device: ("cpu", torch.float64))
    generator = choose(timing=timing)
    single = [generator.fused([prompt], [seed])[0] for prompt, seed in ((CAT, 5), (DOG, 6), (CAT, 7))]
    monkeypatch.setattr(generator, "batch", 2)
    batch = generator.fused([CAT, DOG, CAT], [5, 6, 7])
    for one, alone in zip(batch, single, strict=True):
        for name in ("foreground", "background", "blend"):
            near(getattr(one, name), getattr(alone, name))
        np.testing.assert_allclose(one.masks, alone.masks, atol=1e-3)
    assert generator.fused([], []) == []


def test_the_background_does_not_see_the_foreground_unless_they_share(choose):
    other = replace(CAT, foreground="a red bus")
    for sharing, equal in (("off", True), ("blended", True), ("joint", False)):
        generator = choose(sharing=sharing)
        one, two = (generator.fused([prompt], [5])[0] for prompt in (CAT, other))
        assert np.array_equal(one.background, two.background) is equal
        assert far(one.blend, two.blend) > 0


def test_without_guidance_there_is_one_half(generator, monkeypatch):
    guided = generator.fused([CAT], [5])[0]
    monkeypatch.setattr(generator, "guidance", 1.0)
    rows = []
    hook = generator._pipeline.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    made = generator.fused([CAT], [5])[0]
    hook.remove()
    assert rows == [3, 3, 3]
    assert far(made.blend, guided.blend) > 0.02


@pytest.mark.parametrize("size", [(40, 24), (24, 56)])
def test_a_size_with_odd_grids_works(weights, size):
    made = tiny(weights, size=size, options=FusionOptions(content="all")).fused([CAT], [5])[0]
    assert made.blend.shape == (size[1], size[0], 3)
    latent = size[1] // 8, size[0] // 8
    assert made.masks.shape[1:] == tuple(-(-side // 2) for side in latent)
    assert made.masks.any()


def test_the_layers_can_be_edited(generator):
    made = generator.fused([CAT], [5])[0]
    np.testing.assert_array_equal(recomposed(made.foreground, made.background), made.image)
    moved = edited(made.foreground, Edit(move=(0.25, 0)))
    np.testing.assert_array_equal(moved[:, 12:], made.foreground[:, :-12])
    scene = recomposed(moved, made.background)
    np.testing.assert_array_equal(scene[:, :12], made.background[:, :12])
    assert far(scene, made.image) > 0.05
    small = edited(made.foreground, Edit(scale=0.5))
    assert (small[..., 3] > 0).sum() < (made.foreground[..., 3] > 0).sum() / 2


# ---- weights


def test_the_loader_finds_both_parts(weights):
    loaded = load_layerfusion(weights, device="cpu")
    assert (loaded.name, loaded.has_background) == ("layerfusion-sdxl", True)
    assert (loaded.size, loaded.steps, loaded.guidance) == ((896, 1152), 25, 7.0)
    assert loaded.licence == "openrail++, openrail"
    assert loaded.options == FusionOptions()
    assert loaded.revision == tiny(weights).revision


def test_by_name_pictures_are_drawn_as_many_at_a_time_as_a_call_asks_for(weights, monkeypatch):
    loaded = load("layerfusion", Options(weights=weights, size=(64, 64), device="cpu"))
    asked = []
    monkeypatch.setattr(loaded.inner, "_drawn", lambda prompts, seeds: asked.append(list(seeds)) or [])
    loaded.inner([CAT, DOG, CAT], [5, 6, 7])
    assert asked == [[5, 6, 7]]


def test_what_does_not_fit_is_refused(weights, tmp_path, generator):
    with pytest.raises(UsageError, match="sides that 8 divides, got 48x30 px"):
        tiny(weights, size=(48, 30))
    with pytest.raises(UsageError, match="expected a seed for each of 2 prompts, got 1"):
        generator([CAT, DOG], [1])
    with pytest.raises(UsageError, match=r"nowhere.* has no model_index\.json"):
        tiny(tmp_path / "nowhere", weights / "layerdiffuse-sdxl")
    layers = Path(shutil.copytree(weights / "layerdiffuse-sdxl", tmp_path / "layers"))
    save_file({"conv_in.bias": torch.zeros(8)}, layers / ATTENTION)
    with pytest.raises(UsageError, match=r"got conv_in\.bias"):
        tiny(weights, layers)
    (layers / DECODER).unlink()
    with pytest.raises(UsageError, match=r"expected safetensors in .*decoder"):
        tiny(weights, layers)


def test_missing_weights_say_which_and_how_to_get_them(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"'layerdiffuse-sdxl-base'.*hf download SG161222/RealVisXL_V4\.0 --rev"):
        load_layerfusion()
    (tmp_path / "layerdiffuse-sdxl-base").symlink_to(weights / "layerdiffuse-sdxl-base")
    with pytest.raises(MissingWeights, match=r"hf download lllyasviel/LayerDiffuse_Diffusers "):
        load_layerfusion(tmp_path)


def test_the_module_loads_no_network_library():
    code = "import sys, layerkit.toolkit.models.layerfusion; print({'torch', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Published models with tiny random networks in place of the real ones, saved to disk and loaded by the same path."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import BadImage, MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit import diffusers_folders
from layerkit.toolkit.decomposers import load, pipelines_diffusers
from layerkit.toolkit.decomposers.attentive_eraser import RedirectedAttention, blurred_over
from layerkit.toolkit.decomposers.pipelines_diffusers import PUBLISHED, PipelineRemover, Published
from layerkit.toolkit.decomposers.qwen_layered import QwenLayered, matched
from layerkit.toolkit.decomposers.resizing import resized, resized_mask
from layerkit.toolkit.models import layerdiffuse_conditional
from layerkit.toolkit.models.sdxl_offsets import diffusers_name, widen

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIDE = 64
RNG = np.random.default_rng(0)
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 2)
MASK = np.zeros((60, 80), bool)
MASK[20:40, 30:50] = True


# ---- tiny pipelines


def tokenizer(folder: Path, learned: list[str] = []):  # noqa: B006 - never changed
    from transformers import CLIPTokenizer

    words = ["!", *LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    made.add_tokens(learned)
    return made


def text_config(size: int = 64):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=8,
        bos_token_id=53,
        eos_token_id=54,
        pad_token_id=54,
    )


def vae(levels: int = 2):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.13025,
    )


def unet(channels: int, *, xl: bool = False):
    from diffusers import UNet2DConditionModel

    more = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 8,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        cross_attention_dim=16 if xl else 8,
        norm_num_groups=4,
        **(more if xl else {}),
    )


SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def save_sd(folder: Path, kind: str, channels: int, learned: list[str] = []) -> None:  # noqa: B006
    import diffusers
    from transformers import CLIPTextModel

    getattr(diffusers, kind)(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(64 + len(learned))),
        tokenizer=tokenizer(folder / "vocabulary", learned),
        unet=unet(channels),
        scheduler=diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_sdxl(folder: Path, kind: str, channels: int, levels: int = 2) -> None:
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    getattr(diffusers, kind)(
        vae=vae(levels),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(folder / "vocabulary" / "1"),
        tokenizer_2=tokenizer(folder / "vocabulary" / "2"),
        unet=unet(channels, xl=True),
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading"),
    ).save_pretrained(folder)


def save_controlnet(folder: Path) -> None:
    import torch
    from diffusers import ControlNetModel

    network = ControlNetModel.from_unet(unet(4), conditioning_embedding_out_channels=(16, 16))
    for block in network.controlnet_down_blocks:
        torch.nn.init.normal_(block.weight)
    network.half().save_pretrained(folder, variant="fp16")


def save_flux(folder: Path) -> None:
    import diffusers
    from tokenizers import Tokenizer, models
    from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    diffusers.FluxFillPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(folder / "vocabulary"),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
        ),
        tokenizer_2=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>"),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(4,),
            latent_channels=2,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
        ),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=20,
            out_channels=8,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    ).save_pretrained(folder)


def save_qwen(folder: Path) -> None:
    import diffusers
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    letters = {letter: index for index, letter in enumerate(["<|endoftext|>", *sorted(ByteLevel.alphabet())])}
    words = transformers.Qwen2Tokenizer(vocab=letters, merges=[])
    narrow = {"hidden_size": 16, "intermediate_size": 16}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_parameters": rope}
    encoder = transformers.Qwen2_5_VLConfig(
        text_config={"vocab_size": 300, "bos_token_id": None, "eos_token_id": 0, **narrow, **heads},
        vision_config={"depth": 1, "num_heads": 2, "out_hidden_size": 16, **narrow},
    )
    diffusers.QwenImageLayeredPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=8,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            input_channels=4,
            latents_mean=[0.0] * 8,
            latents_std=[1.0] * 8,
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(encoder),
        tokenizer=words,
        processor=transformers.Qwen2VLProcessor(
            image_processor=transformers.Qwen2VLImageProcessor(),
            tokenizer=words,
            video_processor=transformers.Qwen2VLVideoProcessor(),
        ),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=32,
            out_channels=8,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
            use_additional_t_cond=True,
            use_layer3d_rope=True,
        ),
    ).save_pretrained(folder)


LEARNED = [f"{task}_{index}" for task, index in product(("P_ctxt", "P_shape", "P_obj"), range(10))]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A --weights folder of random networks of a few thousand weights each."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_sd(folder / "sd-inpaint", "StableDiffusionInpaintPipeline", 9)
    save_sd(folder / "powerpaint", "StableDiffusionInpaintPipeline", 9, LEARNED)
    save_sd(folder / "sd15", "StableDiffusionPipeline", 4)
    save_controlnet(folder / "controlnet-inpaint")
    save_sdxl(folder / "sdxl-inpaint", "StableDiffusionXLInpaintPipeline", 9)
    save_sdxl(folder / "rorem", "StableDiffusionXLInpaintPipeline", 9)
    save_sdxl(folder / "sdxl-base", "StableDiffusionXLPipeline", 4)
    save_flux(folder / "flux-fill")
    return folder


@pytest.fixture
def small(monkeypatch):
    """The published calls at a side and a number of steps that a test has time for."""
    for name, row in PUBLISHED.items():
        few = {**row.call, "num_inference_steps": 3}
        monkeypatch.setitem(PUBLISHED, name, replace(row, native=SIDE, call=few))


def run(model, seed: int = 0, image: np.ndarray = IMAGE, mask: np.ndarray = MASK):
    return model(image, mask, np.random.default_rng(seed), "case")


# ---- every published call


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_loads_runs_and_follows_its_generator(name, weights, small):
    model = load(name, weights)
    assert (model.name, model.needs, model.is_random) == (name, {"mask"}, True)
    assert model.revision.count("sha256:") == len(PUBLISHED[name].weights)
    first, other, again = (run(model, seed) for seed in (5, 6, 5))
    assert first.foreground is None
    np.testing.assert_array_equal(first.background, again.background)
    assert not np.array_equal(first.background, other.background)


@pytest.mark.slow
def test_any_inpainting_folder_runs_at_the_size_of_the_picture(weights):
    model = load(f"diffusers:{weights / 'sd-inpaint'}")
    model.inner.method._call["num_inference_steps"] = 2
    assert (model.licence, model.native) == ("unknown", 0)
    assert model.inner.method.working_size(60, 80) == (64, 80)
    assert run(model).background.shape == IMAGE.shape
    with pytest.raises(UsageError, match=r"inpainting pipeline.*names StableDiffusionXLPipeline"):
        load(f"diffusers:{weights / 'sdxl-base'}")


@pytest.mark.slow
@pytest.mark.parametrize("index", [None, {"_class_name": ["my_code", "InpaintPipeline"]}, {"_class_name": "Nothing"}])
def test_folders_that_name_no_pipeline_of_diffusers(tmp_path, index):
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"model_index\.json"):
        load(f"diffusers:{tmp_path}")


@pytest.mark.slow
def test_pickles_are_not_read(weights, tmp_path):
    import shutil

    copy = shutil.copytree(weights / "sd-inpaint", tmp_path / "sd-inpaint")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(MissingWeights, match="expected a complete pipeline with safetensors"):
        load("sd-inpaint", tmp_path)


@pytest.mark.slow
def test_powerpaint_wants_its_learned_tokens_and_gives_each_its_place(weights, small, tmp_path):
    model = load("powerpaint", weights)
    pipeline = model.inner.method._pipeline
    ids = pipeline.tokenizer(model.inner.method._call["negative_prompt"]).input_ids
    assert ids[1:-1] == [pipeline.tokenizer.get_vocab()[f"P_obj_{index}"] for index in range(10)]
    (tmp_path / "powerpaint").symlink_to(weights / "sd-inpaint")
    with pytest.raises(UsageError, match=r"learned tokens in the tokenizer, P_ctxt_0, .*P_obj_9 are missing"):
        load("powerpaint", tmp_path)


@pytest.mark.slow
def test_a_prompt_replaces_the_published_one_and_brings_guidance_back(weights, small):
    models = [load("sd-inpaint", weights, prompt=prompt) for prompt in ("", "a cat")]
    assert models[1].revision == f"{models[0].revision} prompt 'a cat'"
    plain, prompted = (model.inner.method._call for model in models)
    assert (plain["prompt"], plain["guidance_scale"]) == ("", 1.0)
    assert (prompted["prompt"], prompted["guidance_scale"]) == ("a cat", 7.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, "layerdiffuse-bgble2fg", "layerdiffuse-fgble2bg"])
def test_models_run_in_the_type_that_a_gpu_runs_them_in(name, weights, layer_weights, small, monkeypatch):
    import torch

    for module in (diffusers_folders, layerdiffuse_conditional):
        monkeypatch.setattr(module, "placement", lambda device: ("cpu", torch.bfloat16))
    model = load(name, layer_weights if name.startswith("layer") else weights, prompt="a")
    method = model.inner.method
    pipeline = method._draw.pipeline if name.startswith("layer") else method._pipeline
    assert pipeline.vae.dtype == torch.bfloat16
    if name.startswith("layer"):
        method._native = SIDE
    assert run(model).background.std() > 0


# ---- what a pipeline is given


class Spy:
    """A pipeline that writes down what it is given and paints everything mid grey."""

    vae_scale_factor = 8

    def __init__(self) -> None:
        self.given = {}

    def __call__(self, **given):
        self.given = given
        picture = np.full((given["height"], given["width"], 3), 0.5, np.float32)
        return type("Output", (), {"images": [picture], "nsfw_content_detected": [given["prompt"] == "bad"]})


@pytest.mark.parametrize(
    ("fit", "native", "size"),
    [("longer", 512, (512, 384)), ("shorter", 640, (832, 640)), ("square", 512, (512, 512)), ("longer", 0, (384, 320))],
)
def test_the_working_size_and_back(fit, native, size):
    spy = Spy()
    model = PipelineRemover(spy, Published(weights=(), native=native, fit=fit), "1")
    image, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), bool)
    mask[100:200, 100:200] = True
    result = model(image, mask, np.random.default_rng(0))
    assert (spy.given["width"], spy.given["height"]) == size == spy.given["image"].size == spy.given["mask_image"].size
    assert np.unique(np.asarray(spy.given["mask_image"])).tolist() == [0, 255]
    assert result.background.shape == image.shape
    assert (result.background == 128).all()


def test_rorem_dilates_at_its_working_size():
    spy = Spy()
    mask = np.zeros((512, 512), bool)
    mask[200:220, 300:310] = True
    PipelineRemover(spy, PUBLISHED["rorem"], "1")(np.zeros((512, 512, 3), np.uint8), mask, np.random.default_rng(0))
    rows, columns = np.nonzero(np.asarray(spy.given["mask_image"]))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (39, 29)
    assert spy.given["strength"] == 0.99


def test_a_refused_result_is_a_drop():
    model = PipelineRemover(Spy(), Published(weights=(), native=0), "1", prompt="bad")
    with pytest.raises(BadImage, match="refused_by_safety_checker"):
        model(IMAGE, MASK, np.random.default_rng(0))


def test_controlnet_is_shown_minus_one_in_the_hole():
    spy = Spy()
    method = PipelineRemover(spy, replace(PUBLISHED["controlnet-inpaint"], native=0), "1")
    image, mask = np.full((64, 64, 3), 51, np.uint8), np.eye(64, dtype=bool)
    method(image, mask, np.random.default_rng(0))
    control = spy.given["control_image"][0].numpy()
    assert (control[:, mask] == -1).all()
    np.testing.assert_allclose(control[:, ~mask], 0.2, atol=1e-6)


def test_masks_are_resized_by_the_nearest_pixel():
    mask = np.random.default_rng(0).random((32, 32)) < 0.5
    np.testing.assert_array_equal(resized_mask(mask, (64, 96)), np.kron(mask, np.ones((2, 3))))
    assert set(np.unique(resized_mask(mask, (45, 21)))) == {0, 1}
    assert resized(IMAGE, (60, 80)) is IMAGE
    assert resized(IMAGE, (30, 50)).shape == (30, 50, 3)


# ---- Attentive Eraser


def attention(seed: int = 0):
    import torch
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(seed)
    return Attention(query_dim=8, heads=2, dim_head=4).eval()


def reference(layer, tokens, hole, scale):
    """The repository's form of the attention for one sample: similarities scaled and masked, then the softmax."""
    import torch

    query, key, value = (f(tokens).view(-1, 2, 4).transpose(0, 1) for f in (layer.to_q, layer.to_k, layer.to_v))
    similar = query @ key.transpose(1, 2) * layer.scale
    away = torch.where(hole, torch.finfo(similar.dtype).min, 0.0)
    of_background, of_object = ((similar * factor + away).softmax(-1) @ value for factor in (1.0, scale))
    mixed = torch.where(hole[None, :, None], of_object, of_background)
    return layer.to_out[0](mixed.transpose(0, 1).reshape(-1, 8))


@pytest.mark.parametrize("step", [0, 9, 10])
def test_redirected_attention_is_the_published_one(step):
    import torch

    layer, hole = attention(), np.zeros((16, 16), np.uint8)
    hole[3, 5] = hole[9:12, 4:8] = 1
    processor = RedirectedAttention(hole)
    tokens = torch.randn(2, 16, 8)
    with torch.no_grad():
        for _ in range(step + 1):
            out = processor(layer, tokens)
        plain = layer(tokens[:1])
        pooled = torch.from_numpy(hole.reshape(4, 4, 4, 4).max((1, 3)).astype(bool).ravel())
        expected = reference(layer, tokens[1], pooled, 0.3 if step < 10 else 1.0)
    torch.testing.assert_close(out[:1], plain)
    torch.testing.assert_close(out[1], expected)


def test_an_object_that_fills_the_picture_leaves_attention_as_it_is():
    import torch

    layer, tokens = attention(), torch.randn(2, 16, 8)
    processor = RedirectedAttention(np.ones((16, 16), np.uint8))
    processor._step = 10
    with torch.no_grad():
        torch.testing.assert_close(processor(layer, tokens), layer(tokens))


def test_the_eraser_grows_its_mask_as_the_repository_does():
    from torch import from_numpy
    from torchvision.transforms.functional import gaussian_blur

    hole = np.zeros((200, 220), np.uint8)
    hole[80:120, 90:140] = 1
    expected = gaussian_blur(from_numpy(hole)[None].float(), kernel_size=[77, 77])[0].numpy() >= 0.1
    grown = blurred_over(hole)
    assert (grown.astype(bool) != expected).mean() < 1e-3
    assert 10 < np.nonzero(grown.any(0))[0][0] < 90


@pytest.mark.slow
def test_only_the_upsampling_half_is_redirected_and_it_changes_the_result(weights, small, monkeypatch):
    from diffusers.models.attention_processor import AttnProcessor2_0

    model = load("attentive-eraser", weights)
    redirected = run(model).background
    processors = model.inner.method._pipeline.unet.attn_processors
    names = {name for name, processor in processors.items() if isinstance(processor, RedirectedAttention)}
    assert names == {name for name in processors if name.startswith("up_blocks") and ".attn1." in name}
    assert all(processors[name]._step == 2 for name in names)  # of three steps, a strength of 0.8 runs two
    plain = AttnProcessor2_0()
    monkeypatch.setattr(pipelines_diffusers, "redirect_attention", lambda unet, hole: unet.set_attn_processor(plain))
    assert not np.array_equal(run(model).background, redirected)


# ---- Qwen-Image-Layered


def layer(colour: tuple[int, int, int], box: tuple[slice, slice] | None, alpha: int = 255) -> np.ndarray:
    made = np.zeros((60, 80, 4), np.uint8)
    made[box or np.s_[:, :]] = (*colour, alpha)
    return made


def test_the_layer_that_fits_the_mask_is_the_foreground_and_the_rest_lies_behind():
    floor = layer((10, 20, 30), None)
    left, fitting, large = (
        layer(colour, box)
        for colour, box in [
            ((200, 0, 0), np.s_[0:10, 0:10]),
            ((0, 200, 0), np.s_[21:40, 30:50]),
            ((0, 0, 200), np.s_[5:60, 5:80]),
        ]
    )
    result = matched([floor, left, fitting, large], MASK)
    assert result.foreground is fitting
    assert result.background[2, 2].tolist() == [200, 0, 0]
    assert result.background[2, 70].tolist() == [10, 20, 30]
    assert result.background[30, 40].tolist() == [0, 0, 200]


def test_a_mask_that_no_layer_meets_has_a_clear_foreground():
    result = matched([layer((0, 0, 0), None, alpha=51), layer((9, 9, 9), np.s_[0:2, 0:2])], MASK)
    assert not result.foreground.any()
    assert result.background[0, 0].tolist() == [9, 9, 9]
    assert result.background[50, 70].tolist() == [204, 204, 204]


def test_qwen_is_called_as_its_card_says_and_its_layers_come_back_to_size():
    given = {}

    class Layers:
        def __call__(self, **arguments):
            given.update(arguments)
            stack = np.zeros((3, 544, 736, 4), np.float32)
            stack[0] = (0.2, 0.4, 0.6, 1)
            stack[1, 180:364, 276:460] = (1, 0, 0, 1)
            return type("Output", (), {"images": [stack]})

    result = QwenLayered(Layers(), "1")(IMAGE, MASK, np.random.default_rng(0))
    assert (given["layers"], given["num_inference_steps"], given["true_cfg_scale"]) == (4, 50, 4.0)
    assert (given["resolution"], given["image"].mode, given["prompt"]) == (640, "RGBA", None)
    assert np.array_equal(result.foreground[..., 3] > 127, MASK)
    assert (result.foreground[MASK][:, :3] == (255, 0, 0)).all()
    assert (result.background == (51, 102, 153)).all()


@pytest.mark.slow
def test_qwen_loads_and_takes_a_picture_apart(tmp_path):
    import torch

    torch.manual_seed(0)
    save_qwen(tmp_path / "qwen-image-layered")
    model = load("qwen-image-layered", tmp_path, prompt="a cat")
    model.inner.method._steps, model.inner.method._layers = 1, 2
    result = run(model, 5)
    assert result.foreground.shape == (60, 80, 4)
    assert result.background.std() > 0
    np.testing.assert_array_equal(run(model, 5).background, result.background)


# ---- LayerDiffuse


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("diffusion_model.input_blocks.0.0.weight::diff::0", "conv_in.weight"),
        ("input_blocks.1.0.in_layers.2.bias", "down_blocks.0.resnets.0.conv1.bias"),
        ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
        ("input_blocks.4.0.skip_connection.weight", "down_blocks.1.resnets.0.conv_shortcut.weight"),
        (
            "input_blocks.8.1.transformer_blocks.9.attn1.to_out.0.weight",
            "down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_out.0.weight",
        ),
        ("middle_block.0.emb_layers.1.weight", "mid_block.resnets.0.time_emb_proj.weight"),
        ("middle_block.1.proj_in.weight", "mid_block.attentions.0.proj_in.weight"),
        ("middle_block.2.out_layers.0.weight", "mid_block.resnets.1.norm2.weight"),
        ("output_blocks.0.0.in_layers.0.weight", "up_blocks.0.resnets.0.norm1.weight"),
        ("output_blocks.2.1.norm.weight", "up_blocks.0.attentions.2.norm.weight"),
        ("output_blocks.2.2.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("output_blocks.8.0.out_layers.3.weight", "up_blocks.2.resnets.2.conv2.weight"),
        ("out.0.weight", "conv_norm_out.weight"),
        ("out.2.bias", "conv_out.bias"),
        ("somewhere.else", "somewhere.else"),
    ],
)
def test_names_of_the_released_files(theirs, ours):
    assert diffusers_name(theirs) == ours


@pytest.fixture(scope="module")
def layer_weights(tmp_path_factory) -> Path:
    """SDXL with a VAE of an eighth, LayerDiffuse's offsets under their released names, and its decoder."""
    import torch
    from safetensors.torch import save_file

    from layerkit.toolkit.models.transparent_vae import TransparentDecoder

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("layers")
    save_sdxl(folder / "sdxl-base", "StableDiffusionXLPipeline", 4, levels=4)
    (released := folder / "layerdiffuse-xl").mkdir()
    names = WEIGHTS["layerdiffuse-xl"].files
    for file in names[:2]:
        offsets = {
            "input_blocks.0.0.weight": torch.randn(8, 12, 3, 3),
            "input_blocks.0.0.bias": torch.randn(8),
            "middle_block.1.transformer_blocks.0.attn1.to_q.weight": torch.randn(16, 16),
        }
        save_file({f"diffusion_model.{name}::diff::0": value for name, value in offsets.items()}, released / file)
    decoder = TransparentDecoder((8,) * 4)
    torch.nn.init.normal_(decoder.latent_conv_in.weight)
    torch.nn.init.normal_(decoder.conv_out.weight)
    save_file(decoder.state_dict(), released / names[2])
    return folder


@pytest.mark.slow
def test_offsets_widen_the_first_convolution_and_leave_what_it_saw_before(layer_weights, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    path = layer_weights / "layerdiffuse-xl" / "layer_xl_fgble2bg.safetensors"
    network = unet(4, xl=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    widen(network, path)
    after, offsets = network.state_dict(), load_file(path)
    first = offsets["diffusion_model.input_blocks.0.0.weight::diff::0"]
    torch.testing.assert_close(after["conv_in.weight"][:, :4], before["conv_in.weight"] + first[:, :4])
    torch.testing.assert_close(after["conv_in.weight"][:, 4:], first[:, 4:])
    changed = {
        name for name in before if after[name].shape != before[name].shape or (after[name] != before[name]).any()
    }
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert changed == {"conv_in.weight", "conv_in.bias", query}
    assert network.config.in_channels == 4
    save_file({"input_blocks.0.0.weight": first, "time_embed.9.weight": first.clone()}, tmp_path / "odd.safetensors")
    with pytest.raises(UsageError, match="1 unexpected: time_embed"):
        widen(unet(4, xl=True), tmp_path / "odd.safetensors")
    save_file({"out.0.weight": first}, tmp_path / "odd.safetensors")
    with pytest.raises(UsageError, match="first convolution"):
        widen(unet(4, xl=True), tmp_path / "odd.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layerdiffuse-bgble2fg", "layerdiffuse-fgble2bg"])
def test_layerdiffuse_draws_its_layer_beside_the_known_one(name, layer_weights):
    with pytest.raises(UsageError, match="expected a prompt"):
        load(name, layer_weights)
    model = load(name, layer_weights, prompt="a cat")
    assert model.needs == {"mask", "prompt"}
    method = model.inner.method
    method._native, method._draw.steps = SIDE, 5
    drawn = {"plain": 0, "conditioned": 0}
    for which, network in (("plain", method._draw.plain), ("conditioned", method._draw.pipeline.unet)):
        if network is not None:
            network.register_forward_pre_hook(lambda *_, which=which: drawn.update({which: drawn[which] + 1}))
    first, other, again = (run(model, seed) for seed in (5, 6, 5))
    known = run(load("closed-form-matting"), 5)
    kept, made = ("background", "foreground") if name.endswith("2fg") else ("foreground", "background")
    np.testing.assert_array_equal(getattr(first, kept), getattr(known, kept))
    np.testing.assert_array_equal(getattr(first, made), getattr(again, made))
    assert not np.array_equal(getattr(first, made), getattr(other, made))
    # Of five steps, fgble2bg hands those below 38 % of the noise levels to the network without offsets.
    plain = 0 if kept == "background" else sum(t < 380 for t in method._draw.pipeline.scheduler.timesteps)
    assert drawn == {"plain": 3 * plain, "conditioned": 3 * (5 - plain)}
    assert plain or kept == "background"

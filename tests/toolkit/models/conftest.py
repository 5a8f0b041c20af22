"""A FLUX-Fill and an SDXL of few random weights, on disk as diffusers saves them, and what runs on them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from torch import nn

from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.models.flux_fill import CONFIGS, DEBUG
from layerkit.toolkit.models.outpaint_remove import OutpaintRemove, OutpaintRemoveOptions, build_outpaint_remove
from layerkit.toolkit.models.system import Origin, Triplets

FillMaker = Callable[..., Path]

_ATTENTION, _ENCODER, _DECODER = WEIGHTS["layerdiffuse-sdxl"].files
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

TINY = OutpaintRemoveOptions(
    rank=8,
    contexts=("edges", "superpixels"),
    fusion_width=32,
    fusion_heads=4,
    text="zeros",
    text_tokens=3,
    base_dtype="float32",
    steps=4,
)


def tiny_encoders() -> dict[str, object]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

    clip = CLIPTextConfig(
        vocab_size=4,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3}
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0)]
    return {
        "text_encoder": CLIPTextModel(clip),
        "tokenizer": CLIPTokenizer(vocab=words, merges=[], model_max_length=16),
        "text_encoder_2": T5EncoderModel(
            T5Config(vocab_size=4, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
        ),
        "tokenizer_2": T5Tokenizer(vocab=pieces, extra_ids=0),
    }


@pytest.fixture(scope="session")
def make_fill(tmp_path_factory) -> FillMaker:
    """Save a pipeline of random weights, by seed; without encoders unless they are asked for."""

    def make(seed: int = 0, *, encoders: bool = False, **sizes: object) -> Path:
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(**CONFIGS[DEBUG]["transformer"] | sizes)
        for parameter in transformer.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        parts = tiny_encoders() if encoders else dict.fromkeys(names)
        folder = tmp_path_factory.mktemp("fill")
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        pipeline = FluxFillPipeline(
            scheduler=scheduler, vae=AutoencoderKL(**CONFIGS[DEBUG]["vae"]), transformer=transformer, **parts
        )
        pipeline.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def fill(make_fill: FillMaker) -> Path:
    return make_fill()


@pytest.fixture
def outpaint_remove(fill: Path) -> Callable[..., OutpaintRemove]:
    """Build the system by the options that differ from ``TINY``, on the one base or on another."""

    def build(base: Path = fill, **changes: object) -> OutpaintRemove:
        return build_outpaint_remove(replace(TINY, **changes), Origin(base=str(base)))

    return build


@pytest.fixture(scope="session")
def triplets() -> Callable[..., Triplets]:
    """Coarse random layers, of which the foreground covers the right half at most, and their composite."""

    def make(known: tuple[bool, ...] = (True, True), side: int = 16) -> Triplets:
        draws = torch.Generator().manual_seed(1)
        coarse = torch.rand(len(known), 7, 4, 4, generator=draws)
        background, foreground = nn.functional.interpolate(coarse, size=(side, side)).split([3, 4], 1)
        foreground[:, 3, :, : side // 2] = 0
        alpha = foreground[:, 3:]
        return Triplets(
            image=alpha * foreground[:, :3] + (1 - alpha) * background,
            foreground=foreground,
            background=background,
            mask=(alpha > 0.5).float(),
            has_foreground=torch.tensor(known),
        )

    return make


# ---- LayerDiffuse


def tokenizer(folder: Path):
    """A CLIP tokenizer of single letters, written to disk and read back."""
    from transformers import CLIPTokenizer

    words = ["!", *_LETTERS, *(f"{c}</w>" for c in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def text_config():
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=53,
        eos_token_id=54,
        pad_token_id=54,
    )


def tiny_unet():
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
        cross_attention_dim=16,
        norm_num_groups=4,
    )


def tiny_vae():
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.13025,
    )


@pytest.fixture(scope="session")
def layerdiffuse_weights(tmp_path_factory) -> Path:
    """A --weights folder: a random SDXL pipeline of a few thousand weights, and LayerDiffuse's three files for it."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from safetensors.torch import save_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from layerkit.toolkit.models.transparent_vae import TransparentDecoder, TransparentEncoder

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    unet = tiny_unet()
    StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(folder / "vocabulary" / "1"),
        tokenizer_2=tokenizer(folder / "vocabulary" / "2"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
    ).save_pretrained(folder / "layerdiffuse-sdxl-base", safe_serialization=True)
    layers = folder / "layerdiffuse-sdxl"
    layers.mkdir()
    attention = {name: value for name, value in unet.state_dict().items() if ".attn" in name}
    save_file({name: torch.randn_like(value).half() for name, value in attention.items()}, layers / _ATTENTION)
    decoder = TransparentDecoder((8,) * 4)
    torch.nn.init.normal_(decoder.latent_conv_in.weight)
    torch.nn.init.normal_(decoder.conv_out.weight)
    save_file(decoder.state_dict(), layers / _DECODER)
    save_file(TransparentEncoder((8,) * 4).state_dict(), layers / _ENCODER)
    return folder

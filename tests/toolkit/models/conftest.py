"""A FLUX-Fill and an SDXL of few random weights, on disk as diffusers saves them, and what runs on them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from torch import nn

from layerkit.toolkit.models.bases import DEBUG
from layerkit.toolkit.models.flux_fill import CONFIGS
from layerkit.toolkit.models.outpaint_remove import OutpaintRemove, OutpaintRemoveOptions, build_outpaint_remove
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.models.tiny_sdxl import write_tiny_sdxl

FillMaker = Callable[..., Path]

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


@pytest.fixture(scope="session")
def layerdiffuse_weights(tmp_path_factory) -> Path:
    """A --weights folder: a random SDXL pipeline of a few thousand weights, and LayerDiffuse's three files for it."""
    return write_tiny_sdxl(tmp_path_factory.mktemp("weights"))

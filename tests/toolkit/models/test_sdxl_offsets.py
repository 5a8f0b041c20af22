"""The released offsets fit SDXL: names and shapes of the files, written out from the architecture, and no weights.

SDXL's UNet stands on the meta device, by the sizes of its published configuration. What the files hold is written here
as the network's authors lay it out, apart from diffusers; the sizes on the hub say which parts are in which file.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from layerkit.manifests.errors import UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.models.sdxl_offsets import add_offsets, diffusers_name, widen_by
from layerkit.toolkit.models.transparent_vae import TransparentDecoder, TransparentEncoder

Shapes = dict[str, tuple[int, ...]]

WIDTHS, DEPTHS, CONTEXT, EMBEDDING = (320, 640, 1280), (0, 2, 10), 2048, 1280
SOMEWHERE = Path("released.safetensors")


@pytest.fixture
def sdxl() -> Any:
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=128,
            in_channels=4,
            out_channels=4,
            block_out_channels=WIDTHS,
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=CONTEXT,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def empty(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes_of(network: torch.nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def half_precision_mb(*many: Shapes) -> float:
    return sum(2 * torch.Size(shape).numel() for shapes in many for shape in shapes.values()) / 1e6


# ---- the layout of its authors


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def attention(name: str, width: int, context: int) -> Shapes:
    return {
        **layer(f"{name}.to_q", width, width, bias=False),
        **layer(f"{name}.to_k", width, context, bias=False),
        **layer(f"{name}.to_v", width, context, bias=False),
        **layer(f"{name}.to_out.0", width, width),
    }


def attentions(name: str, width: int) -> Shapes:
    return attention(f"{name}.attn1", width, width) | attention(f"{name}.attn2", width, CONTEXT)


def transformer(name: str, width: int, depth: int) -> Shapes:
    shapes = layer(f"{name}.norm", width)
    for part in ("proj_in", "proj_out"):
        shapes |= layer(f"{name}.{part}", width, width)
    for k in range(depth):
        block = f"{name}.transformer_blocks.{k}"
        shapes |= attentions(block, width)
        shapes |= layer(f"{block}.ff.net.0.proj", 8 * width, width) | layer(f"{block}.ff.net.2", width, 4 * width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= layer(f"{block}.{norm}", width)
    return shapes


def resnet(name: str, before: int, width: int) -> Shapes:
    return {
        **layer(f"{name}.in_layers.0", before),
        **layer(f"{name}.in_layers.2", width, before, 3, 3),
        **layer(f"{name}.emb_layers.1", width, EMBEDDING),
        **layer(f"{name}.out_layers.0", width),
        **layer(f"{name}.out_layers.3", width, width, 3, 3),
        **(layer(f"{name}.skip_connection", width, before, 1, 1) if before != width else {}),
    }


def down(channels: int) -> tuple[Shapes, list[int]]:
    """Input blocks, and the widths of what each leaves for the way up."""
    shapes, left = layer("input_blocks.0.0", WIDTHS[0], channels, 3, 3), [WIDTHS[0]]
    for level, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for _ in range(2):
            block = f"input_blocks.{len(left)}"
            shapes |= resnet(f"{block}.0", left[-1], width)
            shapes |= transformer(f"{block}.1", width, depth) if depth else {}
            left.append(width)
        if level < 2:
            shapes |= layer(f"input_blocks.{len(left)}.0.op", width, width, 3, 3)
            left.append(width)
    return shapes, left


def up(left: list[int]) -> Shapes:
    """Output blocks, each of which takes what the last of the input blocks left."""
    shapes, before, number = {}, WIDTHS[-1], 0
    for level in (2, 1, 0):
        width, depth = WIDTHS[level], DEPTHS[level]
        for k in range(3):
            block = f"output_blocks.{number}"
            shapes |= resnet(f"{block}.0", before + left.pop(), width)
            shapes |= transformer(f"{block}.1", width, depth) if depth else {}
            if k == 2 and level:
                shapes |= layer(f"{block}.{2 if depth else 1}.conv", width, width, 3, 3)
            before, number = width, number + 1
    return shapes


def authors_unet(channels: int = 4) -> Shapes:
    """Every weight of SDXL's UNet as its authors name it, with ``channels`` into the first convolution."""
    shapes, left = down(channels)
    width = WIDTHS[-1]
    for name, before in (("time_embed.0", WIDTHS[0]), ("time_embed.2", EMBEDDING)):
        shapes |= layer(name, EMBEDDING, before)
    for name, before in (("label_emb.0.0", 2816), ("label_emb.0.2", EMBEDDING)):
        shapes |= layer(name, EMBEDDING, before)
    shapes |= resnet("middle_block.0", width, width) | transformer("middle_block.1", width, 10)
    shapes |= resnet("middle_block.2", width, width) | up(left)
    return shapes | layer("out.0", WIDTHS[0]) | layer("out.2", 4, WIDTHS[0], 3, 3)


def released(shapes: Shapes) -> Shapes:
    return {f"diffusion_model.{name}::diff::0": shape for name, shape in shapes.items()}


def convolutions(shapes: Shapes) -> Shapes:
    """All but the transformers and the embeddings: what ``fg2ble`` and ``fgble2bg`` hold."""
    parts = ("transformer_blocks", "proj_in", "proj_out", ".1.norm", "time_embed", "label_emb")
    return {name: shape for name, shape in shapes.items() if not any(part in name for part in parts)}


def without_queries(shapes: Shapes) -> Shapes:
    """All but queries, keys, values and the embeddings: what ``bgble2fg`` holds."""
    parts = (".to_q.", ".to_k.", ".to_v.", "time_embed", "label_emb")
    return {name: shape for name, shape in shapes.items() if not any(part in name for part in parts)}


# ---- cut-outs: offsets on the attention


def attention_file() -> Shapes:
    """``ld_diffusers_sdxl_attn``: all attention of 70 transformer blocks, as diffusers names them."""
    blocks = [("mid_block.attentions.0", 1280, 10)]
    for half, levels, count in (("down", {1: (640, 2), 2: (1280, 10)}, 2), ("up", {0: (1280, 10), 1: (640, 2)}, 3)):
        for level, (width, depth) in levels.items():
            blocks += [(f"{half}_blocks.{level}.attentions.{k}", width, depth) for k in range(count)]
    shapes: Shapes = {}
    for name, width, depth in blocks:
        for k in range(depth):
            shapes |= attentions(f"{name}.transformer_blocks.{k}", width)
    return shapes


def test_the_attentions_offsets_are_all_of_sdxl_s_attention(sdxl):
    offsets = attention_file()
    assert len(offsets) == 70 * 2 * (4 + 1)
    assert offsets == {name: shape for name, shape in shapes_of(sdxl).items() if ".attn" in name}
    add_offsets(sdxl, empty(offsets), SOMEWHERE)
    weights_alone = {name: shape for name, shape in offsets.items() if name.endswith("weight")}
    add_offsets(sdxl, empty(weights_alone), SOMEWHERE)


def test_the_three_files_of_cut_outs_weigh_what_the_hub_shows():
    with torch.device("meta"):
        networks = [shapes_of(TransparentEncoder()), shapes_of(TransparentDecoder())]
    assert round(half_precision_mb(attention_file(), *networks)) == WEIGHTS["layerdiffuse-sdxl"].size_mb


def test_an_offset_that_sdxl_has_not_is_named(sdxl):
    offsets = empty(attention_file())
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    offsets[f"{name}.0"] = offsets.pop(name)
    with pytest.raises(UsageError, match=rf"released\.safetensors does not hold .*; 1 unexpected: {name}\.0"):
        add_offsets(sdxl, offsets, SOMEWHERE)


# ---- conditional models: offsets on nearly everything, by the authors' names


def test_every_weight_of_sdxl_has_one_name_of_its_authors(sdxl):
    theirs = authors_unet()
    ours = {diffusers_name(name): shape for name, shape in released(theirs).items()}
    assert len(ours) == len(theirs) == 1680
    assert ours == shapes_of(sdxl)
    assert {diffusers_name(f"model.diffusion_model.{name}") for name in theirs} == set(ours)


@pytest.mark.parametrize(("channels", "given"), [(8, 1), (12, 2)])
def test_every_offset_of_a_whole_file_is_used(channels: int, given: int, sdxl):
    before = shapes_of(sdxl)
    widen_by(sdxl, empty(released(authors_unet(channels))), SOMEWHERE)
    after = shapes_of(sdxl)
    assert after.pop("conv_in.weight") == (320, 4 + 4 * given, 3, 3)
    before.pop("conv_in.weight")
    assert after == before


def test_the_files_that_leave_parts_out_are_used_and_weigh_what_the_hub_shows(sdxl):
    """3,620 MB for the foreground's and 702 for the background's: with the decoder they are the 4,530 of the hub."""
    theirs = authors_unet(12)
    background, foreground = convolutions(theirs), without_queries(theirs)
    assert set(background) < set(foreground) < set(theirs)
    with torch.device("meta"):
        decoder = shapes_of(TransparentDecoder())
    assert round(half_precision_mb(foreground, background, decoder)) == pytest.approx(
        WEIGHTS["layerdiffuse-xl"].size_mb, abs=1
    )
    blends = convolutions(authors_unet(8)), without_queries(authors_unet(8))
    assert round(half_precision_mb(*blends)) == pytest.approx(WEIGHTS["layerdiffuse-xl-blend"].size_mb, abs=1)
    for offsets in (background, foreground):
        widen_by(sdxl, empty(released(offsets)), SOMEWHERE)
        assert sdxl.conv_in.in_channels == 12


def test_names_that_fit_nothing_are_listed(sdxl):
    offsets = empty(released(convolutions(authors_unet(8))))
    odd = {"diffusion_model.input_blocks.9.0.emb_layers.1.weight::diff::0", "diffusion_model.odd.weight::diff::0"}
    offsets |= {name: torch.empty(1, device="meta") for name in odd}
    with pytest.raises(UsageError) as caught:
        widen_by(sdxl, offsets, SOMEWHERE)
    assert "2 unexpected: " in str(caught.value)
    assert "odd.weight" in str(caught.value)
    assert "down_blocks.2.resnets.2.time_emb_proj.weight" in str(caught.value)

"""Latent transparency: the released networks' names and shapes, the released padding, and what goes in and out."""

from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.transparent_vae import (
    TransparentDecoder,
    TransparentEncoder,
    decode,
    encode,
    load_decoder,
    load_encoder,
    median_of_eight,
    pad_rgb,
)

TINY = (8, 8, 8, 8)


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def size_in_half_precision(module: torch.nn.Module) -> int:
    return 2 * sum(tensor.numel() for tensor in module.state_dict().values())


# ---- the released files: names and shapes as the authors' classes have them under diffusers 0.28.0, which they pin


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def resnet(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    shortcut = layer(f"{name}.conv_shortcut", after, before, 1, 1) if before != after else {}
    return {
        **layer(f"{name}.norm1", before),
        **layer(f"{name}.conv1", after, before, 3, 3),
        **layer(f"{name}.norm2", after),
        **layer(f"{name}.conv2", after, after, 3, 3),
        **shortcut,
    }


def attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    wanted = layer(f"{name}.group_norm", width)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        wanted |= layer(f"{name}.{part}", width, width)
    return wanted


def block(name: str, before: list[int], width: int, attends: bool, resized: str) -> dict[str, tuple[int, ...]]:
    wanted = {}
    for number, channels in enumerate(before):
        wanted |= resnet(f"{name}.resnets.{number}", channels, width)
        if attends:
            wanted |= attention(f"{name}.attentions.{number}", width)
    return wanted | (layer(f"{name}.{resized}.0.conv", width, width, 3, 3) if resized else {})


DOWN = [[32, 32], [32, 32], [32, 64], [64, 128], [128, 256], [256, 512], [512, 512]]
UP = [
    [1024, 1024, 1024],
    [1024, 1024, 768],
    [768, 512, 384],
    [384, 256, 192],
    [192, 128, 96],
    [96, 64, 64],
    [64, 64, 64],
]
WIDTHS = [32, 32, 64, 128, 256, 512, 512]


def released_decoder() -> dict[str, tuple[int, ...]]:
    wanted = {
        **layer("conv_in", 32, 3, 3, 3),
        **layer("latent_conv_in", 64, 4, 1, 1),
        **layer("conv_norm_out", 32),
        **layer("conv_out", 4, 32, 3, 3),
        **resnet("mid_block.resnets.0", 512, 512),
        **resnet("mid_block.resnets.1", 512, 512),
        **attention("mid_block.attentions.0", 512),
    }
    for i, width in enumerate(WIDTHS):
        wanted |= block(f"down_blocks.{i}", DOWN[i], width, i > 3, "downsamplers" if i < 6 else "")
    for i, width in enumerate(reversed(WIDTHS)):
        wanted |= block(f"up_blocks.{i}", UP[i], width, i < 3, "upsamplers" if i < 6 else "")
    return wanted


def test_the_decoder_has_the_released_names_and_shapes():
    with torch.device("meta"):
        decoder = TransparentDecoder()
    assert shapes(decoder) == released_decoder()
    assert decoder.multiple == 64
    assert round(size_in_half_precision(decoder) / 1e6) == 208, "the hub shows 208 MB"


def test_the_encoder_has_the_released_names_and_shapes():
    with torch.device("meta"):
        encoder = TransparentEncoder()
    channels = [4, 32, 32, 64, 64, 128, 128, 256, 256, 4]
    wanted = {}
    for number, (before, after) in enumerate(pairwise(channels)):
        wanted |= layer(f"blocks.{2 * number}", after, before, 3, 3)
    assert shapes(encoder) == wanted
    assert [layer.stride[0] for layer in encoder.blocks[::2]] == [1, 1, 2, 1, 2, 1, 2, 1, 1]
    assert size_in_half_precision(encoder) / 1e6 == pytest.approx(2.37, abs=0.01), "the hub shows 2.37 MB"


# ---- files


@pytest.fixture(
    params=[(load_decoder, TransparentDecoder), (load_encoder, TransparentEncoder)], ids=lambda p: p[0].__name__
)
def network(request):
    """A loading function, and a tiny random network of what it loads."""
    torch.manual_seed(0)
    load, kind = request.param
    return load, kind(TINY)


def test_a_file_is_loaded_whatever_its_widths_and_precision(network, tmp_path):
    load, wanted = network
    save_file(wanted.half().state_dict(), tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors")
    assert not loaded.training
    assert shapes(loaded) == shapes(wanted)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, wanted.state_dict()[name].float(), rtol=0, atol=0)


def test_tensors_that_do_not_fit_are_listed(network, tmp_path):
    load, wanted = network
    tensors = wanted.state_dict()
    last = list(tensors)[-1]
    tensors["one.too.many"] = torch.zeros(1)
    tensors[f"{last}s"] = tensors.pop(last)
    first = list(tensors)[1]
    tensors[first] = torch.zeros(3, 4)
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "net.safetensors")
    text = str(caught.value)
    for part in (
        f"1 missing: {last};",
        "2 unexpected: ",
        "one.too.many",
        f"1 of another shape: {first} [3, 4] for [8]",
    ):
        assert part in text
    assert str(tmp_path) in text


def test_a_file_of_another_network_names_the_first_of_its_tensors(tmp_path):
    save_file({f"layer.{i}.weight": torch.zeros(2) for i in range(20)}, tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"538 missing: conv_in\.weight.* …; 20 unexpected: layer\.0\.weight.* …"):
        load_decoder(tmp_path / "net.safetensors")


def test_widths_that_no_decoder_has_are_a_fault_of_the_file(tmp_path):
    name = "down_blocks.{}.resnets.0.conv1.weight"
    save_file({name.format(level): torch.zeros(6, 6, 3, 3) for level in range(4)}, tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"4 of another shape: down_blocks\.0.* \[6, 6, 3, 3\] for \[32, 32, 3, 3\]"):
        load_decoder(tmp_path / "net.safetensors")


def test_what_is_no_safetensors_is_refused(tmp_path):
    for name, content in (("pickle.safetensors", b"\x80\x04K\x01."), ("empty.safetensors", b""), ("gone", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=rf"expected safetensors in .*{name}"):
            load_decoder(tmp_path / name)


# ---- networks


def test_the_latent_counts_once_its_layer_is_trained():
    torch.manual_seed(0)
    decoder, pixels = TransparentDecoder(TINY).eval(), torch.rand(1, 3, 32, 64)
    latents = torch.randn(2, 1, 4, 4, 8)
    with torch.no_grad():
        fresh = [decoder(pixels, latent) for latent in latents]
        torch.nn.init.normal_(decoder.latent_conv_in.weight)
        trained = [decoder(pixels, latent) for latent in latents]
    assert fresh[0].shape == (1, 4, 32, 64)
    assert torch.equal(*fresh)
    assert not torch.allclose(*trained)


def test_a_fresh_encoder_moves_nothing_and_learns():
    encoder = TransparentEncoder(TINY)
    offset = encoder(torch.rand(1, 4, 16, 24))
    assert offset.shape == (1, 4, 2, 3)
    assert not offset.any()
    offset.sum().backward()
    assert encoder.blocks[-1].weight.grad.any()


def corner(pixels: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A net that treats no two corners alike, and leaves 0..1."""
    height, width = pixels.shape[2:]
    ramp = torch.arange(height).view(-1, 1) * 0.7 - torch.arange(width) ** 2 * 0.05
    return torch.cat([pixels, latent.repeat_interleave(8, 2).repeat_interleave(8, 3).mean(1, keepdim=True)], 1) + ramp


def test_the_median_of_eight_is_what_numpy_says():
    torch.manual_seed(0)
    pixels, latent = torch.rand(2, 3, 16, 24), torch.randn(2, 4, 2, 3)
    estimates = []
    for picture in range(2):
        views = [[each[picture].numpy().transpose(1, 2, 0) for each in (pixels, latent)]]
        views.append([np.fliplr(each) for each in views[0]])
        for mirrored, view in enumerate(views):
            for turns in range(4):
                seen = [np.rot90(each, turns).transpose(2, 0, 1)[None].copy() for each in view]
                estimate = corner(*map(torch.from_numpy, seen))[0].numpy().transpose(1, 2, 0)
                back = np.rot90(np.clip(estimate, 0, 1), -turns)
                estimates.append(np.fliplr(back) if mirrored else back)
    wanted = np.sort(np.stack(estimates).reshape(2, 8, 16, 24, 4), 1)[:, 3].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(median_of_eight(corner, pixels, latent).numpy(), wanted)


def test_decoding_puts_alpha_last_and_shows_the_net_the_picture_in_0_to_1():
    fed = []

    def net(pixels, latent):
        fed.append((pixels, latent))
        return torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1).expand(1, 4, *pixels.shape[2:])

    shown = torch.linspace(-3, 3, 192).view(1, 3, 8, 8)
    vae = SimpleNamespace(dtype=torch.float32, decode=lambda latent: SimpleNamespace(sample=shown))
    rgba = decode(vae, net, torch.ones(1, 4, 1, 1))
    torch.testing.assert_close(rgba[0, :, 0, 0], torch.tensor([0.2, 0.3, 0.4, 0.1]))
    torch.testing.assert_close(fed[0][0], ((shown + 1) / 2).clip(0, 1))
    assert len(fed) == 8


def test_encoding_feeds_colour_around_mid_grey_and_moves_the_mean_by_the_offset():
    fed = {}
    mean, std = torch.full((2, 4, 1, 1), 5.0), torch.full((2, 4, 1, 1), 0.5)

    def posterior(feed):
        fed["vae"] = feed
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=std))

    class Offset(torch.nn.Module):
        def forward(self, feed):
            fed["encoder"] = feed
            return torch.full((2, 4, 1, 1), 0.01)

    half = np.zeros((8, 8, 4), np.uint8)
    half[:, :4] = 255, 0, 51, 255
    half[:, 4:] = 255, 255, 255, 0
    faint = np.full((8, 8, 4), (255, 0, 51, 51), np.uint8)
    vae = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32, encode=posterior)
    latent = encode(vae, Offset(), [half, faint])
    torch.testing.assert_close(latent, torch.full((2, 4, 1, 1), 5 + 0.5 * 300 * 0.01))
    torch.testing.assert_close(fed["vae"][:, :, 0, 0], torch.tensor([[1, -1, -0.6], [0.2, -0.2, -0.12]]))
    assert not fed["vae"][0, :, :, 4:].any()
    torch.testing.assert_close(fed["encoder"][:, 0, 0], torch.tensor([[1.0] * 4 + [0] * 4, [0.2] * 8]))
    torch.testing.assert_close(fed["encoder"][:, 1:, 0, 7], torch.tensor([[1, 0, 0.2], [1, 0, 0.2]]))


# ---- padding


def test_padding_is_the_released_one(shared_data):
    folder = shared_data / "layerdiffuse_cli" / "imgs"
    rgba = cv2.imread(str(folder / "inputs" / "pad_ip.png"), cv2.IMREAD_UNCHANGED)
    wanted = cv2.imread(str(folder / "outputs" / "padded_rgb.png"), cv2.IMREAD_UNCHANGED)
    padded = pad_rgb(rgba)
    assert padded.dtype == np.float32
    # The picture was written by another release of OpenCV, and by cutting rather than rounding.
    difference = np.abs((padded * 255).astype(int) - wanted)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_padding_keeps_what_is_seen_and_covers_what_is_not(shared_data):
    rgba = cv2.imread(str(shared_data / "layerdiffuse_cli/imgs/inputs/pad_ip.png"), cv2.IMREAD_UNCHANGED)
    opaque, empty = rgba[..., 3] == 255, rgba[..., 3] == 0
    assert opaque.any()
    assert empty.any()
    padded = pad_rgb(rgba)
    np.testing.assert_array_equal((padded[opaque] * 255).round(), rgba[opaque][:, :3])
    assert padded.min() >= 0
    assert padded.max() <= 1 + 1e-6
    defaced = rgba.copy()
    defaced[empty] = 255, 0, 255, 0
    np.testing.assert_array_equal(pad_rgb(defaced), padded)
    # Filled with surroundings: as smooth as a blur, and near the colours that are seen.
    rows, columns = np.nonzero(empty[:, 1:] & empty[:, :-1])
    assert np.abs(padded[rows, columns + 1] - padded[rows, columns]).max() < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 50), (9, 4)])
def test_padding_of_any_size(size):
    rgba = np.zeros((*size, 4), np.uint8)
    assert not pad_rgb(rgba).any()
    rgba[0, 0] = 51, 102, 204, 255
    padded = pad_rgb(rgba)
    assert padded.shape == (*size, 3)
    np.testing.assert_allclose(padded, np.broadcast_to(np.float32([0.2, 0.4, 0.8]), padded.shape), atol=1e-5)

"""Pictures to latents and back: the pixels themselves, and frozen VAEs that gradients go through."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models import rgba_vae
from layerkit.toolkit.models.codecs import PixelCodec, VaeCodec, load_codec

SIDE = 16


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def levels(channels: int, count: int = 2) -> Tensor:
    """Every one of the 256 levels, in 0..1."""
    draws = torch.stack([torch.randperm(256).reshape(SIDE, SIDE) for _ in range(count * channels)])
    return draws.reshape(count, channels, SIDE, SIDE) / 255


def to_levels(picture: Tensor) -> Tensor:
    return (picture * 255).round().to(torch.uint8)


# ---- pixels


def test_pixels_come_back_to_the_level():
    codec, rgb, rgba = PixelCodec(), levels(3), levels(4)
    latent, layer = codec.encode(rgb), codec.encode_rgba(rgba)
    assert latent.shape == layer.shape == (2, codec.channels, SIDE // codec.factor, SIDE // codec.factor)
    assert torch.equal(to_levels(codec.decode(latent)), to_levels(rgb))
    back, seen = codec.decode_rgba(layer), rgba[:, 3:] > 0
    assert torch.equal(to_levels(back[:, 3:]), to_levels(rgba[:, 3:]))
    assert torch.equal(to_levels(back[:, :3] * seen), to_levels(rgba[:, :3] * seen))


def test_the_colour_of_what_is_not_seen_is_not_in_the_latent():
    codec, rgba = PixelCodec(), levels(4)
    rgba[:, 3] = 0
    other = rgba.clone()
    other[:, :3] = levels(3)
    assert torch.equal(codec.encode_rgba(rgba), codec.encode_rgba(other))
    assert not codec.encode_rgba(rgba)[:, :3].any()


def test_a_picture_and_an_opaque_layer_have_one_latent():
    codec, rgb = PixelCodec(), levels(3)
    opaque = torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)
    assert torch.equal(codec.encode(rgb), codec.encode_rgba(opaque))


def test_latents_of_evenly_spread_pixels_are_nearly_of_unit_variance():
    """Pixels uniform in 0..1 have a variance of 1 / 12; the codec spreads them by 4."""
    assert PixelCodec().encode(levels(3))[:, :3].std(correction=0) == pytest.approx(4 / math.sqrt(12), rel=0.01)


def test_decoded_pixels_are_not_cut_off():
    latent = torch.tensor([-5.0, 0.0, 5.0]).reshape(1, 1, 1, 3).expand(1, 4, 1, 3).clone().requires_grad_()
    decoded = PixelCodec().decode_rgba(latent)
    torch.testing.assert_close(decoded[0, 0, 0], torch.tensor([-0.75, 0.5, 1.75]))
    decoded.sum().backward()
    assert (latent.grad == 0.25).all()


# ---- VAEs


def a_codec(*, with_rgb: bool) -> tuple[VaeCodec, rgba_vae.Vae]:
    rgb = rgba_vae.from_scratch("debug").eval()
    return VaeCodec(rgba_vae.convert(rgb), rgb if with_rgb else None), rgb


@pytest.mark.parametrize("with_rgb", [True, False])
def test_a_converted_vae_and_the_one_it_was_made_from_have_one_latent_space(with_rgb: bool):
    codec, vae = a_codec(with_rgb=with_rgb)
    rgb = levels(3)
    with torch.no_grad():
        latent = codec.encode(rgb)
        assert latent.shape == (2, codec.channels, SIDE // codec.factor, SIDE // codec.factor) == (2, 4, 8, 8)
        assert torch.equal(latent, vae.encode(2 * rgb - 1).latent_dist.mode())  # its shift is 0, its scale 1
        assert torch.equal(codec.encode_rgba(torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)), latent)
        decoded = (vae.decode(latent).sample + 1) / 2
        assert torch.equal(codec.decode(latent), decoded)
        layer = codec.decode_rgba(latent)
    assert torch.equal(layer[:, :3], decoded)
    assert (layer[:, 3] == 1).all()


@pytest.mark.parametrize("with_rgb", [True, False])
@pytest.mark.parametrize(("back", "forth"), [("decode", "encode"), ("decode_rgba", "encode_rgba")])
def test_gradients_go_through_the_vaes_and_not_into_them(with_rgb: bool, back: str, forth: str):
    codec, _ = a_codec(with_rgb=with_rgb)
    latent = torch.randn(1, 4, 8, 8, requires_grad=True)
    picture = levels(4 if forth == "encode_rgba" else 3, count=1).requires_grad_()
    (getattr(codec, back)(latent).square().sum() + getattr(codec, forth)(picture).square().sum()).backward()
    for given in (latent, picture):
        assert given.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    assert all(parameter.grad is None for parameter in codec.parameters())


# ---- by name


@pytest.fixture
def vaes(tmp_path: Path) -> tuple[Path, Path]:
    """An RGB VAE's folder, and a run of ``rgba-vae`` that was made from it."""
    rgb = rgba_vae.from_scratch("debug")
    rgb.save_pretrained(tmp_path / "pipeline" / "vae")
    rgba_vae.convert(rgb).save_pretrained(tmp_path / "run" / "vae")
    return tmp_path / "pipeline", tmp_path / "run"


def test_options_name_a_codec(vaes: tuple[Path, Path]):
    rgb, rgba = map(str, vaes)
    assert isinstance(load_codec("pixels", "", ""), PixelCodec)
    alone, both, inner = (load_codec("vae", *names) for names in (("", rgba), (rgb, rgba), ("", f"{rgba}/vae")))
    assert alone.rgb is None
    assert inner.rgb is None
    picture = levels(3)
    with torch.no_grad():
        assert torch.equal(both.encode(picture), alone.encode(picture))
        assert torch.equal(both.encode(picture), inner.encode(picture))
    assert not both.rgb.training
    assert not both.rgba.training


def test_without_a_folder_only_the_shapes_are_known():
    with torch.device("meta"):
        codec = load_codec("vae", "", "", meta=True)
    assert (codec.channels, codec.factor) == (4, 8)
    with pytest.raises(UsageError, match=r"codec = 'vae' needs rgba_vae, .* --set model\.rgba_vae=RUN"):
        load_codec("vae", "", "")


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (lambda rgb, rgba: ("", f"{rgba}/none"), UsageError, r"none/config\.json"),
        (lambda rgb, rgba: ("", f"{rgb}/vae"), UsageError, "4 channels in and 4 out, got AutoencoderKL with 3"),
        (lambda rgb, rgba: (f"{rgba}/vae", str(rgba)), UsageError, "of 3 channels, got 4"),
        (lambda rgb, rgba: (f"{rgb}/none", str(rgba)), MissingWeights, "no folder"),
    ],
)
def test_a_folder_without_such_a_vae_is_told(
    vaes: tuple[Path, Path], names: Callable[[Path, Path], tuple[str, str]], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        load_codec("vae", *names(*vaes))

"""The RGBA VAE: step 0 against the RGB VAE, the loss against Monte Carlo, gradients, training, files."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.rgba_vae import convert, decode, encode, from_scratch, load, over
from layerkit.toolkit.models.rgba_vae_loss import NATURAL, UNIFORM, RgbaVaeOptions, losses, random_background_loss

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
# As FLUX's VAE: 16 latent channels in small, a shift, attention in the middle, no convolutions about the latent.
FLUX_LIKE = {
    "block_out_channels": (4, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}
ALL_PARTS = RgbaVaeOptions(l1=1.0, reference_kl=1e-3)


@pytest.fixture(autouse=True)
def _seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def vae():
    return from_scratch("debug").eval()


def with_alpha(rgb, alpha=1.0):
    return torch.cat([rgb, torch.full_like(rgb[:, :1], alpha)], 1)


def discs(count, size=32, seed=0):
    """Soft-edged discs of smooth colour, (count, 4, size, size) in -1..1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    pictures = []
    for _ in range(count):
        slopes, (cx, cy) = rng.uniform(-1, 1, (3, 2)), rng.uniform(0.3, 0.7, 2)
        colour = [a * (2 * x - 1) + b * (2 * y - 1) for a, b in slopes]
        alpha = np.clip((0.3 - np.hypot(x - cx, y - cy)) * 10 + 0.5, 0, 1)
        pictures.append([*np.clip(colour, -1, 1), 2 * alpha - 1])
    return torch.tensor(np.array(pictures), dtype=torch.float32)


def real(folder, pattern, flag, side=64):
    paths = sorted((DATA / folder).glob(pattern))
    if not paths:
        pytest.skip(f"no pictures in {DATA / folder}")
    pictures = [cv2.resize(cv2.imread(str(path), flag), (side, side), interpolation=cv2.INTER_AREA) for path in paths]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


# ---- step 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("config", [None, FLUX_LIKE])
def test_step_0_is_the_rgb_vae_bit_for_bit_on_opaque_pictures(config, count, dtype):
    rgb_vae = (AutoencoderKL(**config) if config else from_scratch()).eval().to(dtype)
    rgba_vae = convert(rgb_vae)
    rgb = torch.rand(count, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        known = rgb_vae.encode(rgb.to(dtype)).latent_dist
        found = rgba_vae.encode(with_alpha(rgb).to(dtype)).latent_dist
        shown = rgba_vae.decode(known.mean).sample
        assert torch.equal(found.mean, known.mean)
        assert torch.equal(found.logvar, known.logvar)
        assert torch.equal(shown[:, :3], rgb_vae.decode(known.mean).sample)
        assert torch.equal(shown[:, 3:], torch.ones_like(shown[:, 3:]))


def test_step_0_on_photographs_through_encode_and_decode(vae):
    photos = real("kodak/PhotoCD_PCD0992", "*.png", cv2.IMREAD_COLOR_RGB)
    opaque = torch.cat([photos, torch.full_like(photos[:, :1], 255)], 1)
    rgba_vae = convert(vae)
    with torch.no_grad():
        known, found = encode(vae, photos), encode(rgba_vae, opaque)
        assert torch.equal(found, known)
        assert torch.equal(decode(rgba_vae, found), with_alpha(decode(vae, known)))


def test_converting_leaves_the_rgb_vae_and_the_random_numbers_alone(vae):
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    state = torch.get_rng_state()
    rgba_vae = convert(vae)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in rgba_vae.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert not rgba_vae.training


def test_only_an_rgb_vae_is_converted(vae):
    with pytest.raises(UsageError, match="3 channels in and out, got 4 and 4"):
        convert(convert(vae))
    with pytest.raises(UsageError, match="out of debug, sd, got 'huge'"):
        from_scratch("huge")


# ---- pictures and latents


def test_latents_are_shifted_and_scaled_as_flux_says():
    flux_like = AutoencoderKL(**FLUX_LIKE).eval()
    rgb = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        mean = flux_like.encode(rgb).latent_dist.mean
        assert torch.allclose(encode(flux_like, rgb), (mean - 0.1159) * 0.3611)
        assert torch.allclose(decode(flux_like, encode(flux_like, rgb)), flux_like.decode(mean).sample, atol=1e-5)


def test_bytes_and_floats_are_the_same_picture_and_a_generator_draws(vae):
    rgba_vae = convert(vae)
    picture = torch.randint(0, 256, (2, 4, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        mode = encode(rgba_vae, picture)
        assert torch.equal(mode, encode(rgba_vae, picture.float() / 127.5 - 1))
        drawn = [encode(rgba_vae, picture, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], mode)


def test_wrong_channels_are_told(vae):
    with pytest.raises(
        UsageError, match=r"expected pictures of shape \(B, 4, H, W\) for this VAE, got \(1, 3, 32, 32\)"
    ):
        encode(convert(vae), torch.zeros(1, 3, 32, 32))


def test_over_composites_straight_alpha():
    rgba = torch.tensor([0.5, -0.5, 1.0, 0.0]).view(1, 4, 1, 1)  # half transparent
    assert over(rgba, -1.0).flatten().tolist() == [-0.25, -0.75, 0.0]
    assert over(rgba, torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)).flatten().tolist() == [0.75, -0.25, 0.0]


# ---- the loss


def two_points(moments, count):
    """Draws that are one of two values a colour, with the moments asked for."""
    mean = torch.tensor(moments.mean)
    deviation = (torch.tensor(moments.square) - mean**2).sqrt()
    return mean + deviation * (torch.randint(0, 2, (count, 3)) * 2 - 1)


@pytest.mark.parametrize(
    ("moments", "draws"),
    [(UNIFORM, lambda count: torch.rand(count, 3) * 2 - 1), (NATURAL, lambda count: two_points(NATURAL, count))],
    ids=["uniform", "natural"],
)
def test_the_closed_form_is_the_mean_over_random_backgrounds(moments, draws):
    pred, target = (torch.rand(1, 4, 8, 8, dtype=torch.float64) * 2 - 1 for _ in range(2))
    backgrounds = draws(20_000).view(-1, 3, 1, 1).double()
    errors = ((over(pred, backgrounds) - over(target, backgrounds)) ** 2).mean((1, 2, 3))
    standard_error = errors.std() / len(errors) ** 0.5
    assert standard_error < 0.005 * errors.mean()
    closed = random_background_loss(pred, target, moments)
    assert abs(closed - errors.mean()) < 4 * standard_error


def test_the_loss_of_opaque_pictures_is_the_squared_error():
    pred, target = (with_alpha(torch.rand(2, 3, 8, 8) * 2 - 1) for _ in range(2))
    assert torch.allclose(random_background_loss(pred, target), ((pred - target)[:, :3] ** 2).mean())


def test_hidden_colour_changes_neither_latent_nor_loss(vae):
    rgba_vae = convert(vae)
    with torch.no_grad():
        rgba_vae.encoder.conv_in.weight.normal_()  # alpha is seen
    picture = discs(2)
    other = picture.clone()
    hidden = (picture[:, 3:] == -1).expand(-1, 3, -1, -1)
    other[:, :3][hidden] = torch.rand(int(hidden.sum())) * 2 - 1
    assert hidden.any()
    with torch.no_grad():
        assert torch.equal(encode(rgba_vae, picture), encode(rgba_vae, other))
        first, second = (losses(rgba_vae, each, ALL_PARTS, reference=vae) for each in (picture, other))
    assert first == second


def test_the_parts_add_up_by_their_weights(vae):
    options = replace(ALL_PARTS, kl=0.0, perceptual=0.25)

    def distance(one, other):
        return (one - other).abs().mean((1, 2, 3))

    rgba_vae = convert(vae)
    picture = discs(2)
    parts = losses(rgba_vae, picture, options, reference=vae, perceptual=distance)
    assert set(parts) == {"loss", "composite", "l1", "perceptual", "reference_kl"}
    pred = decode(rgba_vae, encode(rgba_vae, picture))
    shades = [distance(over(pred, b), over(picture, b)).mean() for b in (-1.0, 1.0)]
    assert torch.allclose(parts["perceptual"], sum(shades) / 2)
    weighted = sum(getattr(options, name) * part for name, part in parts.items() if name != "loss")
    assert torch.allclose(parts["loss"], weighted)


def test_the_divergence_from_the_rgb_vae_is_zero_at_step_0_and_grows(vae):
    rgba_vae = convert(vae)
    assert losses(rgba_vae, discs(2), ALL_PARTS, reference=vae)["reference_kl"].abs() < 1e-6
    with torch.no_grad():
        rgba_vae.encoder.conv_in.weight[:, 3:] = 0.1
    assert losses(rgba_vae, discs(2), ALL_PARTS, reference=vae)["reference_kl"] > 1e-4
    with pytest.raises(UsageError, match="expected the RGB VAE for reference_kl"):
        losses(rgba_vae, discs(2), ALL_PARTS)


# ---- gradients and training


def test_gradients_reach_the_colour_and_alpha_of_both_ends(vae):
    rgba_vae = convert(vae)
    losses(rgba_vae, discs(2), RgbaVaeOptions())["loss"].backward()
    first, last = rgba_vae.encoder.conv_in.weight.grad, rgba_vae.decoder.conv_out.weight.grad
    assert all(grad.abs().max() > 0 for grad in (first[:, :3], first[:, 3:], last[:3], last[3:]))
    assert rgba_vae.decoder.conv_out.bias.grad[3] != 0


def test_gradients_reach_the_latent_through_a_frozen_decoder(vae):
    rgba_vae = convert(vae).requires_grad_(False)
    with torch.no_grad():
        rgba_vae.decoder.conv_out.weight[3:].normal_()  # at step 0 alpha is a constant
    latent = encode(rgba_vae, discs(1)).requires_grad_()
    for channels in (slice(3), slice(3, 4)):
        (grad,) = torch.autograd.grad(decode(rgba_vae, latent)[:, channels].abs().sum(), latent)
        assert grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in rgba_vae.parameters())


def train(rgba_vae, picture, steps):
    """The loss before each step; latents are drawn."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(rgba_vae.parameters(), lr=3e-3, betas=(0.5, 0.9))
    history = []
    for _ in range(steps):
        loss = losses(rgba_vae, picture, RgbaVaeOptions(), generator=generator)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


def test_a_batch_is_learnt_in_colour_and_alpha():
    rgba_vae = convert(from_scratch())
    picture = discs(4)
    history = train(rgba_vae, picture, 50)
    assert history[-1] < history[0] / 5
    with torch.no_grad():
        alpha = decode(rgba_vae, encode(rgba_vae, picture))[:, 3]
    assert (alpha - picture[:, 3]).abs().mean() < 0.3


def test_a_real_cut_out_loses_its_opaque_background():
    cut_outs = real("layerdiffuse_rootonchair/assets", "fg_cond.png", cv2.IMREAD_UNCHANGED, 32)
    assert cut_outs.shape[1] == 4
    rgba_vae = convert(from_scratch())
    before = losses(rgba_vae, cut_outs, RgbaVaeOptions())["composite"].item()
    train(rgba_vae, cut_outs, 40)
    assert losses(rgba_vae, cut_outs, RgbaVaeOptions())["composite"].item() < before / 5


# ---- files


def test_a_saved_vae_is_loaded_as_it_was(vae, tmp_path):
    rgba_vae = convert(vae)
    with torch.no_grad():
        for parameter in rgba_vae.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    rgba_vae.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    with torch.no_grad():
        latent = encode(loaded, discs(2))
        assert torch.equal(latent, encode(rgba_vae, discs(2)))
        assert torch.equal(decode(loaded, latent), decode(rgba_vae, latent))
    assert loaded.config.in_channels == loaded.config.out_channels == 4
    # other programs read it too; they may round otherwise
    plain = AutoencoderKL.from_pretrained(tmp_path).eval()
    assert torch.allclose(decode(plain, latent), decode(loaded, latent), atol=1e-5)


def test_a_folder_without_such_a_vae_is_told(vae, tmp_path):
    with pytest.raises(UsageError, match="expected the configuration of an RGBA VAE"):
        load(tmp_path)
    vae.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="4 channels in and 4 out, got AutoencoderKL with 3 and 3"):
        load(tmp_path)


def test_weights_that_do_not_fit_are_told(vae, tmp_path):
    convert(vae).save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "encoder.conv_in.weight": torch.zeros(16, 3, 3, 3)}, weights)
    with pytest.raises(UsageError, match=r"encoder.conv_in.weight \[16, 3, 3, 3\] for \[16, 4, 3, 3\]"):
        load(tmp_path)
    del tensors["decoder.conv_out.bias"]
    save_file(tensors, weights)
    with pytest.raises(UsageError, match=r"1 missing: decoder\.conv_out\.bias"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(UsageError, match="expected safetensors"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps([4, 4])[:-1])
    with pytest.raises(UsageError, match="which cannot be read"):
        load(tmp_path)

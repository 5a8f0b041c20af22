"""Diffusion of layers: the loss against its equation, sampling against a closed form, and what a picture depends on."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.registry import parse_options
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.models.text2layer import Text2Layer, Text2LayerOptions, build
from layerkit.toolkit.models.text2layer_ae import Text2LayerAe, Text2LayerAeOptions, stacked
from layerkit.toolkit.models.text2layer_codec import CodecOptions, LayerCodec
from layerkit.toolkit.models.text_encoders import TextOptions

WORDS = TextOptions(encoder="words", length=8, buckets=128, width=16)
OPTIONS = Text2LayerOptions(size="debug", text=WORDS, steps=4)
CAPTIONS = ("a red cone", "a blue box", "a green sphere")


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of text2layer-ae, which has seen some latents but learned nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    system = Text2LayerAe(Text2LayerAeOptions(codec=CodecOptions(size="debug"), sampled=False))
    for _ in range(400):
        system.codec.gather(3 + 2 * torch.randn(2, 4, 8, 8))
    system.save(folder)
    (folder / "config.toml").write_text(
        'system = "text2layer-ae"\n[model]\nthreshold = 0.3\nsampled = false\n[model.codec]\nsize = "debug"\n'
    )
    return folder


@pytest.fixture
def system(codec: Path) -> Text2Layer:
    return made(codec)


def made(codec: Path, **options: Any) -> Text2Layer:
    torch.manual_seed(0)
    return build(replace(OPTIONS, codec=str(codec), **options), Origin()).eval()


def a_batch(captions: tuple[str, ...] = CAPTIONS, *, known: tuple[bool, ...] = (True, True, True)) -> Triplets:
    draws = torch.Generator().manual_seed(1)
    foreground, background = torch.rand(3, 4, 32, 32, generator=draws), torch.rand(3, 3, 32, 32, generator=draws)
    return Triplets(
        image=background,
        foreground=foreground,
        background=background,
        mask=(foreground[:, 3:] > 0.5).float(),
        has_foreground=torch.tensor(known),
        captions=captions,
    )


def loss_of(system: Text2Layer, batch: Triplets, seed: int = 0) -> Tensor:
    return system(batch, torch.Generator().manual_seed(seed), 0)["loss"]


def draws(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


# ---- the latent


def test_the_latent_is_brought_to_mean_0_and_variance_1_and_back(system: Text2Layer):
    latent = 3 + 2 * torch.randn(8, 4, 8, 8)
    normal = system.codec.normalised(latent)
    assert normal.mean((0, 2, 3)).abs().max() < 0.3
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 0.2
    torch.testing.assert_close(system.codec.denormalised(normal), latent)


def test_statistics_are_gathered_in_training_alone():
    codec = LayerCodec(CodecOptions(size="debug"))
    codec.eval().gather(5 + torch.randn(2, 4, 8, 8))
    assert codec.norm.running_mean.abs().max() == 0
    codec.train().gather(5 + torch.randn(2, 4, 8, 8))
    assert codec.norm.running_mean.min() > 0.04


# ---- the loss


def test_the_loss_is_the_mean_squared_error_of_the_noise(codec: Path):
    """Equation 5 of the paper, with the noise levels of Stable Diffusion written out."""
    system, batch = made(codec, drop=0.0), a_batch()
    seen: dict[str, Tensor] = {}

    def unet(noisy: Tensor, times: Tensor, states: Tensor) -> Any:
        seen.update(noisy=noisy, times=times, states=states)
        return SimpleNamespace(sample=torch.full_like(noisy, 0.25))

    system.unet.forward = unet  # type: ignore[method-assign]
    loss = loss_of(system, batch)
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    share = (1 - betas).cumprod(0)[seen["times"]].view(-1, 1, 1, 1)
    x0 = system.codec.normalised(system.codec.encode(stacked(batch, 0.3)).mode())
    noise = ((seen["noisy"] - share.sqrt() * x0) / (1 - share).sqrt()).float()
    assert noise.std().item() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(loss, ((0.25 - noise) ** 2).mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen["states"], system.text(CAPTIONS))


def test_captions_matter_unless_they_are_dropped(codec: Path):
    told, untold = made(codec, drop=0.0), made(codec, drop=1.0)
    batch, other = a_batch(), a_batch(("a white torus",) * 3)
    assert loss_of(told, batch) != loss_of(told, other)
    assert loss_of(untold, batch) == loss_of(untold, other) == loss_of(told, a_batch(("",) * 3))


def test_a_pair_without_a_foreground_has_no_part_in_the_loss(system: Text2Layer):
    first = a_batch(known=(True, False, True))
    other = replace(first, background=torch.where(first.has_foreground.view(-1, 1, 1, 1), first.background, 0.5))
    assert torch.equal(loss_of(system, first), loss_of(system, other))
    assert loss_of(system, a_batch(known=(False,) * 3)) == 0


def test_the_codec_stays_as_it_is(system: Text2Layer):
    system.train()
    before = {name: tensor.clone() for name, tensor in system.codec.state_dict().items()}
    loss_of(system, a_batch()).backward()
    assert all(name.startswith(("unet.", "text.")) for name in system.trained())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (system.unet.conv_in.weight, system.text.places))
    assert all(torch.equal(tensor, before[name]) for name, tensor in system.codec.state_dict().items())
    assert all(p.grad is None for p in system.codec.parameters())
    assert set(system.state()) == set(system.trained())


# ---- sampling


@pytest.mark.parametrize("steps", [4, 50])
def test_where_the_noise_is_known_sampling_ends_at_the_picture(codec: Path, steps: int):
    """Of one known latent the noise is (x - sqrt(a) x0) / sqrt(1 - a), and DDIM's last step is x0 itself."""
    system = made(codec, steps=steps)
    x0 = torch.randn(1, 4, 16, 16)
    levels = system._noise.alphas_cumprod

    def oracle(noisy: Tensor, time: Tensor, states: Tensor) -> Any:
        share = levels[time]
        return SimpleNamespace(sample=(noisy - share.sqrt() * x0) / (1 - share).sqrt())

    system.unet.forward = oracle  # type: ignore[method-assign]
    found = system.generate(["a cone", "a box"], draws(1, 2), (32, 32))
    wanted = system.codec.decode(system.codec.denormalised(x0))
    # The last level of Stable Diffusion's schedule is not 1 but 0.99915: a trace of the noise stays.
    torch.testing.assert_close(found.background[:1], ((wanted["background"] + 1) / 2).clamp(0, 1), atol=0.02, rtol=0)
    torch.testing.assert_close(found.foreground[:1, 3:], ((wanted["mask"] + 1) / 2).clamp(0, 1), atol=0.02, rtol=0)


def test_a_batch_of_prompts_is_the_prompts_one_by_one(system: Text2Layer):
    together = system.generate(CAPTIONS, draws(1, 2, 3), (32, 48))
    assert together.background.shape == (3, 3, 32, 48)
    assert together.foreground.shape == (3, 4, 32, 48)
    for number, caption in enumerate(CAPTIONS):
        alone = system.generate([caption], draws(number + 1), (32, 48))
        torch.testing.assert_close(alone.background[0], together.background[number], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.foreground[0], together.foreground[number], atol=1e-4, rtol=0)


def test_a_seed_gives_a_picture_and_another_seed_or_text_another(system: Text2Layer):
    first, again = (system.generate(["a cone"], draws(5), (32, 32)).background for _ in range(2))
    seeded, told = (system.generate([t], draws(s), (32, 32)).background for t, s in (("a cone", 6), ("a box", 5)))
    steered = system.generate(["a cone"], draws(5), (32, 32), ["a box"]).background
    assert torch.equal(first, again)
    assert all(not torch.equal(first, other) for other in (seeded, told, steered))


def test_guidance_of_1_is_the_network_alone_and_more_moves_away_from_the_empty_text(codec: Path):
    latent, time = torch.randn(1, 4, 16, 16), torch.tensor(500)
    plain, strong = made(codec, guidance=1.0), made(codec, guidance=3.0)
    states = plain.text(["a cone", ""])
    wanted, other = (plain.unet(latent, time, state[None]).sample for state in states)
    torch.testing.assert_close(plain._guided(latent, time, states), wanted)
    torch.testing.assert_close(strong._guided(latent, time, states), other + 3 * (wanted - other), atol=1e-5, rtol=1e-4)


def test_sizes_that_the_networks_do_not_divide_are_refused(system: Text2Layer):
    assert system.multiple == 4
    with pytest.raises(UsageError, match="expected sides that 4 divides, got 30x32 px"):
        system.generate(["a cone"], draws(1), (32, 30))


# ---- what it is made of


def test_the_papers_network_is_stable_diffusions():
    with torch.device("meta"):
        system = build(Text2LayerOptions(), Origin(base="some/base", meta=True))
    assert round(sum(p.numel() for p in system.unet.parameters()) / 1e6) == 860, "Stable Diffusion 1's UNet"
    assert system.multiple == 64
    assert system.unet.config.cross_attention_dim == 768


def test_a_base_or_another_run_may_be_begun_with(codec: Path, tmp_path: Path):
    first = made(codec)
    first.unet.save_pretrained(tmp_path / "base" / "unet")
    first.save(tmp_path)
    begun = made(codec, init=str(tmp_path))
    torch.manual_seed(5)
    tuned = build(replace(OPTIONS, codec=str(codec), finetune=True), Origin(base=str(tmp_path / "base")))
    for one in (begun, tuned):
        assert all(map(torch.equal, one.unet.state_dict().values(), first.unet.state_dict().values()))
    nn.init.zeros_(first.text.places)
    with pytest.raises(UsageError, match=r"finetune: expected --base"):
        made(codec, finetune=True)
    wide = replace(OPTIONS, codec=str(codec), finetune=True, text=replace(WORDS, width=24))
    with pytest.raises(UsageError, match="does not hold the tensors of a UNet2DConditionModel"):
        build(wide, Origin(base=str(tmp_path / "base")))


def test_a_codec_that_is_missing_or_another_run_is_told(codec: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"codec: expected the folder of a run of text2layer-ae, got none; train one"):
        build(OPTIONS, Origin())
    other = shutil.copytree(codec, tmp_path / "other")
    (other / "config.toml").write_text('system = "layerdecomp"\n')
    with pytest.raises(UsageError, match=r"config\.toml: expected a run of text2layer-ae, got one of layerdecomp"):
        made(other)
    with pytest.raises(
        UsageError, match=r"model\.codec: expected the folder of a run .*, found none at .*moved; where"
    ):
        made(tmp_path / "moved")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"size": "xl"}, "size: expected one of debug, small, sd, got 'xl'"),
        ({"drop": 1.5}, r"drop: expected a share in 0\.\.1, got 1\.5"),
        ({"guidance": 0.5}, "expected steps and guidance of 1 or more"),
        ({"guidance": math.nan}, "expected steps and guidance of 1 or more"),
        ({"steps": 1000}, "steps: expected fewer than the 1000 levels of noise, got 1000"),
        ({"text": {"encoder": "t5"}}, r"model\.text\.encoder"),
    ],
)
def test_options_that_make_no_sense_are_refused(table: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        parse_options("text2layer", table)

"""ASUKA's decoder: what it begins as, what it may see, what it is trained on, and what it leaves behind."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn

from layerkit.manifests import trainings
from layerkit.manifests.errors import UsageError
from layerkit.pipelines.lock import to_toml
from layerkit.toolkit.models import asuka_decoder, sd_inpaint
from layerkit.toolkit.models.asuka_decoder import (
    AsukaDecoderOptions,
    AsukaDecoderTraining,
    build,
    load_decoder,
    resolve,
)
from layerkit.toolkit.models.asuka_decoder_network import AsukaDecoder, ConditionEncoder, mixed, touched
from layerkit.toolkit.models.asuka_decoder_views import (
    Colour,
    Denoised,
    clean_of,
    draw_times,
    ellipses,
    holes,
    off_colour,
    one_step,
)
from layerkit.toolkit.models.bases import DEBUG
from layerkit.toolkit.models.patch_discriminator import Adversarial
from layerkit.toolkit.models.registry import load_run, parse_options
from layerkit.toolkit.models.sd_inpaint import decode, encode, load_sd_inpaint, save_debug
from layerkit.toolkit.models.system import Origin, Triplets

OFF = {"colour": Colour(probability=0.0), "latent": Denoised(probability=0.0)}
PLAIN = AsukaDecoderOptions(base_dtype="float32", **OFF)
FULL = AsukaDecoderOptions(base_dtype="float32", latent=Denoised(text="zeros"))


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "sd"
    save_debug(folder)
    return folder


def made(options: AsukaDecoderOptions = PLAIN, base: object = DEBUG) -> AsukaDecoderTraining:
    torch.manual_seed(0)
    origin = Origin(base=str(base))
    return build(resolve(options, origin), origin)


def a_vae(**settings: Any) -> Any:
    """A VAE of three levels, as Stable Diffusion's has four."""
    known = {"up_block_types": ("UpDecoderBlock2D",) * 3, "down_block_types": ("DownEncoderBlock2D",) * 3}
    return AutoencoderKL(**{**known, "block_out_channels": (8, 16, 24), "norm_num_groups": 4, **settings}).eval()


def a_scene(count: int = 2, side: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, latents that are not theirs, and masks of a box that no latent pixel of four divides."""
    draws = torch.Generator().manual_seed(1)
    mask = torch.zeros(count, 1, side, side)
    mask[..., 5:18, 7:22] = 1
    return (
        torch.rand(count, 3, side, side, generator=draws),
        torch.randn(count, 4, side // 4, side // 4, generator=draws),
        mask,
    )


def a_batch(count: int = 4, side: int = 32) -> Triplets:
    draws = torch.Generator().manual_seed(1)
    background = nn.functional.interpolate(
        torch.rand(count, 3, 5, 5, generator=draws), size=(side, side), mode="bilinear"
    )
    mask = torch.zeros(count, 1, side, side)
    mask[..., 8:20, 10:23] = 1
    return Triplets(
        image=1 - background,
        foreground=torch.rand(count, 4, side, side, generator=draws),
        background=background,
        mask=mask,
        has_foreground=torch.ones(count, dtype=torch.bool),
    )


def losses(system: AsukaDecoderTraining, batch: Triplets, step: int = 0, seed: int = 0) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(seed), step)


def spread(system: nn.Module) -> None:
    """Weights at which nothing is zero by accident."""
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))


# ---- the network


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"use_post_quant_conv": False}, {"shift_factor": 0.2, "scaling_factor": 1.5}, {"layers_per_block": 2}],
)
def test_untrained_it_decodes_a_whole_hole_as_the_base_does(condition: bool, settings: dict):
    vae = a_vae(**settings)
    image, latent, mask = a_scene()
    decoder = AsukaDecoder(vae, condition=condition)
    assert torch.equal(decoder(latent, image, torch.ones_like(mask), paste=False), decode(vae, latent))
    assert torch.equal(decoder(latent, image, torch.ones_like(mask)), decode(vae, latent).clamp(0, 1))


def test_without_the_branch_it_is_the_base_with_the_picture_pasted_back():
    vae = a_vae()
    image, latent, mask = a_scene()
    given = AsukaDecoder(vae, condition=False)(latent, image, mask)
    assert torch.equal(given, torch.where(mask > 0, decode(vae, latent).clamp(0, 1), image))


def test_nothing_is_shared_with_the_base():
    vae = a_vae()
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    spread(AsukaDecoder(vae))
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_not_masked_comes_back_to_the_bit(trained: bool):
    image, latent, mask = a_scene()
    decoder = AsukaDecoder(a_vae())
    if trained:
        spread(decoder)
    given = decoder(latent, image, mask)
    outside = (mask == 0).expand_as(image)
    assert torch.equal(given[outside], image[outside])
    assert not torch.equal(given[~outside], image[~outside])
    assert 0 <= given.min() <= given.max() <= 1
    assert torch.equal(decoder(latent, image, torch.zeros_like(mask)), image)


def test_what_lies_in_the_hole_is_never_seen():
    image, latent, mask = a_scene()
    decoder = AsukaDecoder(a_vae())
    spread(decoder)
    other = torch.where(mask > 0, torch.full_like(image, float("nan")), image)
    for paste in (True, False):
        assert torch.equal(decoder(latent, image, mask, paste=paste), decoder(latent, other, mask, paste=paste))


def test_what_lies_around_the_hole_decides_in_it():
    image, latent, mask = a_scene()
    hole = (mask > 0).expand_as(image)
    other = torch.where(mask > 0, image, 1 - image)
    for condition in (True, False):
        decoder = AsukaDecoder(a_vae(), condition=condition)
        same = torch.equal(decoder(latent, image, mask)[hole], decoder(latent, other, mask)[hole])
        assert same is not condition


def test_the_branch_sees_the_mask():
    """The masked picture is grey in the hole, and so is this one without a hole: only the mask can tell."""
    image, _, mask = a_scene()
    grey = torch.where(mask > 0, 0.5, image)
    branch = ConditionEncoder((8, 16, 16, 24))
    with_hole, without = branch(grey, mask), branch(grey, torch.zeros_like(mask))
    assert [tuple(one.shape[1:]) for one in with_hole] == [(24, 8, 8), (16, 16, 16), (16, 32, 32), (8, 32, 32)]
    assert not any(torch.equal(one, other) for one, other in zip(with_hole, without, strict=True))


def test_its_sizes_are_those_of_the_levels_of_stable_diffusion():
    with torch.device("meta"):
        decoder = AsukaDecoder(AutoencoderKL(**sd_inpaint.CONFIGS[sd_inpaint.SD15]["vae"]))
    assert decoder.condition is not None
    assert [layer.out_channels for layer in decoder.condition.layers] == [128, 256, 512, 512, 512]
    given = decoder(*(torch.zeros(1, *shape, device="meta") for shape in ((4, 8, 8), (3, 64, 64), (1, 64, 64))))
    assert given.shape == (1, 3, 64, 64)


def test_a_hole_can_only_grow():
    torch.manual_seed(3)
    mask = (torch.rand(2, 1, 16, 24) > 0.9).float()
    for factor in (1, 2, 4, 8):
        like = torch.zeros(2, 5, 16 // factor, 24 // factor)
        found = touched(mask, like)
        for n in range(2):
            for y in range(16 // factor):
                for x in range(24 // factor):
                    cell = mask[n, 0, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
                    assert bool(found[n, 0, y, x]) is bool(cell.any())
    hidden, known = torch.rand(2, 5, 4, 6), torch.rand(2, 5, 4, 6)
    m = nn.functional.max_pool2d(mask, 4)
    torch.testing.assert_close(mixed(hidden, known, mask), hidden * m + known * (1 - m))
    assert mixed(hidden, None, mask) is hidden


def test_recomputed_activations_give_the_same_gradient():
    image, latent, mask = a_scene()
    grads = []
    for recompute in (False, True):
        torch.manual_seed(0)
        decoder = AsukaDecoder(a_vae())
        if recompute:
            decoder.enable_gradient_checkpointing()
        decoder(latent, image, mask, paste=False).square().mean().backward()
        grads.append([parameter.grad for parameter in decoder.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


# ---- holes and colours


def test_holes_are_those_of_the_data_or_ellipses():
    mask = a_batch(64).mask
    draws = torch.Generator().manual_seed(0)
    assert torch.equal(holes(mask, 0.0, draws), mask)
    some = holes(mask, 0.5, draws)
    kept = [torch.equal(one, other) for one, other in zip(some, mask, strict=True)]
    assert 16 < sum(kept) < 48
    assert set(some.unique().tolist()) == {0.0, 1.0}


def test_an_ellipse_has_the_area_of_one():
    """Those that lie within the picture: π a b, with a and b of 0.1 to 0.35 of the sides."""
    shapes = ellipses(torch.Size((200, 1, 60, 90)), torch.Generator().manual_seed(0))
    border = shapes[..., [0, -1], :].amax((1, 2, 3)) + shapes[..., [0, -1]].amax((1, 2, 3))
    areas = shapes[border == 0].mean((1, 2, 3))
    assert 3.1 * 0.1**2 < areas.min() < areas.max() < 3.2 * 0.35**2
    assert 0 < (border > 0).float().mean() < 1


def test_colours_change_in_the_hole_alone_and_in_a_share_of_the_pictures():
    picture, mask = a_batch(60).background, a_batch(60).mask
    draws = torch.Generator().manual_seed(0)
    other = off_colour(picture, mask, Colour(probability=0.5), draws)
    hole = (mask > 0).expand_as(picture)
    assert torch.equal(other[~hole], picture[~hole])
    changed = [not torch.equal(one, two) for one, two in zip(other, picture, strict=True)]
    assert 15 < sum(changed) < 45
    assert 0 <= other.min() <= other.max() <= 1
    assert torch.equal(off_colour(picture, mask, Colour(probability=0.0), draws), picture)


def test_colours_are_perturbed_in_what_is_encoded_and_not_in_what_is_wanted(monkeypatch: pytest.MonkeyPatch):
    system, batch = made(replace(PLAIN, colour=Colour(probability=1.0), shapes=0.0)), a_batch()
    encoded: list[Tensor] = []

    def noted(vae: Any, pictures: Tensor) -> Tensor:
        encoded.append(pictures)
        return encode(vae, pictures)

    monkeypatch.setattr(asuka_decoder, "encode", noted)
    part = losses(system, batch)["l1"]
    hole = (batch.mask > 0).expand_as(batch.background)
    assert torch.equal(encoded[0][~hole], batch.background[~hole])
    assert not torch.equal(encoded[0][hole], batch.background[hole])
    given = system.decoder(encode(system.vae, encoded[0]), batch.background, batch.mask, paste=False)
    torch.testing.assert_close(part, 2 * (given - batch.background).abs().mean())


# ---- latents


class Told(nn.Module):
    """A UNet that answers as it was told to, and notes what it saw."""

    dtype = torch.float32

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, shown: Tensor, times: Tensor, states: Tensor) -> Any:
        self.saw = shown, times, states
        return type("Output", (), {"sample": self.answer})


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_guess_is_the_clean_latent(kind: str):
    schedule = DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    clean, eps, view = torch.randn(3, 4, 6, 5), torch.randn(3, 4, 6, 5), torch.randn(3, 5, 6, 5)
    times = torch.tensor([0, 300, 900])
    answer = {"epsilon": eps, "v_prediction": schedule.get_velocity(clean, eps, times), "sample": clean}[kind]
    unet = Told(answer)
    found = one_step(unet, schedule, clean, view, torch.zeros(1, 7, 8), times, eps)
    torch.testing.assert_close(found, clean, atol=2e-4, rtol=0)
    shown, seen_times, states = unet.saw
    torch.testing.assert_close(shown, torch.cat([schedule.add_noise(clean, eps, times), view], 1))
    assert torch.equal(seen_times, times)
    assert states.shape == (3, 7, 8)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_any_guess_is_that_of_the_sampler(kind: str):
    schedule = DDIMScheduler(prediction_type=kind, clip_sample=False)
    schedule.set_timesteps(10)
    guess, noisy = torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5)
    time = schedule.timesteps[4]
    found = clean_of(guess, noisy, schedule.alphas_cumprod[time], kind)
    torch.testing.assert_close(found, schedule.step(guess, time, noisy).pred_original_sample)


def test_another_kind_of_guess_is_refused():
    with pytest.raises(UsageError, match="expected a base that predicts epsilon, v_prediction or sample, got 'flow'"):
        clean_of(torch.zeros(1), torch.zeros(1), torch.ones(1), "flow")


def test_times_are_drawn_within_their_range():
    times = draw_times(Denoised(times=(0.2, 0.4)), 5000, 1000, torch.Generator().manual_seed(0))
    assert (times.min(), times.max()) == (200, 400)
    assert draw_times(Denoised(times=(1.0, 1.0)), 3, 1000, torch.Generator()).tolist() == [999] * 3


def test_latents_are_denoised_in_a_share_of_the_samples():
    system, batch = made(replace(PLAIN, latent=Denoised(text="zeros", times=(0.5, 0.5)))), a_batch(40)
    clean = encode(system.vae, batch.background)
    found = system.latents(batch.background, batch.mask, torch.Generator().manual_seed(0))
    changed = (found != clean).flatten(1).any(1)
    assert 10 < int(changed.sum()) < 30
    draws = torch.Generator().manual_seed(0)
    off_colour(batch.background, batch.mask, Colour(), draws)  # draws as much, whatever it changes
    assert torch.equal(changed, torch.rand(40, generator=draws) < 0.5)


def test_without_noise_the_guess_is_near_to_the_latent():
    batch = a_batch()
    distances = []
    for times in ((0.0, 0.0), (0.9, 0.9)):
        system = made(replace(PLAIN, latent=Denoised(probability=1.0, times=times, text="zeros")))
        found = system.latents(batch.background, batch.mask, torch.Generator().manual_seed(0))
        distances.append((found - encode(system.vae, batch.background)).abs().mean())
    assert distances[0] < 0.05 < distances[1]


# ---- the base


def test_the_empty_prompt_is_that_of_the_base(folder: Path):
    system = made(AsukaDecoderOptions(base_dtype="float32"), folder)
    assert system.states is not None
    assert system.states.shape == (1, 16, 16)
    assert system.states.abs().sum() > 0
    with pytest.raises(UsageError, match=r"got debug; add --set model\.latent\.text=zeros"):
        made(AsukaDecoderOptions())


def test_the_network_that_denoises_is_kept_where_it_is_used(folder: Path):
    assert made(PLAIN).unet is None
    assert made(PLAIN).multiple == 2
    system = made(replace(FULL, base_dtype="bfloat16"))
    assert system.unet.dtype == torch.bfloat16
    assert system.multiple == 4
    assert torch.isfinite(losses(system, a_batch())["loss"])


# ---- training


def test_the_decoder_alone_learns_and_all_of_it():
    system = made(replace(FULL, adversarial=Adversarial(weight=0.5, start=0, width=8, depth=2)))
    losses(system, a_batch())["loss"].backward()
    trained = system.trained()
    assert {name.split(".")[0] for name in trained} == {"decoder", "discriminator"}
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trained.values())
    assert system.unet is not None
    frozen = [*system.vae.parameters(), *system.unet.parameters()]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)


def test_the_perceptual_distance_and_the_discriminator_take_part():
    def distance(one: Tensor, other: Tensor) -> Tensor:
        return ((one - other) ** 2).mean((1, 2, 3))

    options = replace(PLAIN, adversarial=Adversarial(weight=0.5, start=2, width=8, depth=2))
    base = load_sd_inpaint(Origin(base=DEBUG), torch.float32)
    system = AsukaDecoderTraining(options, base, perceptual=distance)
    before, after = losses(system, a_batch(), step=1), losses(system, a_batch(), step=2)
    torch.testing.assert_close(before["loss"], before["l1"] + before["perceptual"])
    assert before["discriminator"].item() == 0
    assert {"adversarial", "discriminator"} <= after.keys()
    torch.testing.assert_close(after["loss"], sum(after[name] for name in after if name != "loss"))


def test_one_seed_gives_one_loss():
    system, batch = made(FULL), a_batch()
    first, again, other = (losses(system, batch, seed=seed)["loss"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("condition", [True, False])
def test_one_batch_is_learned_by_heart(condition: bool):
    system, batch = made(replace(PLAIN, condition=condition, shapes=0.0)), a_batch()
    optimiser = torch.optim.AdamW(system.trained().values(), lr=4e-3)
    first = losses(system, batch)["loss"].item()
    for _ in range(150):
        optimiser.zero_grad()
        loss = losses(system, batch)["loss"]
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 5
    given = system.eval().predict(batch, torch.Generator()).background
    outside = (batch.mask == 0).expand_as(given)
    assert torch.equal(given[outside], batch.background[outside])
    error = (given - batch.background)[~outside].abs().mean()
    assert error < 0.5 * (batch.background - batch.background.mean()).abs().mean()


# ---- what it leaves


def a_run(options: AsukaDecoderOptions, base: object, out: Path) -> AsukaDecoderTraining:
    """A run's folder of weights that are nobody else's, without the training."""
    system = made(options, base)
    spread(system.decoder)
    out.mkdir(exist_ok=True)
    table = {"system": "asuka-decoder", "base": str(base), "model": json.loads(json.dumps(asdict(system.options)))}
    (out / "config.toml").write_text(to_toml(table), encoding="utf-8")
    system.save(out)
    return system.eval()


@pytest.mark.parametrize("condition", [True, False])
def test_a_decoder_is_loaded_without_its_base(folder: Path, tmp_path: Path, condition: bool):
    adversarial = Adversarial(weight=0.5, width=8, depth=2)
    options = replace(FULL, condition=condition, adversarial=adversarial)
    system = a_run(options, folder, tmp_path / "run")
    text = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8").replace(str(folder), "nowhere")
    (tmp_path / "run" / "config.toml").write_text(text, encoding="utf-8")
    decoder = load_decoder(tmp_path / "run")
    image, latent, mask = a_scene(side=16)
    latent = torch.randn(2, 4, 8, 8)
    mask = mask[..., :16, :16]
    assert torch.equal(decoder(latent, image, mask), system.decoder(latent, image, mask))
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    sizes = load_decoder(tmp_path / "run", meta=True)
    assert {parameter.device.type for parameter in sizes.parameters()} == {"meta"}
    assert sizes(latent.to("meta"), image.to("meta"), mask.to("meta")).shape == image.shape


def test_a_run_is_restored(folder: Path, tmp_path: Path):
    system = a_run(FULL, folder, tmp_path / "run")
    again, _ = load_run(tmp_path / "run")
    batch = a_batch()
    first, second = (one.predict(batch, torch.Generator()).background for one in (system, again))
    assert torch.equal(first, second)
    assert again.unet is None  # what is trained is not gone on with
    other = load_run(tmp_path / "run", base=DEBUG)[0].predict(batch, torch.Generator()).background
    assert torch.equal(first, other)


def test_what_is_no_run_of_it_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="expected the folder of a run of asuka-decoder, found none at"):
        load_decoder(tmp_path)
    (tmp_path / "config.toml").write_text('system = "rgba-vae"\n')
    with pytest.raises(UsageError, match=r"config\.toml: expected a run of asuka-decoder, got one of rgba-vae"):
        load_decoder(tmp_path)
    (tmp_path / "config.toml").write_text('system = "asuka-decoder"\n')
    with pytest.raises(UsageError, match=r"expected the base's VAE in model\.vae, got none"):
        load_decoder(tmp_path)
    a_run(PLAIN, folder, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("condition = true", "condition = false"))
    with pytest.raises(UsageError, match=r"does not hold the tensors of a AsukaDecoder; .* unexpected: condition"):
        load_decoder(tmp_path / "run")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"colour": {"probability": 1.5}}, r"colour: expected a probability in 0\.\.1, got 1\.5"),
        ({"colour": {"changes": {"hue": [2.0, 1.0]}}}, r"recolour\.hue: expected least and greatest"),
        ({"latent": {"times": [0.5, 0.2]}}, r"times in rising order within 0\.\.1, got 0\.5 and \[0\.5, 0\.2\]"),
        ({"latent": {"text": "a dog"}}, "expected one of empty, zeros, got 'a dog'"),
        ({"shapes": 2.0}, r"shapes: expected a share in 0\.\.1, got 2\.0"),
        ({"loss": {"l1": -1.0}}, "loss: expected weights of 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(table: dict, words: str):
    with pytest.raises(UsageError, match=words):
        parse_options("asuka-decoder", table)


def test_the_ladder_stands_in_the_recipe():
    def rung(*presets: str) -> tuple[bool, float, float]:
        options = parse_options("asuka-decoder", trainings.load("asuka-decoder", presets)["model"])
        return options.condition, options.colour.probability, options.latent.probability

    rungs = {name: rung(name) for name in ("plain", "condition", "colour", "latent")}
    assert rungs == {
        "plain": (False, 0.0, 0.0),
        "condition": (True, 0.0, 0.0),
        "colour": (True, 0.5, 0.0),
        "latent": (True, 0.5, 0.5),
    }
    assert rung() == rungs["latent"]
    assert rung("small", "plain") == rungs["plain"]

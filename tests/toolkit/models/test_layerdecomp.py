"""LayerDecomp: the joint sequence, the masked losses, the closed form of x0, and what a debug network memorises."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models import layerdecomp
from layerkit.toolkit.models.layerdecomp import VARIANTS, decompose, sample
from layerkit.toolkit.models.layerdecomp_loss import (
    Batch,
    Consistency,
    add_noise,
    clean_estimate,
    encode_batch,
    losses,
    noise_schedule,
    over,
    timestep_weights,
)
from layerkit.toolkit.models.layerdecomp_network import CONFIGS, LayerDecompConfig, LayerDecompTransformer

N, C, SIDE = 4, 4, 8
DEBUG = CONFIGS["debug"]
ALPHAS = noise_schedule(DEBUG.schedule).alphas_cumprod
STEPS, DRAWS, RATE = 300, 4, 6e-3


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def awake(network: nn.Module) -> nn.Module:
    """The network with all weights random, so that every path carries signal."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@dataclass(frozen=True)
class Codec:
    encode: Callable[[Tensor], Tensor]
    encode_rgba: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    decode_rgba: Callable[[Tensor], Tensor]


def pixel_codec() -> Codec:
    """Latents that are the pixels in -1..1, with a fourth channel of zeros where there is no alpha."""

    def encode(rgb: Tensor) -> Tensor:
        return torch.cat([2 * rgb - 1, torch.zeros_like(rgb[:, :1])], 1)

    return Codec(
        encode=encode,
        encode_rgba=lambda rgba: 2 * rgba - 1,
        decode=lambda latent: (latent[:, :3] + 1) / 2,
        decode_rgba=lambda latent: (latent + 1) / 2,
    )


def a_batch(has_foreground: list[bool] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(N, 8, 2, 2, generator=generator)
    background, foreground, draw = nn.functional.interpolate(coarse, size=(SIDE, SIDE)).split([3, 4, 1], 1)
    known = torch.tensor(has_foreground or [True] * N)
    mask = (draw > 0.5).float()
    return encode_batch(pixel_codec(), over(foreground, background), mask, background, foreground, known)


def a_step(batch: Batch) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(batch.layers.shape, generator=generator)
    return {"noise": noise, "timesteps": torch.tensor([10, 300, 600, 950])[:N], "alphas_cumprod": ALPHAS}


@pytest.fixture(scope="module")
def memorised() -> tuple[LayerDecompTransformer, Batch, list[float]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, batch = DEBUG.build(), a_batch()
    repeated = Batch(**{name: value.repeat_interleave(DRAWS, 0) for name, value in vars(batch).items()})
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    history = []
    for _ in range(STEPS):
        noise, timesteps = torch.randn_like(repeated.layers), torch.randint(1000, (N * DRAWS,))
        total = losses(network, repeated, noise, timesteps, ALPHAS)["loss"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()
        history.append(total.item())
    return network.eval(), batch, history


# ---- network


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12)])
@pytest.mark.parametrize("foreground", [True, False])
def test_noise_is_shaped_as_the_layers_and_zero_before_training(foreground: bool, height: int, width: int):
    network = replace(DEBUG, foreground=foreground).build()
    noisy, condition = torch.randn(2, 1 + foreground, C, height, width), torch.randn(2, 2, C, height, width)
    noise = network(noisy, condition, torch.tensor([0, 999]))
    assert noise.shape == noisy.shape
    assert not noise.any()
    assert awake(network)(noisy, condition, torch.tensor([0, 999])).any()


def test_maps_of_other_shapes_are_refused():
    network = DEBUG.build()
    with pytest.raises(ValueError, match=r"multiples of 2 .* got \(1, 2, 4, 7, 8\)"):
        network(torch.zeros(1, 2, C, 7, 8), torch.zeros(1, 2, C, 7, 8), torch.zeros(1))
    with pytest.raises(ValueError, match=r"expected noisy latents \(N, 2, 4, h, w\)"):
        network(torch.zeros(1, 1, C, 8, 8), torch.zeros(1, 2, C, 8, 8), torch.zeros(1))


def test_samples_do_not_see_each_other():
    network, batch, step = awake(DEBUG.build()).eval(), a_batch(), a_step(a_batch())
    order = torch.tensor([2, 0, 3, 1])
    noise = network(step["noise"], batch.condition, step["timesteps"])
    swapped = network(step["noise"][order], batch.condition[order], step["timesteps"][order])
    torch.testing.assert_close(swapped, noise[order])


def test_each_map_has_its_place_and_every_map_is_seen():
    network = awake(DEBUG.build()).eval()
    noisy, condition, time = torch.randn(1, 2, C, 8, 8), torch.randn(1, 2, C, 8, 8), torch.tensor([500])
    noise = network(noisy, condition, time)
    assert not torch.allclose(network(noisy.flip(1), condition, time), noise.flip(1))
    for index in range(2):
        for maps in (noisy, condition):
            other = maps.clone()
            other[:, index] += 1
            arguments = (other, condition) if maps is noisy else (noisy, other)
            assert not torch.allclose(network(*arguments, time), noise)


def test_without_types_the_layers_are_interchangeable():
    network = awake(DEBUG.build()).eval()
    nn.init.zeros_(network.type_embed)
    noisy, condition, time = torch.randn(1, 2, C, 8, 8), torch.randn(1, 2, C, 8, 8), torch.tensor([500])
    torch.testing.assert_close(network(noisy.flip(1), condition, time), network(noisy, condition, time).flip(1))


def test_gradient_checkpointing_changes_no_gradient():
    plain = awake(DEBUG.build())
    recomputing = copy.deepcopy(plain)
    recomputing.enable_gradient_checkpointing()
    batch = a_batch()
    for network in (plain, recomputing):
        losses(network, batch, **a_step(batch))["loss"].backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_saved_and_loaded_is_equal(tmp_path):
    network = awake(replace(DEBUG, schedule="linear").build()).eval()
    network.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = LayerDecompTransformer.from_pretrained(tmp_path)
    assert loaded.schedule == "linear"
    assert {name: loaded.config[name] for name in asdict(DEBUG)} == asdict(replace(DEBUG, schedule="linear"))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_impossible_options_are_refused():
    with pytest.raises(UsageError, match=r"width must be a multiple of heads \(5\)"):
        LayerDecompConfig(width=64, heads=5)
    with pytest.raises(UsageError, match="schedule must be one of scaled_linear, linear, got 'cosine'"):
        LayerDecompConfig(schedule="cosine")


# ---- initialised from a DiT


def a_dit(**sizes: int) -> DiTTransformer2DModel:
    wanted = {"num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 2, "sample_size": 8, "out_channels": 8}
    return awake(DiTTransformer2DModel(in_channels=C, num_embeds_ada_norm=10, **wanted | sizes)).eval()


def test_init_from_computes_the_noise_of_the_dit():
    """Four equal maps without types attend as one does, so that the noise of each layer is the DiT's own."""
    dit, network = a_dit(), DEBUG.build().eval()
    network.init_from(dit)
    nn.init.zeros_(network.type_embed)
    latent, time = torch.randn(2, C, 8, 8), torch.tensor([3, 700])
    maps = latent[:, None].expand(-1, 2, -1, -1, -1)
    expected = dit(latent, time, class_labels=torch.tensor([10, 10])).sample[:, :C]
    for layer in network(maps, maps, time).unbind(1):
        torch.testing.assert_close(layer, expected, rtol=1e-4, atol=1e-4)
    own = network.transformer_blocks[1].ff.net[2].weight
    assert torch.equal(own, dit.transformer_blocks[1].ff.net[2].weight)
    assert own.data_ptr() != dit.transformer_blocks[1].ff.net[2].weight.data_ptr()


def test_init_from_says_what_fits():
    with pytest.raises(UsageError, match="a DiTTransformer2DModel of diffusers fits, got Linear"):
        DEBUG.build().init_from(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="num_layers 3 instead of 2, attention_head_dim 8 instead of 16"):
        DEBUG.build().init_from(a_dit(num_layers=3, attention_head_dim=8))


# ---- losses


def test_the_clean_estimate_inverts_the_noise():
    clean, noise = torch.randn(5, 2, C, 8, 8), torch.randn(5, 2, C, 8, 8)
    for alpha in (ALPHAS[[0, 100, 400, 700, 900]], noise_schedule("linear").alphas_cumprod[[0, 100, 400, 700, 800]]):
        noisy = add_noise(clean, noise, alpha)
        torch.testing.assert_close(clean_estimate(noisy, noise, alpha), clean, rtol=1e-3, atol=1e-3)
    scheduler, times = noise_schedule(DEBUG.schedule), torch.tensor([0, 100, 400, 700, 900])
    torch.testing.assert_close(
        add_noise(clean, noise, ALPHAS[times]), scheduler.add_noise(clean, noise, times), rtol=1e-5, atol=1e-5
    )


def test_noise_losses_are_mean_squares_over_the_known_layers():
    batch = a_batch([True, False, True, False])
    parts = losses(lambda noisy, condition, time: torch.zeros_like(noisy), batch, **a_step(batch))
    squares = a_step(batch)["noise"].square().mean((2, 3, 4))
    torch.testing.assert_close(parts["background"], squares[:, 0].mean())
    torch.testing.assert_close(parts["foreground"], squares[[0, 2], 1].sum() / N)
    torch.testing.assert_close(parts["loss"], parts["background"] + parts["foreground"])


def test_an_unknown_foreground_is_neither_read_nor_learnt():
    batch = a_batch([True, False, True, False])
    predictions = {}

    def denoise(noisy: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        predictions["noisy"] = noisy
        predictions["noise"] = torch.zeros_like(noisy, requires_grad=True)
        return predictions["noise"]

    parts = losses(denoise, batch, **a_step(batch))
    parts["loss"].backward()
    gradient = predictions["noise"].grad
    assert not gradient[[1, 3], 1].any()
    assert gradient[[0, 2], 1].all()
    assert gradient[:, 0].all()
    assert not predictions["noisy"][[1, 3], 1].any()
    unread = batch.layers.clone()
    unread[[1, 3], 1] = torch.nan
    again = losses(denoise, replace(batch, layers=unread), **a_step(batch))
    assert again["loss"] == parts["loss"]


def toy_decoders() -> tuple[nn.ModuleList, Codec]:
    decoders = nn.ModuleList([nn.Conv2d(C, 3, 1), nn.Conv2d(C, 4, 1)]).requires_grad_(False)
    return decoders, replace(pixel_codec(), decode=decoders[0], decode_rgba=decoders[1])


def test_consistency_reaches_both_branches_through_frozen_decoders():
    decoders, codec = toy_decoders()
    batch, network = a_batch(), awake(DEBUG.build())
    outputs = []

    def denoise(*maps: Tensor) -> Tensor:
        outputs.append(network(*maps))
        outputs[0].retain_grad()
        return outputs[0]

    losses(denoise, batch, **a_step(batch), codec=codec, consistency=Consistency())["consistency"].backward()
    assert outputs[0].grad.flatten(2).abs().sum(2).gt(0).all()
    assert all(parameter.grad is not None for parameter in network.transformer_blocks.parameters())
    assert all(parameter.grad is None for parameter in decoders.parameters())


def test_consistency_vanishes_for_the_true_noise_and_is_weighted_in_the_total():
    batch = a_batch()
    step = a_step(batch)
    rule = Consistency(weight=3, rule="all")
    true = losses(lambda *maps: step["noise"], batch, **step, codec=pixel_codec(), consistency=rule)
    assert true["consistency"] < 1e-5
    parts = losses(lambda noisy, *_: 0 * noisy, batch, **step, codec=pixel_codec(), consistency=rule)
    torch.testing.assert_close(parts["loss"], parts["background"] + parts["foreground"] + 3 * parts["consistency"])
    alpha = ALPHAS[step["timesteps"]].reshape(-1, 1, 1, 1)
    background, foreground = (add_noise(batch.layers, step["noise"], alpha) / alpha[..., None].sqrt()).unbind(1)
    composite = over((foreground + 1) / 2, (background[:, :3] + 1) / 2)
    torch.testing.assert_close(parts["consistency"], (composite - batch.image).abs().mean())


def test_timesteps_count_by_the_rule():
    times = torch.tensor([0, 499, 500, 999])
    assert timestep_weights("all", times, ALPHAS).tolist() == [1, 1, 1, 1]
    assert timestep_weights("below:500", times, ALPHAS).tolist() == [1, 1, 0, 0]
    torch.testing.assert_close(timestep_weights("alpha-weighted", times, ALPHAS), ALPHAS[times])
    for wrong in ("below", "below:x", "above:3", ""):
        with pytest.raises(UsageError, match="the timestep rule is all, below:T"):
            timestep_weights(wrong, times, ALPHAS)


def test_uncounted_samples_are_not_decoded():
    batch, decoded = a_batch([True, False, True, False]), []

    def decode(latent: Tensor) -> Tensor:
        decoded.append(len(latent))
        return pixel_codec().decode(latent)

    codec = replace(pixel_codec(), decode=decode)
    network = awake(DEBUG.build())
    for rule, unpaired in (("all", True), ("all", False), ("below:500", True), ("below:500", False)):
        losses(network, batch, **a_step(batch), codec=codec, consistency=Consistency(rule=rule, unpaired=unpaired))
    assert decoded == [4, 2, 2, 1]
    none = losses(network, batch, **a_step(batch), codec=codec, consistency=Consistency(rule="below:0"))
    assert none["consistency"] == 0
    none["consistency"].backward()


def test_a_removal_network_has_one_loss_and_no_consistency():
    batch = a_batch()
    batch = replace(batch, layers=batch.layers[:, :1])
    step = a_step(batch)
    parts = losses(replace(DEBUG, foreground=False).build(), batch, **step)
    assert set(parts) == {"background", "loss"}
    with pytest.raises(UsageError, match="leave it out for v0"):
        losses(lambda noisy, *_: noisy, batch, **step, codec=pixel_codec(), consistency=Consistency())


def test_the_variants_are_table_one():
    assert [(name, v.foreground, v.is_consistent) for name, v in VARIANTS.items()] == [
        ("v0", "none", False),
        ("v1", "object", False),
        ("v2", "effects", False),
        ("full", "effects", True),
    ]


# ---- a memorised batch


def test_one_batch_is_overfitted(memorised):
    _, _, history = memorised
    first, last = sum(history[:5]) / 5, sum(history[-40:]) / 40
    assert first == pytest.approx(2, rel=0.05)  # a network that says zero errs by the noise's variance, in both layers
    assert last <= first / 5


def test_sampling_repeats_by_seed_and_recovers_the_batch(memorised):
    network, batch, _ = memorised
    first, again, other = (
        sample(network, batch.condition, torch.Generator().manual_seed(seed), steps=20) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    error, of_noise, of_another = (
        (first - other).square().mean()
        for other in (batch.layers, torch.randn_like(batch.layers), batch.layers.roll(1, 0))
    )
    assert error < of_noise / 4
    assert error < of_another / 2


# ---- inference


def test_objects_are_lifted_one_after_the_other(monkeypatch):
    """A sampler that knows the answer: the background is darkened, the foreground is the mask."""
    seen = []

    def known_answer(network: nn.Module, condition: Tensor, generator: torch.Generator, steps: int) -> Tensor:
        seen.append(condition)
        image, mask = condition.unbind(1)
        return torch.stack([image - 0.5, mask], 1)

    monkeypatch.setattr(layerdecomp, "sample", known_answer)
    image = torch.full((1, 3, SIDE, SIDE), 0.75)
    top, bottom = torch.zeros(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)
    layers = decompose(DEBUG.build(), pixel_codec(), image, [top, bottom], torch.Generator())
    assert [layer.unique().tolist() for layer in layers] == [[0.25], [0.5, 1.0], [0.0, 0.5]]
    assert [tuple(layer.shape[1:]) for layer in layers] == [(3, SIDE, SIDE), (4, SIDE, SIDE), (4, SIDE, SIDE)]
    assert [condition[:, 0, :3].unique().tolist() for condition in seen] == [[0.5], [0.0]]


@pytest.mark.parametrize("foreground", [True, False])
def test_decompose_gives_pictures_in_range(foreground: bool):
    network = awake(replace(DEBUG, foreground=foreground).build()).eval()
    masks = [torch.ones(1, 1, SIDE, SIDE)] * 2
    layers = decompose(network, pixel_codec(), torch.rand(1, 3, SIDE, SIDE), masks, torch.Generator(), steps=2)
    assert [layer.shape[1] for layer in layers] == ([3, 4, 4] if foreground else [3])
    assert all(layer.min() >= 0 and layer.max() <= 1 for layer in layers)

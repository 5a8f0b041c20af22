"""The network of Outpaint-and-Remove: the base at step 0, its two streams, what is trained and how much of it."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from layerkit.toolkit.models.flux_fill import load_flux_fill, pack, pack_mask, positions, unpack
from layerkit.toolkit.models.outpaint_remove import (
    OutpaintRemove,
    OutpaintRemoveOptions,
    build_outpaint_remove,
    masked,
    paint_masks,
)
from layerkit.toolkit.models.system import WEIGHTS, Origin, Triplets


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def step_of(system: OutpaintRemove, batch: Triplets) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(2), 0)


def awake(system: OutpaintRemove) -> OutpaintRemove:
    """What is trained made random, so that every path carries signal."""
    for parameter in system.trained().values():
        nn.init.normal_(parameter, std=0.1)
    return system


# ---- step 0


def of_the_base(base: Any, noisy: Tensor, pictures: Tensor, masks: Tensor, levels: Tensor) -> Tensor:
    """Velocities of (B, C, h, w), called as FluxFillPipeline calls it, but with the mode of the pictures' posterior."""
    latents = base.vae.encode(2 * pictures - 1).latent_dist.mode()
    latents = (latents - base.vae.config.shift_factor) * base.vae.config.scaling_factor
    count, _, height, width = noisy.shape
    velocity = base.transformer(
        hidden_states=torch.cat([pack(noisy), pack(latents), pack_mask(masks, 2)], 2),
        timestep=levels,
        guidance=torch.full((count,), 30.0) if base.transformer.config.guidance_embeds else None,
        pooled_projections=base.pooled.expand(count, -1),
        encoder_hidden_states=base.prompt.expand(count, -1, -1),
        txt_ids=torch.zeros(base.prompt.shape[1], 3),
        img_ids=positions(height // 2, width // 2, 0, noisy.device),
        return_dict=False,
    )[0]
    return unpack(velocity, height, width)


@pytest.mark.parametrize("guidance_embeds", [True, False])
def test_before_training_each_stream_is_the_base(make_fill, outpaint_remove, triplets, guidance_embeds):
    folder, batch = make_fill(guidance_embeds=guidance_embeds), triplets()
    base = load_flux_fill(Origin(base=str(folder)), torch.float32, "zeros", 3)
    noisy, levels = torch.randn(2, 2, 4, 8, 8), torch.tensor([0.2, 0.9])
    masks = paint_masks(batch.mask, "complement")
    pictures = masked(batch.image[:, None], masks).flatten(0, 1)
    with torch.no_grad():
        predicted = outpaint_remove(folder, streams="batched")._velocity(batch.image, batch.mask, 30.0)(noisy, levels)
        expected = of_the_base(base, noisy.flatten(0, 1), pictures, masks.flatten(0, 1), levels.repeat_interleave(2))
    assert torch.equal(predicted.flatten(0, 1), expected)
    assert expected.std() > 0.1


def test_the_streams_of_a_joint_sequence_see_each_other(outpaint_remove, triplets):
    batch, noisy, levels = triplets(), torch.randn(2, 2, 4, 8, 8), torch.tensor([0.2, 0.9])
    other = noisy.clone()
    other[:, 1] += 1
    for streams, sees in (("joint", True), ("batched", False)):
        velocity = outpaint_remove(streams=streams)._velocity(batch.image, batch.mask, 30.0)
        with torch.no_grad():
            assert torch.allclose(velocity(noisy, levels)[:, 0], velocity(other, levels)[:, 0]) != sees


def test_a_joint_stream_is_known_by_its_place(outpaint_remove, triplets):
    """Two streams that see the same are told apart by their first coordinate alone."""
    batch, levels = triplets(), torch.tensor([0.2, 0.9])
    noisy = torch.randn(2, 1, 4, 8, 8).expand(-1, 2, -1, -1, -1)
    for streams, differ in (("joint", True), ("batched", False)):
        velocity = outpaint_remove(streams=streams, foreground_context=False, without_context="background")
        with torch.no_grad():
            background, foreground = velocity._velocity(batch.image, batch.mask, 30.0)(noisy, levels).unbind(1)
        assert torch.allclose(background, foreground) != differ


def test_contexts_count_as_soon_as_they_are_trained(outpaint_remove, triplets):
    batch = triplets()
    system, plain = awake(outpaint_remove()), outpaint_remove(contexts=())
    before = step_of(system, batch)["loss"]
    system.network.transformer.x_embedder.weight.data[:, 48:] = 0
    assert step_of(system, batch)["loss"] != before
    assert plain.network.fusion is None
    assert plain.network.transformer.config.in_channels == 48
    assert system.network.transformer.config.in_channels == 64
    with pytest.raises(ValueError, match="expected contexts just where there is a fusion"):
        system.network(*[torch.zeros(1, 2, 4, 8, 8)] * 2, torch.zeros(1, 2, 1, 16, 16), None, torch.zeros(1), 1.0)


# ---- what is trained


@pytest.mark.parametrize(
    "changes",
    [{}, {"streams": "batched"}, {"contexts": ()}, {"foreground_context": False}, {"fusion_blocks": 2}],
    ids=str,
)
def test_what_is_trained_has_a_gradient_and_nothing_else(changes, outpaint_remove, triplets):
    system = outpaint_remove(**changes)
    optimiser = torch.optim.SGD(system.trained().values(), 0.1)
    step_of(system, triplets())["loss"].backward()
    fused = [p for name, p in system.trained().items() if "fusion" in name]
    assert not any(parameter.grad.any() for parameter in fused)  # behind columns of zero
    optimiser.step()
    optimiser.zero_grad()
    step_of(system, triplets())["loss"].backward()
    trained = system.trained()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.values())
    parts = {"lora_A", "lora_B", "x_embedder"} | ({"fusion"} if system.network.fusion else set())
    assert {part for part in ("lora_A", "lora_B", "x_embedder", "fusion") for name in trained if part in name} == parts
    assert all(any(part in name for part in parts) for name in trained)
    assert all(parameter.grad is None for name, parameter in system.named_parameters() if name not in trained)


def test_every_linear_layer_of_a_block_is_adapted_but_its_modulation(outpaint_remove):
    transformer = outpaint_remove().network.transformer
    adapted = {name.split(".lora_A")[0] for name, _ in transformer.named_parameters() if "lora_A" in name}
    linear = {name for name, module in transformer.named_modules() if hasattr(module, "in_features")}
    of_blocks = {name.removesuffix(".base_layer") for name in linear if "blocks" in name and "lora" not in name}
    assert adapted == {name for name in of_blocks if "norm" not in name}
    assert len(adapted) == 12 + 5


def test_what_was_trained_fits_another_base(make_fill, tmp_path, outpaint_remove, triplets):
    trained = awake(outpaint_remove())
    trained.save(tmp_path)
    other = outpaint_remove(make_fill(seed=9))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    tensors = load_file(tmp_path / WEIGHTS)
    assert tensors.keys() == other.trained().keys()
    other.restore(tmp_path)
    after = other.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == tensors.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in tensors.items())
    again = outpaint_remove()
    again.restore(tmp_path)
    assert torch.equal(step_of(again, triplets())["loss"], step_of(trained, triplets())["loss"])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_base_in_bfloat16_is_trained_in_float32(autocast, outpaint_remove, triplets):
    system = awake(outpaint_remove(base_dtype="bfloat16"))
    assert {parameter.dtype for parameter in system.trained().values()} == {torch.float32}
    assert {p.dtype for p in system.parameters() if not p.requires_grad} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = step_of(system, triplets())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in system.trained().values())
    layers = system.decompose(triplets().image, triplets().mask, torch.Generator())
    assert {layer.dtype for layer in layers} == {torch.float32}


def test_gradient_checkpointing_changes_no_gradient(outpaint_remove, triplets):
    plain = awake(outpaint_remove())
    recomputing = copy.deepcopy(plain)
    recomputing.network.transformer.enable_gradient_checkpointing()
    for system in (plain, recomputing):
        step_of(system, triplets())["loss"].backward()
    for one, other in zip(plain.trained().values(), recomputing.trained().values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


# ---- at full size, on the meta device


@pytest.mark.parametrize(("rank", "adapters"), [(128, 522_977_280), (256, 1_045_954_560), (1024, 4_183_818_240)])
def test_the_papers_ranks_train_as_many_parameters_as_it_says(rank, adapters):
    system = build_outpaint_remove(OutpaintRemoveOptions(rank=rank), Origin(meta=True))
    trained = system.trained()
    assert sum(tensor.numel() for name, tensor in trained.items() if "lora" in name) == adapters
    assert sum(tensor.numel() for name, tensor in trained.items() if "x_embedder" in name) == (448 + 1) * 3072
    assert sum(tensor.numel() for tensor in trained.values()) == pytest.approx(adapters, rel=0.01)
    assert {tensor.device.type for tensor in (*system.parameters(), *system.buffers())} == {"meta"}


def test_a_step_at_full_size_runs_on_the_meta_device():
    system = build_outpaint_remove(OutpaintRemoveOptions(), Origin(meta=True))
    shapes = {"image": 3, "foreground": 4, "background": 3, "mask": 1}
    maps = {name: torch.empty(1, channels, 256, 256, device="meta") for name, channels in shapes.items()}
    batch = Triplets(**maps, has_foreground=torch.ones(1, dtype=torch.bool, device="meta"))
    with FlopCounterMode(display=False) as counter:
        loss = step_of(system, batch)["loss"]
    assert loss.is_meta
    # the transformer's weights, but for its modulation's, meet each of 512 text and 2 x 256 picture tokens
    assert counter.get_total_flops() > 2 * 8.5e9 * (512 + 512)

"""SEELE: what learns from which task, its equations, and that a base is itself whatever is learnt beside it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from layerkit.manifests.errors import UsageError
from layerkit.manifests.schema import parse
from layerkit.toolkit.models.registry import SYSTEMS
from layerkit.toolkit.models.sd_inpaint import encode, load_sd_inpaint, save_debug, seen
from layerkit.toolkit.models.seele import Seele, build, drawn_holes, fitted
from layerkit.toolkit.models.seele_options import COMPLETE, HARMONISE, REMOVE, TASKS, SeeleOptions
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.task_masks import partial, shifted

TINY = SeeleOptions(tokens=6, rank=2, base_dtype="float32", steps=4)


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The debug base on disk, with a text encoder of 16 tokens."""
    folder = tmp_path_factory.mktemp("base") / "sd"
    save_debug(folder)
    return folder


def made(base: object = "debug", **changes: Any) -> Seele:
    torch.manual_seed(0)
    return build(replace(TINY, **changes), Origin(base=str(base)))


def losses(system: Seele, batch: Triplets, seed: int = 2) -> dict[str, Tensor]:
    return system(batch, torch.Generator().manual_seed(seed), 0)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def awake(system: Seele) -> Seele:
    """LoRA made random, so that it changes what it is in."""
    for name, parameter in system.trained().items():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return system


# ---- gradients


@pytest.mark.parametrize("task", TASKS)
def test_a_tasks_loss_reaches_its_own_prompt_and_lora_only_to_harmonise(task: str, triplets):
    system = awake(made())
    losses(system, triplets())[task].backward()
    reached = {name for name, parameter in system.named_parameters() if parameter.grad is not None}
    prompts = {name for name in reached if name.startswith("prompts.")}
    assert prompts == {f"prompts.{task}"}
    assert all("lora" in name for name in reached - prompts)
    assert bool(reached - prompts) == (task == HARMONISE)
    if task == HARMONISE:
        assert {name for name in system.trained() if "lora" in name} == reached - prompts
    assert system.prompts[task].grad.abs().max() > 0


def test_only_prompts_are_trained_and_lora_where_it_is_to_harmonise():
    plain, whole = made(tasks=(REMOVE, COMPLETE)), made()
    assert set(plain.trained()) == {"prompts.remove", "prompts.complete"}
    assert set(plain.state()) == set(plain.trained())
    assert plain.adapted is None
    others = set(whole.trained()) - set(plain.trained()) - {"prompts.harmonise"}
    assert others
    assert all("lora" in name for name in others)
    assert all(parameter.dtype == torch.float32 for parameter in whole.trained().values())


def test_the_base_is_itself_whatever_lora_does(triplets):
    system, base = awake(made()), load_sd_inpaint(Origin(base="debug"), torch.float32)
    inputs = torch.randn(1, 9, 8, 8), torch.tensor(300), torch.randn(1, 6, 16)
    assert torch.equal(system.unet(*inputs).sample, base.unet(*inputs).sample)
    assert not torch.equal(system.adapted(*inputs).sample, base.unet(*inputs).sample)
    assert system.unet.conv_in.weight is system.adapted.conv_in.weight
    assert not any("lora" in name for name, _ in system.unet.named_parameters())
    for name, tensor in base.unet.state_dict().items():
        assert torch.equal(system.unet.state_dict()[name], tensor)
    plain = made(tasks=(REMOVE,))
    plain.prompts[REMOVE].data = system.prompts[REMOVE].data
    batch = triplets()
    assert torch.equal(*(one.remove(batch.image, batch.mask, draws()) for one in (plain, system)))


def test_both_unets_move_together():
    system = made().to(torch.float64)
    assert system.unet.conv_in.weight is system.adapted.conv_in.weight
    assert system.unet.dtype == system.adapted.dtype == torch.float64


def test_a_task_learns_the_same_beside_others_and_alone(triplets):
    batch, whole = triplets(), made()
    for task in TASKS:
        alone = made(tasks=(task,))
        alone.prompts[task].data = whole.prompts[task].data
        torch.testing.assert_close(losses(alone, batch)["loss"], losses(whole, batch)[task])
    parts = losses(whole, batch)
    assert set(parts) == {"loss", *TASKS}
    torch.testing.assert_close(parts["loss"], sum(parts[task] for task in TASKS))


# ---- equations


def spied(system: Seele, adapted: bool = False) -> dict[str, Tensor]:
    """What the UNet is given; it then says 0.25 everywhere."""
    told: dict[str, Tensor] = {}

    def unet(inputs: Tensor, times: Tensor, states: Tensor) -> SimpleNamespace:
        told.update(inputs=inputs, times=times, states=states)
        return SimpleNamespace(sample=torch.full_like(inputs[:, :4], 0.25))

    (system.adapted if adapted else system.unet).forward = unet
    return told


@pytest.mark.parametrize(("task", "draw"), [(REMOVE, shifted), (COMPLETE, partial)])
def test_filling_is_equation_1(task: str, draw: Any, triplets):
    system, batch = made(tasks=(task,)), triplets()
    told = spied(system)
    loss = losses(system, batch)[task]
    seeds = torch.randint(2**62, (len(TASKS),), generator=draws(2)).tolist()
    hole = drawn_holes(draw, batch.mask, draws(seeds[TASKS.index(task)]))
    assert hole.any()
    assert (hole * batch.mask).any() == (task == COMPLETE)
    clean = encode(system.vae, batch.image)
    noisy, view = told["inputs"].split([4, 5], 1)
    torch.testing.assert_close(view, seen(system.vae, batch.image, hole))
    kept = system._noise.alphas_cumprod[told["times"]].view(-1, 1, 1, 1)
    noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
    assert noise.std().item() == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(loss, (0.25 - noise).square().mean(), atol=1e-4, rtol=1e-4)
    assert torch.equal(told["states"], system.prompts[task].expand(2, -1, -1))


@pytest.mark.parametrize("noised", ["input", "target"])
def test_harmonising_is_equation_2(noised: str, triplets):
    system, batch = made(tasks=(HARMONISE,), noised=noised), triplets()
    told = spied(system, adapted=True)
    loss = losses(system, batch)[HARMONISE]
    noisy, mask, given = told["inputs"].split([4, 1, 4], 1)
    wanted = encode(system.vae, batch.image)
    assert (given - wanted).abs().max() > 0.01
    assert torch.equal(mask, batch.mask[..., ::2, ::2])
    kept = system._noise.alphas_cumprod[told["times"]].view(-1, 1, 1, 1)
    noise = (noisy - kept.sqrt() * (given if noised == "input" else wanted)) / (1 - kept).sqrt()
    assert noise.std().item() == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(loss, (noise + given - wanted - 0.25).square().mean(), atol=1e-4, rtol=1e-4)


def test_a_base_of_velocities_learns_velocities_and_does_not_harmonise(folder: Path, tmp_path: Path, triplets):
    shutil.copytree(folder, tmp_path / "v")
    path = tmp_path / "v" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(
        UsageError, match=r"expected a base that predicts epsilon .* got one that predicts v_prediction"
    ):
        made(tmp_path / "v")
    system, batch = made(tmp_path / "v", tasks=(REMOVE,)), triplets()
    told = spied(system)
    loss = losses(system, batch)[REMOVE]
    kept = system._noise.alphas_cumprod[told["times"]].view(-1, 1, 1, 1)
    clean, noisy = encode(system.vae, batch.image), told["inputs"][:, :4]
    noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    torch.testing.assert_close(loss, (0.25 - velocity).square().mean(), atol=1e-4, rtol=1e-4)


def test_levels_are_drawn_from_their_share(triplets):
    batch, times = triplets((True,) * 8), []
    for levels in ((0.0, 1.0), (0.5, 0.6), (0.999, 1.0)):
        system = made(tasks=(REMOVE,), levels=levels)
        told = spied(system)
        losses(system, batch)
        times.append(told["times"])
    assert times[0].min() < 500 < times[0].max()
    assert ((times[1] >= 500) & (times[1] < 600)).all()
    assert (times[2] == 999).all()


def learnt(system: Seele, batch: Triplets, steps: int, rate: float = 1e-2, *, still: bool = False) -> list[float]:
    optimiser = torch.optim.AdamW(system.trained().values(), rate, weight_decay=0)
    history = []
    for step in range(steps):
        parts = losses(system, batch, seed=2 if still else step)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append(parts["loss"].item())
    return history


def test_prompts_that_begin_alike_part(triplets):
    system = made(tasks=(REMOVE, COMPLETE))
    with torch.no_grad():
        system.prompts[COMPLETE].copy_(system.prompts[REMOVE])
    learnt(system, triplets(), 20)
    assert (system.prompts[REMOVE] - system.prompts[COMPLETE]).abs().max() > 1e-2


@pytest.mark.parametrize("task", TASKS)
def test_one_draw_is_overfitted(task: str, triplets):
    """As far as a prompt can: the base paints noise. LoRA can do more."""
    system = made(tasks=(task,), rank=16)
    history = learnt(system, triplets(), 60, 3e-2, still=True)
    assert history[-1] < {REMOVE: 0.995, COMPLETE: 0.995, HARMONISE: 0.7}[task] * history[0]


# ---- how prompts begin


def test_without_a_text_encoder_prompts_begin_small(folder: Path, tmp_path: Path):
    for part in ("unet", "vae", "scheduler"):
        shutil.copytree(folder / part, tmp_path / "bare" / part)
    shutil.copy(folder / "model_index.json", tmp_path / "bare")
    for base in ("debug", tmp_path / "bare"):
        system = made(base, tokens=50, spread=0.1)
        assert {prompt.shape for prompt in system.prompts.values()} == {(50, 16)}
        assert system.prompts[REMOVE].std().item() == pytest.approx(0.1, rel=0.1)
        assert not torch.equal(system.prompts[REMOVE], system.prompts[COMPLETE])
        assert not system.other.any()


@pytest.mark.parametrize("tokens", [6, 20])
def test_prompts_begin_as_instructions_where_there_is_an_encoder(tokens: int, folder: Path):
    texts = {REMOVE: "a", COMPLETE: "b"}
    system = made(folder, tokens=tokens, instructions=texts, guidance=2.0)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    for task, text in {**texts, None: ""}.items():
        ids = pipeline.tokenizer(text, padding="max_length", max_length=16, return_tensors="pt").input_ids
        states = pipeline.text_encoder(ids).last_hidden_state[0]
        state = system.prompts[task] if task else system.other
        kept = min(tokens, 16)
        torch.testing.assert_close(state[:kept].detach(), states[:kept])
        assert all(torch.equal(one, state[kept - 1]) for one in state[kept:])
        # no token sees those behind it, so that this is what a text padded to so many tokens gives
        fewer = pipeline.text_encoder(ids[:, :kept]).last_hidden_state[0]
        torch.testing.assert_close(state[:kept].detach(), fewer, atol=1e-5, rtol=1e-4)
    assert system.prompts[HARMONISE].std() < 0.1  # it was told nothing


def test_sequences_are_cut_or_go_on():
    states = torch.randn(2, 7, 3)
    assert torch.equal(fitted(states, 4), states[:, :4])
    assert torch.equal(fitted(states, 7), states)
    assert torch.equal(fitted(states, 9)[:, 6:], states[:, 6:].expand(-1, 3, -1))


def test_an_encoder_of_another_width_is_refused(folder: Path, tmp_path: Path):
    from transformers import CLIPTextModel

    from layerkit.toolkit.models.tiny_text import tiny_text_config

    shutil.copytree(folder, tmp_path / "other")
    CLIPTextModel(tiny_text_config(8)).save_pretrained(tmp_path / "other" / "text_encoder")
    with pytest.raises(UsageError, match=r"expected a text encoder of width 16, as the UNet .* has, got 8"):
        made(tmp_path / "other")


# ---- in use


@pytest.mark.parametrize(("task", "guidance"), [(REMOVE, 1.0), (COMPLETE, 1.0), (REMOVE, 3.0)])
def test_before_training_it_paints_what_the_pipeline_paints_of_the_prompt(
    task: str, guidance: float, folder: Path, triplets
):
    system, batch = made(folder, guidance=guidance, paste=False), triplets()
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    states, other = (one.expand(2, -1, -1) for one in (system.prompts[task].detach(), system.other))
    expected = pipeline(
        image=batch.image,
        mask_image=batch.mask,
        masked_image_latents=seen(system.vae, batch.image, batch.mask)[:, 1:],
        height=16,
        width=16,
        latents=torch.randn(2, 4, 8, 8, generator=draws()),
        prompt_embeds=states,
        negative_prompt_embeds=other,
        num_inference_steps=4,
        guidance_scale=guidance,
        output_type="pt",
    ).images
    painted = getattr(system, task)(batch.image, batch.mask, draws())
    torch.testing.assert_close(painted, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("changes", [{}, {"base_dtype": "bfloat16"}, {"noised": "target"}], ids=str)
def test_what_is_not_masked_comes_back_to_the_bit_and_the_rest_is_in_range(task: str, changes: Any, triplets):
    system, batch = awake(made(**changes)), triplets(side=24)
    use = getattr(system, task)
    first, again, other = (use(batch.image, batch.mask, draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad
    outside = (batch.mask == 0).expand_as(first)
    assert torch.equal(first[outside], batch.image[outside])
    assert not torch.equal(first, batch.image)
    assert (first.min() >= 0) & (first.max() <= 1)


@pytest.mark.parametrize("paste", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_mask_of_zeros_gives_the_picture_back(task: str, paste: bool, triplets):
    system, batch = awake(made(paste=paste)), triplets()
    mask = batch.mask.clone()
    mask[0] = 0
    made_of = getattr(system, task)(batch.image, mask, draws())
    assert torch.equal(made_of[0], batch.image[0])
    assert not torch.equal(made_of[1], batch.image[1])
    nothing = getattr(system, task)(batch.image, torch.zeros_like(mask), draws())
    assert torch.equal(nothing, batch.image)


@pytest.mark.parametrize("task", TASKS)
def test_empty_full_and_one_pixel_masks_train_and_run(task: str, triplets):
    system, batch = made(), triplets()
    dot = torch.zeros_like(batch.mask)
    dot[..., 5, 7] = 1
    for mask in (torch.zeros_like(dot), torch.ones_like(dot), dot):
        assert losses(system, replace(batch, mask=mask))[task].isfinite()
    out = getattr(system, task)(batch.image, dot, draws())
    changed = (out != batch.image).any(1).nonzero()
    assert {tuple(place[1:].tolist()) for place in changed} <= {(5, 7)}


def test_the_hole_of_removing_can_be_dilated(triplets):
    system, batch = made(dilate=5), triplets()
    dot = torch.zeros_like(batch.mask)
    dot[..., 5, 7] = 1
    square = torch.zeros_like(dot)
    square[..., 3:8, 5:10] = 1
    removed = system.remove(batch.image, dot, draws())
    assert torch.equal(removed, made().remove(batch.image, square, draws()))
    background, foreground = system.decompose(batch.image, dot, draws())
    assert torch.equal(background, removed)
    assert foreground is None


def test_what_was_not_learnt_is_not_done(triplets):
    system, batch = made(tasks=(COMPLETE,)), triplets()
    told = "expected a prompt of 'remove', got those of complete; train with it in model.tasks"
    with pytest.raises(UsageError, match=told):
        system.decompose(batch.image, batch.mask, draws())
    nothing = system.predict(batch, draws())
    assert nothing.background is nothing.foreground is None


# ---- a run


def test_what_was_learnt_is_saved_and_nothing_else(folder: Path, tmp_path: Path, triplets):
    from safetensors.torch import load_file

    system, batch = awake(made(folder)), triplets()
    system.save(tmp_path)
    assert set(load_file(tmp_path / "weights.safetensors")) == set(system.trained())
    other = build(TINY, Origin(base=str(folder), run=tmp_path))
    assert not torch.equal(other.prompts[REMOVE], system.prompts[REMOVE])
    other.restore(tmp_path)
    for task in TASKS:
        results = [getattr(one, task)(batch.image, batch.mask, draws()) for one in (system, other)]
        assert torch.equal(*results)
    made(tasks=(REMOVE,)).save(tmp_path)
    with pytest.raises(UsageError, match=r"does not hold the tensors of a Seele; .* missing"):
        other.restore(tmp_path)


def test_a_run_needs_no_text_encoder(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "tokenizer")
    build(TINY, Origin(base=str(tmp_path / "base"), run=tmp_path))


# ---- sizes and options


def test_the_papers_sizes_on_stable_diffusion_2():
    system = build(SeeleOptions(), Origin(meta=True))
    count = {name: parameter.numel() for name, parameter in system.trained().items()}
    prompts = {name: number for name, number in count.items() if name.startswith("prompts.")}
    assert set(prompts.values()) == {50 * 1024}
    assert sum(prompts.values()) == 153_600  # the paper prints 0.5 million
    assert sum(count.values()) - 153_600 == 5_116_928  # the paper prints 5.12 million


def test_options_are_a_table():
    options = parse(SeeleOptions, {"tasks": ["remove"], "instructions": {}, "recolour": {"hue": [0.0, 1.0]}}, "here")
    assert options.recolour.hue == (0.0, 1.0)
    assert SYSTEMS["seele"].decomposes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tasks": ("erase",)}, "tasks: expected tasks out of remove, complete, harmonise, got erase"),
        ({"tasks": ()}, r"tasks: expected one or more .* got \[\]"),
        ({"tasks": (REMOVE, REMOVE)}, "each once"),
        ({"instructions": {"erase": "x"}}, "instructions: expected tasks out of"),
        ({"tokens": 0}, "tokens: expected 1 or more, got 0"),
        ({"levels": (0.5, 0.5)}, "levels: expected two rising shares"),
        ({"dilate": 2}, "dilate: expected an odd side"),
        ({"guidance": 0.5}, r"guidance of 1 or more .* got 0\.5"),
        ({"spread": float("nan")}, "spread of 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], told: str):
    with pytest.raises(UsageError, match=told):
        replace(TINY, **changes)


def test_layers_that_are_not_there_are_named():
    with pytest.raises(UsageError, match=r"adapted: expected ends of names of the UNet's layers, got .*'to_z'"):
        made(adapted=("to_z",))

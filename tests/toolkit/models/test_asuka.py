"""ASUKA: the aligner, what is trained, the null condition, and what its bases paint of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.pipelines.flux import pipeline_flux_fill
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models import asuka, sd_inpaint
from layerkit.toolkit.models.asuka import Asuka, build, resolve
from layerkit.toolkit.models.asuka_align import Aligner, mixed
from layerkit.toolkit.models.asuka_options import AsukaOptions, FlowOptions
from layerkit.toolkit.models.asuka_sd import target_of
from layerkit.toolkit.models.bases import DEBUG
from layerkit.toolkit.models.flux_fill import pack
from layerkit.toolkit.models.holes import KINDS, draw
from layerkit.toolkit.models.registry import parse_options
from layerkit.toolkit.models.runs import revision_of_run
from layerkit.toolkit.models.sd_inpaint import pasted
from layerkit.toolkit.models.system import Origin, Triplets

OPTIONS = AsukaOptions(mae=DEBUG, block=1, head=8, base_dtype="float32", steps=4, flow=FlowOptions(text="zeros"))
FORMS = {
    "sd": OPTIONS,
    "flux": replace(OPTIONS, form="flux", weight=0.5, guidance=30.0),
}


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(form: str = "sd", base: object = DEBUG, **changes: Any) -> Asuka:
    torch.manual_seed(0)
    return build(replace(FORMS[form], **changes), Origin(base=str(base))).eval()


def a_batch(count: int = 2, side: int = 16) -> Triplets:
    draws = torch.Generator().manual_seed(1)
    image, background = torch.rand(2, count, 3, side, side, generator=draws)
    mask = torch.zeros(count, 1, side, side)
    mask[:, :, side // 4 : side // 2, side // 4 : 3 * side // 4] = 1
    return Triplets(
        image=image,
        foreground=torch.cat([image, mask], 1),
        background=background,
        mask=mask,
        has_foreground=torch.ones(count, dtype=torch.bool),
    )


def loss_of(system: Asuka, batch: Triplets, seed: int = 0) -> Tensor:
    return system(batch, torch.Generator().manual_seed(seed), 0)["loss"]


def painted(system: Asuka, batch: Triplets, seed: int = 0) -> Tensor:
    return system.decompose(batch.image, batch.mask, torch.Generator().manual_seed(seed))[0]


# ---- the aligner


def test_the_paper_s_aligners_have_their_sizes():
    """A block has 12 w² weights: 4 w² of attention and 8 w² of the feed-forward layer four times as wide."""
    with torch.device("meta"):
        counts = {
            (width, variant): sum(p.numel() for p in Aligner(512, width, variant, queries=256).parameters())
            for width, variant in ((768, "four-self"), (768, "one-attention"), (768, "linear"), (4096, "four-self"))
        }
    for (width, variant), count in counts.items():
        block = 12 * width**2 + 8 * width + 2 * 64
        ends = 512 * width + width + 2 * width
        assert count == ends + {"four-self": 4, "one-attention": 1, "linear": 0}[variant] * block


@pytest.mark.parametrize("variant", ["four-self", "one-attention", "four-cross", "linear"])
def test_an_aligner_gives_a_sequence_of_the_text_s_width(variant: Any):
    aligner, features = Aligner(32, 16, variant, 8, 5), torch.randn(2, 64, 32)
    found = aligner(features)
    assert found.shape == (2, 5 if variant == "four-cross" else 64, 16)
    other = features.clone()
    other[:, -1] += 1
    changed = (aligner(other) - found).abs().amax(2) > 1e-6
    assert changed[:, : found.shape[1] - 1].any().item() == (variant != "linear"), "only blocks mix places"
    torch.testing.assert_close(found.mean(2), torch.zeros(found.shape[:2]), atol=1e-5, rtol=0)  # the norm at the end


def test_a_head_that_does_not_divide_the_width_is_refused():
    with pytest.raises(UsageError, match=r"head: expected one that divides the base's width, 16, got 64"):
        made(head=64)


def test_the_condition_is_weighed_against_the_null():
    condition, null = torch.randn(2, 3, 4), torch.randn(1, 3, 4)
    assert torch.equal(mixed(condition, null, 0.0), null.expand(2, -1, -1))
    assert torch.equal(mixed(condition, null, 1.0), condition)
    torch.testing.assert_close(mixed(condition, null, 0.5), (condition + null) / 2)
    torch.testing.assert_close(mixed(condition, null, 1.5), null + 1.5 * (condition - null))


# ---- holes


def test_holes_are_of_their_kinds():
    masks = a_batch(4, 32).mask
    holes = {kind: draw(masks, {kind: 1.0}, torch.Generator().manual_seed(0)) for kind in KINDS}
    assert torch.equal(holes["given"], masks)
    assert holes["none"].sum() == 0
    assert holes["object"].sum((1, 2, 3)).tolist() == masks.sum((1, 2, 3)).tolist()
    assert not torch.equal(holes["object"], masks)
    for kind in ("brush", "box", "both"):
        assert holes[kind].unique().tolist() == [0, 1]
        assert 0.01 < holes[kind].mean() < 0.9
    again = draw(masks, {"brush": 1.0}, torch.Generator().manual_seed(0))
    assert torch.equal(again, holes["brush"])


# ---- training


@pytest.mark.parametrize("form", FORMS)
def test_only_the_aligners_and_the_null_are_trained(form: str):
    system = made(form, drop=0.5).train()
    names = {"sd": ("form.aligner.", "form.null"), "flux": ("form.text.", "form.pooled.", "form.null_")}[form]
    loss_of(system, a_batch(8)).backward()
    assert all(name.startswith(names) for name in system.trained())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in system.trained().values())
    assert all(p.grad is None for p in system.parameters() if not p.requires_grad)
    assert not system.mae.training
    assert not any("null" in name for name in made(form, drop=0.0).trained())


@pytest.mark.parametrize(("form", "factor"), [("sd", 0.9), ("flux", 0.9)])
def test_one_batch_is_overfitted_as_far_as_a_condition_can(form: str, factor: float):
    """The base is random and frozen: what it is told can move its answer only so far."""
    system, batch = made(form, drop=0.0, masks={"given": 1.0}), a_batch()
    optimiser = torch.optim.Adam(system.trained().values(), 1e-2)
    history = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = loss_of(system, batch)
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < factor * history[0]


def test_the_truth_and_what_is_seen_of_it_are_the_background_or_the_picture():
    batch = a_batch()
    for truth, unread in (("background", "image"), ("image", "background")):
        system = made(truth=truth)
        assert torch.equal(loss_of(system, batch), loss_of(system, replace(batch, **{unread: batch.image[:, :1] * 0})))


def test_the_loss_is_the_bases_own():
    """With a UNet that answers a constant, against noise, velocity and latents written out."""
    system, batch = made(masks={"given": 1.0}), a_batch()
    seen: dict[str, Tensor] = {}

    def unet(noisy: Tensor, times: Tensor, states: Tensor) -> Any:
        seen.update(noisy=noisy[:, :4], view=noisy[:, 4:], times=times)
        return SimpleNamespace(sample=torch.full_like(noisy[:, :4], 0.25))

    system.form.unet.forward = unet
    loss = loss_of(system, batch)
    levels = system.form._base.noise
    share = levels.alphas_cumprod[seen["times"]].view(-1, 1, 1, 1)
    x0 = sd_inpaint.encode(system.form.vae, batch.background)
    noise = (seen["noisy"] - share.sqrt() * x0) / (1 - share).sqrt()
    torch.testing.assert_close(loss, (0.25 - noise).square().mean(), rtol=1e-4, atol=1e-4)
    assert torch.equal(seen["view"], sd_inpaint.seen(system.form.vae, batch.background, batch.mask))
    levels.register_to_config(prediction_type="v_prediction")
    velocity = share.sqrt() * noise - (1 - share).sqrt() * x0
    torch.testing.assert_close(target_of(levels, x0, noise, seen["times"]), velocity)
    levels.register_to_config(prediction_type="sample")
    assert target_of(levels, x0, noise, seen["times"]) is x0


# ---- painting


def test_with_a_weight_of_0_it_is_the_pipeline_with_the_null_for_a_text(tmp_path: Path):
    folder, batch = tmp_path / "sd", a_batch()
    sd_inpaint.save_debug(folder)
    system = made(base=folder, weight=0.0)
    nn.init.normal_(system.form.null)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        image=batch.image,
        mask_image=batch.mask,
        masked_image_latents=sd_inpaint.seen(system.form.vae, batch.image, batch.mask)[:, 1:],
        height=16,
        width=16,
        latents=noise,
        prompt_embeds=system.form.null.detach().expand(2, -1, -1),
        num_inference_steps=4,
        guidance_scale=1.0,
        output_type="pt",
    ).images
    found = painted(system, batch)
    torch.testing.assert_close(found, pasted(expected, batch.image, batch.mask), atol=1e-4, rtol=0)
    system.options = system.form.options = replace(system.options, weight=1.0)
    assert not torch.allclose(painted(system, batch), found, atol=1e-4)


def test_on_flux_it_is_its_pipeline_with_the_null_for_both_texts(fill: Path, monkeypatch: pytest.MonkeyPatch):
    system, batch = made("flux", fill, weight=0.0), a_batch()
    for null in (system.form.null_text, system.form.null_pooled):
        nn.init.normal_(null)
    monkeypatch.setattr(pipeline_flux_fill, "retrieve_latents", lambda encoded, **_: encoded.latent_dist.mode())
    names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipeline = pipeline_flux_fill.FluxFillPipeline.from_pretrained(fill, **dict.fromkeys(names))
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        image=batch.image,
        mask_image=batch.mask,
        latents=pack(torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))),
        height=16,
        width=16,
        num_inference_steps=4,
        prompt_embeds=system.form.null_text.detach().expand(2, -1, -1),
        pooled_prompt_embeds=system.form.null_pooled.detach().expand(2, -1),
        output_type="pt",
    ).images
    torch.testing.assert_close(painted(system, batch), pasted(expected, batch.image, batch.mask), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_masked_comes_back_and_an_empty_mask_gives_the_picture(form: str):
    system, batch = made(form), a_batch(side=24)
    first, again, other = painted(system, batch), painted(system, batch), painted(system, batch, 1)
    shown = batch.mask.expand_as(first) == 0
    assert torch.equal(first[shown], batch.image[shown])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(painted(system, replace(batch, mask=torch.zeros_like(batch.mask))), batch.image)
    hidden = replace(batch, image=torch.where(batch.mask > 0, torch.rand_like(batch.image), batch.image))
    assert torch.equal(painted(system, hidden), first)


def test_guidance_steers_away_from_the_null():
    plain, strong = (painted(made(guidance=scale), a_batch()) for scale in (1.0, 3.0))
    assert not torch.equal(plain, strong)
    alone, none = (painted(made(guidance=scale, weight=0.0), a_batch()) for scale in (1.0, 3.0))
    torch.testing.assert_close(alone, none, atol=1e-4, rtol=0)


def test_a_decoder_takes_the_place_of_the_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Decoder(nn.Module):
        def forward(self, latent: Tensor, image: Tensor, mask: Tensor) -> Tensor:
            assert latent.shape == (2, 4, 8, 8)
            return torch.where(mask > 0, 0.25, image)

    asked: list[Any] = []

    def load(run: Path, *, meta: bool = False) -> nn.Module:
        asked.append((run, meta))
        return Decoder()

    monkeypatch.setattr(asuka, "load_decoder", load)
    batch, system = a_batch(), made(decoder=str(tmp_path))
    assert asked == [(tmp_path, False)]
    assert torch.equal(painted(system, batch), torch.where(batch.mask > 0, 0.25, batch.image))


# ---- options


def test_the_runs_that_it_stands_on_are_whole_paths_and_in_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "mae", "decoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(name.encode())
    options = resolve(AsukaOptions(mae="mae", decoder="decoder"), Origin())
    assert (options.mae, options.decoder) == (str(tmp_path / "mae"), str(tmp_path / "decoder"))
    assert resolve(AsukaOptions(mae="facebook/vit-mae-base"), Origin()).mae == "facebook/vit-mae-base"
    table = {"model": {"mae": options.mae, "decoder": options.decoder}}
    revisions = [revision_of_run(tmp_path / "run", table, "")]
    for name in ("mae", "decoder"):
        (tmp_path / name / "weights.safetensors").write_bytes(b"other")
        revisions.append(revision_of_run(tmp_path / "run", table, ""))
    assert len(set(revisions)) == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"variant": "five"}, r"variant: expected one of four-self, one-attention, four-cross, linear, got 'five'"),
        ({"drop": 1.0}, r"drop: expected a share in 0\.\.1, below 1, got 1\.0"),
        ({"weight": -1.0}, "expected a weight of 0 or more and guidance of 1 or more"),
        ({"steps": 1000}, "steps: expected fewer than the 1000 levels of noise, got 1000"),
        ({"block": 0}, "expected block, head and steps of 1 or more"),
        ({"masks": {"blob": 1.0}}, "masks: expected kinds out of"),
    ],
)
def test_options_that_make_no_sense_are_refused(table: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        parse_options("asuka", table)


def test_a_prior_that_is_missing_or_not_deep_enough_is_told():
    with pytest.raises(UsageError, match=r"mae: expected the folder of a run of asuka-mae"):
        made(mae="")
    with pytest.raises(UsageError, match=r"block: expected one of the 2 blocks of the decoder of debug, got 6"):
        made(block=6)

"""The masked autoencoder: transformers' own numbers, what it may not see, and what a run of it learns."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models.mae import MaeSizes, MaskedAutoencoder, denormalised, normalised, positions
from layerkit.toolkit.models.mae_training import AsukaMae, AsukaMaeOptions, build, by_patch, with_others
from layerkit.toolkit.models.mae_weights import SMALL, load_mae, renamed
from layerkit.toolkit.models.registry import load_run, parse_options
from layerkit.toolkit.models.system import Origin, Triplets

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 3,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 64,
    "layer_norm_eps": 1e-6,
}


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(**changes: Any) -> MaskedAutoencoder:
    return MaskedAutoencoder(replace(SMALL, **changes)).eval()


def scene(count: int = 2, side: int = 32) -> tuple[Tensor, Tensor]:
    image, mask = torch.rand(count, 3, side, side), torch.zeros(count, 1, side, side)
    mask[:, :, side // 4 : side // 2, 3 : side // 2 + 1] = 1
    return image, mask


@pytest.fixture(scope="module")
def theirs() -> Any:
    """A ViTMAE of random weights, with the places that published ones come with, which it does not make itself."""
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(ViTMAEConfig(**CONFIG)).eval()
    for places in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        places.data[0, 1:] = positions(4, places.shape[2])
    for token in (model.vit.embeddings.cls_token, model.decoder.mask_token):
        torch.nn.init.normal_(token)
    return model


@pytest.fixture(scope="module")
def published(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mae")
    theirs.save_pretrained(folder)
    return folder


# ---- the network


def test_it_is_transformers_own_where_patches_are_hidden_at_random(theirs: Any, published: Path):
    """At their size; the patches that they keep are those of the lowest noise."""
    ours = MaskedAutoencoder(replace(load_mae(str(published)).sizes, side=32))
    ours.load_state_dict(load_mae(str(published)).state_dict())
    pixels, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    with torch.no_grad():
        expected = theirs(pixels, noise=noise)
        made = ours(pixels, expected.mask.bool())
    assert expected.mask.sum() == 2 * 12
    torch.testing.assert_close(made, expected.logits, atol=1e-5, rtol=1e-4)
    loss = ((made - ours.patches(pixels)).square().mean(2) * expected.mask).sum() / expected.mask.sum()
    torch.testing.assert_close(loss, expected.loss)


def test_places_are_their_closed_form():
    found = positions(4, 8)
    for row, column in ((0, 0), (1, 2), (3, 1)):
        for half, place in ((0, column), (4, row)):
            for k in range(2):
                angle = place / 10000 ** (k / 2)
                at = found[4 * row + column]
                assert at[half + k].item() == pytest.approx(math.sin(angle), abs=1e-6)
                assert at[half + 2 + k].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_patches_are_cut_as_theirs_are_and_put_back(theirs: Any):
    mae, pixels = small(patch=8), torch.randn(2, 3, 32, 32)
    assert torch.equal(mae.patches(pixels), theirs.patchify(pixels))
    assert torch.equal(mae.picture(mae.patches(pixels)), pixels)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("side", [32, 45, 128])
def test_hidden_pixels_have_no_influence(class_token: bool, side: int):
    """Also where the size is another, and no border falls between pixels."""
    mae, (image, mask) = small(class_token=class_token), scene(side=side)
    other = torch.where(mask > 0, torch.rand_like(image), image)
    assert torch.equal(mae.features(image, mask, 2), mae.features(other, mask, 2))
    assert not torch.equal(mae.features(image, mask, 2), mae.features(1 - image, mask, 2))


def test_what_a_hole_touches_is_hidden_whole():
    """The visible rest of such a patch is not looked at either."""
    mae, image = small(), torch.rand(1, 3, 32, 32)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 5, 9] = 1  # row 1, column 2 of patches of 4 px
    hidden = mae.hidden(mae.hole(mask))
    assert hidden.nonzero().tolist() == [[0, 8 + 2]]
    rest = image.clone()
    rest[..., 4:8, 8:12] = torch.rand(3, 4, 4)
    assert torch.equal(mae.features(image, mask, 1), mae.features(rest, mask, 1))


def test_a_mask_of_one_pixel_of_a_large_picture_is_not_lost():
    mae, mask = small(), torch.zeros(1, 1, 512, 512)
    mask[..., 100, 300] = 1
    assert mae.hidden(mae.hole(mask)).sum() == 1


def test_features_are_those_after_as_many_blocks():
    mae, (image, mask) = small(decoder_depth=4), scene()
    seen: list[Tensor] = []
    for block in mae.decoder_blocks:
        block.register_forward_hook(lambda module, given, made: seen.append(made))
    found = [mae.features(image, mask, block) for block in (1, 2, 3)]
    pixels, hole = mae.fitted(image, mask)
    seen.clear()
    mae(pixels, mae.hidden(hole))
    assert len(seen) == 4
    assert all(torch.equal(one, other) for one, other in zip(found, seen, strict=False))
    assert found[0].shape == (2, 64, 32)


@pytest.mark.parametrize("class_token", [False, True])
def test_a_picture_that_is_all_hidden_or_not_at_all_gives_numbers(class_token: bool):
    mae, (image, _) = small(class_token=class_token), scene()
    whole = mae.features(image, torch.ones(2, 1, 32, 32), 2)
    assert whole.isfinite().all()
    assert torch.equal(whole[0], whole[1])
    assert mae.features(image, torch.zeros(2, 1, 32, 32), 2).isfinite().all()


def test_pixels_are_normalised_as_imagenets():
    image = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(denormalised(normalised(image)), image)
    grey = normalised(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    torch.testing.assert_close(grey, torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(normalised(torch.ones(1, 3, 1, 1))[0, 0, 0, 0], torch.tensor(0.515 / 0.229))


def test_the_papers_size():
    with torch.device("meta"):
        mae = MaskedAutoencoder(MaeSizes())
        features = mae.features(torch.zeros(1, 3, 512, 512), torch.zeros(1, 1, 512, 512))
    assert features.shape == (1, 256, 512)
    # transformers' ViTMAE of the same sizes has 111,907,840, of them a class token and places for it and 196 patches.
    theirs = 111_907_840 - 768 - 197 * (768 + 512)
    assert sum(parameter.numel() for parameter in mae.parameters()) == theirs


# ---- where it is read from


def test_names_are_those_of_the_published_files():
    assert renamed("decoder.decoder_layers.7.attention.output.dense.bias") == "decoder_blocks.7.attn.proj.bias"
    assert renamed("vit.encoder.layer.11.output.dense.weight") == "blocks.11.mlp.fc2.weight"
    assert renamed("vit.layernorm.weight") == "norm.weight"
    assert renamed("decoder.mask_token") == "mask_token"


def test_a_published_one_is_read_at_sixteen_patches_a_side_and_begun_with(published: Path):
    loaded = load_mae(str(published))
    assert (loaded.sizes.side, loaded.sizes.grid, loaded.sizes.class_token) == (128, 16, True)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    sizes = replace(loaded.sizes, class_token=False)
    begun = build(AsukaMaeOptions(network=sizes), Origin(base=str(published)))
    assert torch.equal(begun.mae.mask_token, loaded.mask_token)
    assert begun.mae.cls_token is None
    with pytest.raises(UsageError, match=r"does not hold the tensors of a MaskedAutoencoder; .*of another shape"):
        build(AsukaMaeOptions(network=SMALL), Origin(base=str(published)))


def test_one_that_is_not_here_is_planned_at_the_papers_size(published: Path):
    with torch.device("meta"):
        found = {source: load_mae(source, meta=True).sizes for source in ("", "runs/mae", "facebook/vit-mae-base")}
        assert load_mae(str(published), meta=True).sizes.width == 32
    assert found == {"": MaeSizes(), "runs/mae": MaeSizes(), "facebook/vit-mae-base": MaeSizes(class_token=True)}


def test_what_is_none_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match=r"mae: expected the folder of a run of asuka-mae, .*model\.mae=RUN"):
        load_mae("")
    with pytest.raises(MissingWeights, match="hf download facebook/vit-mae-base"):
        load_mae("facebook/vit-mae-base")
    with pytest.raises(MissingWeights, match="expected a run of asuka-mae or a ViTMAE"):
        load_mae(str(tmp_path))
    (tmp_path / "config.toml").write_text('system = "layerdecomp"\n')
    with pytest.raises(UsageError, match="expected a run of asuka-mae, got one of layerdecomp"):
        load_mae(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UsageError, match="expected a model of the type vit_mae, got 'vit'"):
        load_mae(str(other))


# ---- the training


def a_batch(count: int = 4) -> Triplets:
    """Backgrounds of one colour each, which can be known from what is seen of them."""
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, 32, 32)
    mask = torch.zeros(count, 1, 32, 32)
    mask[:, :, 8:20, 10:22] = 1
    return Triplets(
        image=torch.where(mask > 0, 1 - colours, colours),
        foreground=torch.cat([1 - colours, mask], 1),
        background=colours,
        mask=mask,
        has_foreground=torch.ones(count, dtype=torch.bool),
    )


def loss_of(system: AsukaMae, batch: Triplets, seed: int = 0) -> Tensor:
    return system(batch, torch.Generator().manual_seed(seed), 0)["loss"]


def test_the_loss_is_of_hidden_patches_alone():
    system, batch = build(AsukaMaeOptions(network=SMALL, masks={"given": 1.0}), Origin()), a_batch()
    mae = system.mae
    hidden = mae.hidden(mae.hole(batch.mask))
    assert hidden.sum() == 4 * 4 * 3  # rows 8..20 are three patches, columns 10..22 four
    with torch.no_grad():
        made, target = mae(normalised(batch.background), hidden), mae.patches(normalised(batch.background))
        torch.testing.assert_close(loss_of(system, batch), (made - target)[hidden].square().mean())
    system.options = replace(system.options, normalised=True)
    with torch.no_grad():
        torch.testing.assert_close(loss_of(system, batch), (made - by_patch(target))[hidden].square().mean())


def test_the_truth_is_the_background_or_the_picture():
    batch = a_batch()
    for truth, hidden in (("background", "image"), ("image", "background")):
        system = build(AsukaMaeOptions(network=SMALL, truth=truth), Origin())
        changed = replace(batch, **{hidden: torch.rand(4, 3, 32, 32)})
        assert torch.equal(loss_of(system, batch), loss_of(system, changed))
        assert not torch.equal(
            loss_of(system, batch), loss_of(system, replace(batch, **{truth: batch.foreground[:, 1:]}))
        )


def test_a_share_of_the_patches_is_hidden_at_least():
    given = torch.zeros(2, 64, dtype=torch.bool)
    given[0, :10] = given[1, :60] = True
    found = with_others(given, 0.75, torch.Generator().manual_seed(0))
    assert found.sum(1).tolist() == [48, 60]
    assert (found & given).sum(1).tolist() == [10, 60]
    assert torch.equal(with_others(given, 0.0, torch.Generator()), given)


def test_one_batch_is_overfitted_and_the_hole_gets_the_colour_of_the_rest():
    system, batch = build(AsukaMaeOptions(network=SMALL, masks={"given": 1.0}), Origin()), a_batch()
    optimiser = torch.optim.Adam(system.trained().values(), 3e-3)
    history = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = loss_of(system, batch)
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 20
    made, none = system.decompose(batch.image, batch.mask, torch.Generator())
    assert none is None
    assert (made - batch.background).abs().mean() < 0.03
    shown = batch.mask.expand_as(made) == 0
    assert torch.equal(made[shown], batch.image[shown])


def test_an_empty_mask_gives_the_picture_and_a_size_is_any():
    system = build(AsukaMaeOptions(network=SMALL), Origin()).eval()
    image = torch.rand(2, 3, 40, 56)
    assert torch.equal(system.decompose(image, torch.zeros(2, 1, 40, 56), torch.Generator())[0], image)
    by_patch_of = build(AsukaMaeOptions(network=SMALL, normalised=True), Origin()).eval()
    made = by_patch_of.decompose(image, torch.ones(2, 1, 40, 56), torch.Generator())[0]
    assert made.shape == image.shape
    assert made.isfinite().all()


def test_a_run_is_what_asuka_reads(tmp_path: Path):
    system = build(AsukaMaeOptions(network=SMALL), Origin())
    system.save(tmp_path)
    (tmp_path / "config.toml").write_text(
        'system = "asuka-mae"\n[model.network]\nside = 32\npatch = 4\nwidth = 32\ndepth = 2\nheads = 2\n'
        "decoder_width = 32\ndecoder_depth = 2\ndecoder_heads = 2\n"
    )
    loaded, (image, mask) = load_mae(str(tmp_path)), scene()
    assert torch.equal(loaded.features(image, mask, 2), system.mae.features(image, mask, 2))
    again, _ = load_run(tmp_path)
    assert torch.equal(again.mae.mask_token, system.mae.mask_token)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"masks": {"blob": 1.0}}, r"masks: expected kinds out of brush, .*, got blob"),
        ({"masks": {"brush": 0.0}}, r"masks: expected weights of 0 and more, one above 0"),
        ({"masks": {"none": 1.0}}, r"expected holes to learn from, got none"),
        ({"hidden": 1.0}, r"hidden: expected a share in 0\.\.1, below 1, got 1\.0"),
        ({"network": {"side": 250}}, r"side: expected a multiple of patch \(16\), got 250"),
        ({"network": {"width": 770}}, r"width: expected a multiple of its heads \(12\) and of 4, got 770"),
        ({"network": {"depth": 0}}, r"expected a depth of 1 or more, got 0 and 8"),
    ],
)
def test_options_that_make_no_sense_are_refused(table: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        parse_options("asuka-mae", table)

"""LayerDecomp begun from a DiT, or built around a FLUX or Stable Diffusion 3 transformer, of random weights."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, FluxFillPipeline, FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models import layerdecomp
from layerkit.toolkit.models.layerdecomp import LayerDecomp, LayerDecompOptions
from layerkit.toolkit.models.layerdecomp_backbones import FluxBackbone, Sd3Backbone
from layerkit.toolkit.models.layerdecomp_network import LayerDecompConfig, LayerDecompTransformer
from layerkit.toolkit.models.system import Origin, Triplets

C = 4
JOINT = {"joint_attention_dim": 8, "pooled_projection_dim": 8}
MAKERS: dict[str, Callable[[], Any]] = {
    "dit": lambda: DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=C, out_channels=2 * C, num_layers=2, sample_size=8
    ),
    "flux": lambda: FluxTransformer2DModel(
        in_channels=4 * C,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
        **JOINT,
    ),
    "sd3": lambda: SD3Transformer2DModel(
        sample_size=8,
        in_channels=C,
        out_channels=C,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        pos_embed_max_size=12,
        **JOINT,
    ),
}
WRAPPED = {"dit": LayerDecompTransformer, "flux": FluxBackbone, "sd3": Sd3Backbone}
kinds = pytest.mark.parametrize("kind", MAKERS)
wrapped = pytest.mark.parametrize("kind", ["flux", "sd3"])


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind on disk; all weights random, so that every path carries signal."""
    torch.manual_seed(1)
    found = {}
    for name, make in MAKERS.items():
        transformer = make()
        for parameter in transformer.parameters():
            nn.init.normal_(parameter, std=0.2)
        found[name] = tmp_path_factory.mktemp("bases") / name
        transformer.save_pretrained(found[name])
    return found


def begin(base: Path | str, **options: Any) -> LayerDecomp:
    """As the loop makes a system: resolved, then built."""
    origin = Origin(base=str(base))
    chosen = {"codec": "pixels", "network": LayerDecompConfig(latent_channels=C, depth=1, width=8, heads=2)}
    return layerdecomp.build(layerdecomp.resolve(LayerDecompOptions(**chosen | options), origin), origin)


def maps(height: int = 8, width: int = 8, layers: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(2)
    noisy, condition = (torch.randn(2, count, C, height, width, generator=draws) for count in (layers, 2))
    return noisy, condition, torch.tensor([10, 700])


def a_batch(side: int = 8) -> Triplets:
    draws = torch.Generator().manual_seed(4)
    image, foreground, background, mask = (torch.rand(2, c, side, side, generator=draws) for c in (3, 4, 3, 1))
    known = torch.ones(2, dtype=torch.bool)
    return Triplets(
        image=image, foreground=foreground, background=background, mask=(mask > 0.5).float(), has_foreground=known
    )


# ---- what is taken over


@kinds
def test_a_network_begins_with_all_the_weights_of_its_base(kind: str, bases: dict[str, Path]):
    network = begin(bases[kind]).network
    assert type(network) is WRAPPED[kind]
    base, mine = MAKERS[kind]().from_pretrained(bases[kind]).state_dict(), network.state_dict()
    if kind == "dit":  # its null class, and the half of its output that is noise
        for name in [name for name in base if "embedding_table" in name]:
            base[name] = base[name][-1:]
        for name in ("proj_out_2.weight", "proj_out_2.bias"):
            base[name] = base[name].reshape(4, 2 * C, -1)[:, :C].reshape(mine[name].shape)
    for name, tensor in base.items():
        there = {
            "flux": "transformer." + name.replace("x_embedder.", "x_embedder.embedding.", name.startswith("x_emb")),
            "sd3": "transformer." + name.replace("pos_embed.", "pos_embed.embedding.", name.startswith("pos_emb")),
        }
        assert torch.equal(mine.pop(there.get(kind, name)), tensor), name
    assert [tuple(tensor.shape) for tensor in mine.values()] == [(4, network.state_dict()[next(iter(mine))].shape[1])]
    assert "type" in next(iter(mine))


@kinds
def test_the_bases_sizes_go_into_the_options(kind: str, bases: dict[str, Path]):
    options = begin(bases[kind]).options
    assert options.network.latent_channels == C
    if kind == "dit":
        sizes = options.network
        assert (sizes.patch_size, sizes.width, sizes.depth, sizes.heads, sizes.sample_size) == (2, 16, 2, 2, 8)
        assert options.backbone == ""
    else:
        assert f'"_class_name": "{type(MAKERS[kind]()).__name__}"' in options.backbone
        assert '"_diffusers_version"' not in options.backbone


def test_a_pipelines_transformer_is_found(bases: dict[str, Path], tmp_path: Path):
    shutil.copytree(bases["sd3"], tmp_path / "transformer")
    assert isinstance(begin(tmp_path).network, Sd3Backbone)


def test_the_same_seed_gives_the_same_beginning_on_the_meta_device_too(bases: dict[str, Path]):
    origin = Origin(base=str(bases["flux"]), meta=True)
    with torch.device("meta"):
        options = layerdecomp.resolve(LayerDecompOptions(codec="pixels"), origin)
        counted = layerdecomp.build(options, origin)
    built = begin(bases["flux"])
    assert {n: p.shape for n, p in counted.named_parameters()} == {n: p.shape for n, p in built.named_parameters()}
    assert all(parameter.is_meta for parameter in counted.parameters())


# ---- what it computes


@kinds
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (12, 8)])
@pytest.mark.parametrize("variant", ["full", "v0"])
def test_noise_is_shaped_as_the_layers_also_of_pictures_that_are_not_square(
    kind: str, variant: str, height: int, width: int, bases: dict[str, Path]
):
    noisy, condition, time = maps(height, width, 1 if variant == "v0" else 2)
    noise = begin(bases[kind], variant=variant).network(noisy, condition, time)
    assert noise.shape == noisy.shape
    assert noise.isfinite().all()
    assert noise.std() > 0


@kinds
def test_every_map_and_the_time_reach_the_noise_of_both_layers(kind: str, bases: dict[str, Path]):
    network = begin(bases[kind]).network.eval()
    noisy, condition, time = maps()
    with torch.no_grad():
        before = network(noisy, condition, time)
        changed = {"time": (noisy, condition, torch.tensor([500, 0]))}
        for number in range(2):
            for name, stack in (("noisy", noisy), ("condition", condition)):
                other = stack.clone()
                other[:, number, :, :2, :2] += 1
                changed[f"{name} {number}"] = (other, condition, time) if name == "noisy" else (noisy, other, time)
        for name, inputs in changed.items():
            moved = (network(*inputs) - before).abs().amax((2, 3, 4))
            assert (moved > 1e-6).all(), name


@wrapped
def test_samples_of_a_batch_do_not_see_one_another(kind: str, bases: dict[str, Path]):
    network = begin(bases[kind]).network.eval()
    noisy, condition, time = maps()
    with torch.no_grad():
        both = network(noisy, condition, time)
        for k in range(2):
            torch.testing.assert_close(network(noisy[k : k + 1], condition[k : k + 1], time[k : k + 1])[0], both[k])


@wrapped
def test_a_map_is_known_by_where_it_stands(kind: str, bases: dict[str, Path]):
    """The same latent as background and as foreground gives another noise; without its type, SD3's gives the same."""
    network = begin(bases[kind]).network.eval()
    noisy, condition, time = maps()
    alike = noisy[:, :1].expand_as(noisy)
    with torch.no_grad():
        background, foreground = network(alike, condition, time).unbind(1)
        assert (background - foreground).abs().max() > 1e-4
        blind = copy.deepcopy(network)
        for name, parameter in blind.named_parameters():
            if name.endswith("types"):
                parameter.zero_()
        background, foreground = blind(alike, condition, time).unbind(1)
    assert torch.allclose(background, foreground, atol=1e-5) == (kind == "sd3")  # FLUX's positions tell maps apart


def test_flux_packs_each_map_as_its_pipeline_does_and_places_the_tokens(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    network = begin(bases["flux"]).network
    noisy, condition, time = maps(4, 12)
    given: dict[str, Any] = {}

    def transformer(tokens: Tensor, **more: Any) -> tuple[Tensor]:
        given.update(more, tokens=tokens)
        return (tokens,)

    monkeypatch.setattr(network.transformer, "forward", transformer)
    back = network(noisy, condition, time)
    every = torch.cat([noisy, condition], 1)
    packed = [FluxFillPipeline._pack_latents(every[:, k], 2, C, 4, 12) for k in range(4)]
    assert torch.equal(given["tokens"], torch.cat(packed, 1))
    assert torch.equal(back, noisy)  # what is unpacked is what was packed
    places = FluxFillPipeline._prepare_latent_image_ids(1, 2, 6, "cpu", torch.float32)
    for k, found in enumerate(given["img_ids"].reshape(4, 12, 3)):
        assert torch.equal(found[:, 1:], places[:, 1:])
        assert (found[:, 0] == k).all()
    torch.testing.assert_close(given["timestep"], time / 1000)
    assert not given["encoder_hidden_states"].any()
    assert given["guidance"].tolist() == [1, 1]


# ---- training


@kinds
def test_all_of_the_network_is_trained_and_the_types_too(kind: str, bases: dict[str, Path]):
    """Nothing would be left for the processes of DDP to wait for."""
    system = begin(bases[kind])
    system(a_batch(), torch.Generator().manual_seed(0), 0)["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
    (types,) = [gradient for name, gradient in gradients.items() if "type" in name]
    assert types.abs().sum(1).gt(0).all()
    assert all(parameter.requires_grad for parameter in system.parameters())
    assert [name for name, gradient in gradients.items() if gradient is None] == []


@kinds
def test_a_run_is_read_again_when_its_base_is_gone(kind: str, bases: dict[str, Path], tmp_path: Path):
    base = shutil.copytree(bases[kind], tmp_path / "base")
    system = begin(base, steps=2)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter += 0.01
    (tmp_path / "run").mkdir()
    system.save(tmp_path / "run")
    shutil.rmtree(base)
    torch.manual_seed(9)
    again = layerdecomp.build(system.options, Origin(base=str(base), run=tmp_path / "run"))
    again.restore(tmp_path / "run")
    noise = [one.network.eval()(*maps()) for one in (system, again)]
    assert torch.equal(*noise)
    assert system.multiple == again.multiple == 2


# ---- what does not fit


def test_another_class_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(UsageError, match=r"--base: expected one of DiT.*, Flux.*, SD3.*, got UNet2DConditionModel"):
        begin(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"--base: expected a transformer of diffusers, .*config\.json cannot be read"):
        begin(tmp_path)
    with pytest.raises(MissingWeights, match="no folder"):
        begin(tmp_path / "none")


def test_a_base_without_its_weights_is_told(bases: dict[str, Path], tmp_path: Path):
    shutil.copy(bases["sd3"] / "config.json", tmp_path)
    with pytest.raises(MissingWeights, match="expected a complete SD3Transformer2DModel"):
        begin(tmp_path)


def test_a_base_of_another_latent_space_is_refused(tmp_path: Path):
    wide = FluxTransformer2DModel(**dict(MAKERS["flux"]().config) | {"in_channels": 64, "out_channels": 64})
    wide.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"latent_channels: expected 4, as the latents of the codec have, got 16"):
        begin(tmp_path)


def test_the_patch_is_the_bases(tmp_path: Path):
    base = SD3Transformer2DModel(**dict(MAKERS["sd3"]().config) | {"patch_size": 4, "sample_size": 16})
    base.save_pretrained(tmp_path)
    system = begin(tmp_path)
    assert system.multiple == 4
    assert system.network(*maps(8, 16)).shape == (2, 2, C, 8, 16)

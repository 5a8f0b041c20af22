"""LayerDiffuse's conditional forms, their chains and its generators of layers, on a tiny random SDXL."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.generation import Generation, Generator, check_generation
from layerkit.toolkit.models.layerdiffuse import LayerDiffuseGenerator
from layerkit.toolkit.models.layerdiffuse_conditional import (
    FORMS,
    AroundForeground,
    BeforeBackground,
    ConditionalSdxl,
    load_forms,
    on_grey,
)
from layerkit.toolkit.models.layerdiffuse_layers import (
    Cutouts,
    LayerDiffuseLayers,
    load_bg2fg,
    load_cutouts,
    load_fg2bg,
    load_layers,
)

SIZE = (32, 48)
FOLDERS = {"fg2ble": "layerdiffuse-xl-blend", "bg2ble": "layerdiffuse-xl-blend"}
RNG = np.random.default_rng(0)
FOREGROUND = RNG.integers(0, 256, (*SIZE, 4), np.uint8)
FOREGROUND[:, :16] = 0
BACKGROUND = RNG.integers(0, 256, (*SIZE, 3), np.uint8)


def neighbour(name: str):
    """Another file of this folder: the tests are no package."""
    spec = importlib.util.spec_from_file_location(f"beside_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cutout_weights = neighbour("test_layerdiffuse").weights


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def every_weight(cutout_weights) -> Path:
    """The folder of LayerDiffuse's cut-outs, with the four conditional models' offsets and an SDXL for them."""
    torch.manual_seed(1)
    folder = cutout_weights
    (folder / "sdxl-base").symlink_to(folder / "layerdiffuse-sdxl-base")
    for row in ("layerdiffuse-xl", "layerdiffuse-xl-blend"):
        (folder / row).mkdir()
        for file in WEIGHTS[row].files:
            save_file(offsets(file), folder / row / file)
    return folder


def offsets(file: str) -> dict[str, torch.Tensor]:
    if "decoder" in file:
        from layerkit.toolkit.models.transparent_vae import TransparentDecoder

        decoder = TransparentDecoder((8,) * 4)
        torch.nn.init.normal_(decoder.latent_conv_in.weight)
        torch.nn.init.normal_(decoder.conv_out.weight)
        return decoder.state_dict()
    named = {
        "input_blocks.0.0.weight": torch.randn(8, 12 if "ble2" in file else 8, 3, 3) / 4,
        "input_blocks.0.0.bias": torch.randn(8),
        "middle_block.1.transformer_blocks.0.attn1.to_q.weight": torch.randn(16, 16),
    }
    return {f"diffusion_model.{name}::diff::0": value for name, value in named.items()}


@pytest.fixture(scope="module")
def forms(every_weight) -> dict[str, ConditionalSdxl]:
    folders = {name: every_weight / FOLDERS.get(name, "layerdiffuse-xl") for name in FORMS}
    made = load_forms(every_weight / "sdxl-base", folders, "cpu")
    for form in made.values():
        form.steps = 4
    return made


@pytest.fixture(scope="module")
def around(forms) -> AroundForeground:
    return AroundForeground(forms["fg2ble"], forms["fgble2bg"])


@pytest.fixture(scope="module")
def before(forms, every_weight) -> BeforeBackground:
    from layerkit.toolkit.models.transparent_vae import load_decoder

    decoder = load_decoder(every_weight / "layerdiffuse-xl" / WEIGHTS["layerdiffuse-xl"].files[2])
    return BeforeBackground(forms["bg2ble"], forms["bgble2fg"], decoder)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given_to(form: ConditionalSdxl) -> list[np.ndarray]:
    return [BACKGROUND, on_grey(FOREGROUND)][: form.form.given]


# ---- one form


def test_grey_shows_through_where_a_cut_out_is_clear():
    cutout = np.array([[[200, 100, 0, 0], [200, 100, 0, 255], [255, 0, 0, 51]]], np.uint8)
    shown = on_grey(cutout)
    assert shown.dtype == np.uint8
    assert shown[0, 1].tolist() == [200, 100, 0]
    assert set(shown[0, 0].tolist()) <= {127, 128}
    assert shown[0, 2].tolist() == [153, 102, 102]  # 127.5 ± 127.5 / 5


@pytest.mark.parametrize("name", FORMS)
def test_a_form_sees_its_pictures_beside_the_noise(name: str, forms):
    """The first convolution is given the noise, then the mean latents of the pictures in their order, scaled."""
    form = forms[name]
    seen: list[torch.Tensor] = []
    hook = form.pipeline.unet.conv_in.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    given = given_to(form)
    form.picture("a cat", given, seeded())
    hook.remove()
    assert form.pipeline.unet.conv_in.in_channels == seen[0].shape[1] == 4 * (1 + len(given))
    vae = form.pipeline.vae
    for k, picture in enumerate(given):
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            latent = vae.encode(pixels).latent_dist.mean * 0.13025
        for stack in seen:  # both halves of guidance, at every step
            torch.testing.assert_close(stack[:, 4 + 4 * k : 8 + 4 * k], latent.expand(2, -1, -1, -1))


def test_each_form_has_the_ports_sampler_and_the_pipeline_keeps_its_own(forms):
    samplers = {name: type(form.pipeline.scheduler).__name__ for name, form in forms.items()}
    euler, solver = "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"
    assert samplers == {"fg2ble": euler, "bg2ble": solver, "fgble2bg": solver, "bgble2fg": euler}
    config = forms["fgble2bg"].pipeline.scheduler.config
    assert (config.algorithm_type, config.solver_order, config.use_karras_sigmas) == ("sde-dpmsolver++", 2, True)
    assert forms["fg2ble"].pipeline.vae is forms["bgble2fg"].pipeline.vae
    assert len({id(form.pipeline.unet) for form in forms.values()}) == 4


def test_only_the_background_is_finished_without_offsets(forms):
    assert {name for name, form in forms.items() if form.plain is not None} == {"fgble2bg"}
    form, calls = forms["fgble2bg"], {"plain": 0, "offsets": 0}
    hooks = [
        network.register_forward_pre_hook(lambda *_, which=which: calls.update({which: calls[which] + 1}))
        for which, network in (("plain", form.plain), ("offsets", form.pipeline.unet))
    ]
    network = form.pipeline.unet
    form.picture("a cat", given_to(form), seeded())
    for hook in hooks:
        hook.remove()
    late = sum(int(t) < 380 for t in form.pipeline.scheduler.timesteps)
    assert 0 < late < 4
    assert calls == {"plain": late, "offsets": 4 - late}
    assert form.pipeline.unet is network, "the next picture begins with offsets again"


def test_a_seed_and_everything_given_make_the_picture(forms):
    form = forms["bg2ble"]
    first = form.picture("a cat", [BACKGROUND], seeded())
    assert first.dtype == np.uint8
    assert first.shape == (*SIZE, 3)
    np.testing.assert_array_equal(first, form.picture("a cat", [BACKGROUND], seeded()))
    np.testing.assert_array_equal(first, form.picture("a cat", [BACKGROUND], seeded(), "bad, ugly"))
    others = [
        form.picture("a cat", [BACKGROUND], seeded(6)),
        form.picture("two dogs", [BACKGROUND], seeded()),
        form.picture("a cat", [BACKGROUND[::-1].copy()], seeded()),
        form.picture("a cat", [BACKGROUND], seeded(), "fur"),
    ]
    assert all((other != first).mean() > 0.01 for other in others)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ([], r"\[\]"),
        ([BACKGROUND] * 2, r"\(32, 48, 3\), \(32, 48, 3\)"),
        ([BACKGROUND[:30]], r"\(30, 48, 3\)"),
    ],
)
def test_other_pictures_than_a_form_sees_are_refused(given: list[np.ndarray], got: str, forms):
    with pytest.raises(
        UsageError, match=rf"layer_xl_fg2ble.*: expected .* whose sides 8 divides, 1 in number, got .*{got}"
    ):
        forms["fg2ble"].picture("a cat", given, seeded())


def test_the_file_of_another_form_is_refused(every_weight, tmp_path: Path):
    wrong = every_weight / "layerdiffuse-xl" / FORMS["fgble2bg"].file
    (tmp_path / FORMS["fg2ble"].file).symlink_to(wrong)
    with pytest.raises(UsageError, match=r"expected offsets for 8 channels in .*fg2ble.*, got 12"):
        load_forms(every_weight / "sdxl-base", {"fg2ble": tmp_path}, "cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UsageError, match="expected a StableDiffusionXLPipeline"):
        load_forms(tmp_path, {"fg2ble": tmp_path}, "cpu")


def test_offsets_are_added_to_a_copy(every_weight, forms):
    base = load_file(every_weight / "sdxl-base" / "unet" / "diffusion_pytorch_model.safetensors")
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    plain = forms["fgble2bg"].plain.state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in plain.items())
    for name, form in forms.items():
        file = load_file(every_weight / FOLDERS.get(name, "layerdiffuse-xl") / form.form.file)
        offset = file["diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight::diff::0"]
        torch.testing.assert_close(form.pipeline.unet.state_dict()[query], base[query] + offset)


# ---- two in a row


class Told:
    """A form that notes what it is told."""

    def __init__(self, form: ConditionalSdxl, calls: list) -> None:
        self.pipeline, self._form, self._calls = form.pipeline, form, calls

    def picture(self, prompt, given, generator, negative=""):
        self._calls.append((prompt, given, generator.initial_seed(), negative))
        return self._form.picture(prompt, given, generator, negative)

    def latent(self, prompt, given, generator, negative=""):
        self._calls.append((prompt, given, generator.initial_seed(), negative))
        return self._form.latent(prompt, given, generator, negative)


def test_around_a_foreground_the_blend_comes_first_and_the_background_sees_both(forms):
    calls: list = []
    around = AroundForeground(Told(forms["fg2ble"], calls), Told(forms["fgble2bg"], calls))
    made = around(FOREGROUND, Prompt("a dog in a room", negative="fur", background="a room"), 7)
    (text, seen, seed, negative), (second, both, again, _) = calls
    assert (text, second, seed, again, negative) == ("a dog in a room", "a room", 7, 7, "fur")
    np.testing.assert_array_equal(seen, [on_grey(FOREGROUND)])
    np.testing.assert_array_equal(both, [on_grey(FOREGROUND), made.blend])
    assert not made.foreground[FOREGROUND[..., 3] == 0].any()
    visible = FOREGROUND[..., 3] > 0
    np.testing.assert_array_equal(made.foreground[visible], FOREGROUND[visible])
    check_generation(made, "here")


def test_before_a_background_the_blend_comes_first_and_the_foreground_sees_both(forms, before):
    calls: list = []
    chain = BeforeBackground(Told(forms["bg2ble"], calls), Told(forms["bgble2fg"], calls), before._decoder)
    made = chain(BACKGROUND, Prompt("a dog in a room", foreground="a dog"), 7)
    (text, seen, _, _), (second, both, _, _) = calls
    assert (text, second) == ("a dog in a room", "a dog")
    np.testing.assert_array_equal(seen, [BACKGROUND])
    np.testing.assert_array_equal(both, [BACKGROUND, made.blend])
    np.testing.assert_array_equal(made.background, BACKGROUND)
    assert (made.foreground[..., 3] > 0).mean() > 0
    check_generation(made, "here")


def test_a_size_that_the_decoder_cannot_halve_is_refused(before):
    with pytest.raises(UsageError, match="expected sides that 8 divides, got 48x30 px"):
        before(BACKGROUND[:30], Prompt("a dog"), 7)


# ---- generators


class Square:
    """Draws a square of the colour of its seed, and notes its prompts."""

    name, revision = "square", "1"

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []

    def __call__(self, prompt: str, seed: int, negative: str = "") -> np.ndarray:
        self.told.append((prompt, seed, negative))
        picture = np.zeros((*SIZE, 4), np.uint8)
        picture[8:24, 8:24] = (seed, 0, 0, 255)
        return picture


def test_cut_outs_alone_are_a_generator():
    draw = Square()
    generator: Generator = Cutouts(draw, "mit")
    made = generator([Prompt("a cat on a mat", foreground="a cat", negative="fur"), Prompt("a dog")], [1, 2])
    assert draw.told == [("a cat", 1, "fur"), ("a dog", 2, "")]
    assert [one.foreground[10, 10, 0] for one in made] == [1, 2]
    assert (generator.name, generator.revision, generator.licence, generator.has_background) == (
        "square",
        "1",
        "mit",
        False,
    )
    assert all(one.background is None and one.blend is None and one.image is None for one in made)
    for one in made:
        check_generation(one, "here", has_background=generator.has_background)


def test_layers_are_a_generator_whose_generations_do_not_depend_on_their_neighbours(around):
    generator: Generator = LayerDiffuseLayers(Square(), around, name="layers", revision="1+2", licence="mit")
    prompts = [Prompt("a cat on a mat", foreground="a cat", background="a mat"), Prompt("a dog")]
    made = generator(prompts, [1, 2])
    (alone,) = generator(prompts[1:], [2])
    for layer in ("foreground", "background", "blend"):
        np.testing.assert_array_equal(getattr(made[1], layer), getattr(alone, layer))
    assert made[0].image.shape == (*SIZE, 3)
    assert not np.array_equal(made[0].background, made[0].blend)
    assert generator.has_background
    for one in made:
        assert isinstance(one, Generation)
        check_generation(one, "here")


def test_everything_is_loaded_by_name_with_every_revision(every_weight, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        LayerDiffuseGenerator, "__call__", lambda self, prompt, seed, negative="": Square()(prompt, seed)
    )
    layers, cutouts = load_layers(every_weight, "cpu"), load_cutouts(every_weight, "cpu")
    assert (layers.name, cutouts.name) == ("layerdiffuse-layers", "layerdiffuse-sdxl")
    assert layers.revision.startswith(f"{cutouts.revision}+")
    assert len(set(layers.revision.split("+"))) == 4
    assert layers.licence == "openrail++, openrail, creativeml-openrail-m"
    assert cutouts.licence == "openrail++, openrail"
    for form in (layers._around._blend, layers._around._background):
        form.steps = 2
    (made,) = layers([Prompt("a cat")], [3])
    check_generation(made, "here")
    around, before = load_fg2bg(every_weight, device="cpu"), load_bg2fg(every_weight, device="cpu")
    assert around._blend.form == FORMS["fg2ble"]
    assert around._background.form == FORMS["fgble2bg"]
    assert (before._blend.form, before._foreground.form) == (FORMS["bg2ble"], FORMS["bgble2fg"])


def test_missing_offsets_say_how_to_get_them(every_weight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("sdxl-base", "layerdiffuse-xl"):
        (tmp_path / name).symlink_to(every_weight / name)
    wanted = r"hf download LayerDiffusion/layerdiffusion-v1 layer_xl_fg2ble\.safetensors layer_xl_bg2ble\.safetensors"
    for loads in (load_fg2bg, load_bg2fg):
        with pytest.raises(MissingWeights, match=wanted):
            loads(tmp_path)


def test_naming_them_loads_no_network_library():
    code = "import sys, layerkit.toolkit.models.layerdiffuse_layers; print({'torch', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""A run's folder gives the system back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file, save_file

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.train import Trained
from layerkit.pipelines.training import checkpoints
from layerkit.pipelines.training.config import load
from layerkit.pipelines.training.trainer import made_system
from layerkit.toolkit.models.registry import SYSTEMS, load_run
from layerkit.toolkit.models.system import Origin, Predicted, System, Triplets


def scene() -> Triplets:
    draws = torch.Generator().manual_seed(3)
    image, foreground, background = (torch.rand(2, c, 32, 32, generator=draws) for c in (3, 4, 3))
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:20, 8:20] = 1
    return Triplets(
        image=image,
        foreground=foreground,
        background=background,
        mask=mask,
        has_foreground=torch.ones(2, dtype=torch.bool),
        captions=("a cone", "a red box"),
    )


def layers(system: System) -> list[torch.Tensor]:
    made: Predicted = system.predict(scene(), torch.Generator().manual_seed(0))
    return [layer for layer in (made.background, made.foreground) if layer is not None]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_predicts_as_the_system_did_that_was_trained(
    name: str, short_run: Callable[..., Trained], tmp_path: Path
):
    """Without averaging, the last checkpoint holds the very weights."""
    short_run(tmp_path / "run", name, "ema=0.0", steps=2)
    system, table = load_run(tmp_path / "run")
    assert table["system"] == name
    assert not system.training
    config = load(str(tmp_path / "run" / "config.toml"))
    _, trained = made_system(config, Origin(base=config.base))
    untrained = [layer.clone() for layer in layers(trained.eval())]
    folder, _ = checkpoints.latest(tmp_path / "run")
    trained.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    found = layers(system)
    assert found
    assert all(torch.equal(one, other) for one, other in zip(found, layers(trained), strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(found, untrained, strict=True))


def test_a_removal_run_gives_a_background_alone(short_run: Callable[..., Trained], tmp_path: Path):
    short_run(tmp_path / "run", "layerdecomp", "model.variant='v0'", steps=1)
    made = load_run(tmp_path / "run")[0].predict(scene(), torch.Generator().manual_seed(0))
    assert made.background.shape == (2, 3, 32, 32)
    assert made.foreground is None


def test_a_run_on_a_base_is_read_when_the_base_is_gone(short_run: Callable[..., Trained], tmp_path: Path):
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "joint_attention_dim": 8}
    base = SD3Transformer2DModel(
        **sizes, sample_size=32, in_channels=4, out_channels=4, pooled_projection_dim=8, caption_projection_dim=16
    )
    base.save_pretrained(tmp_path / "base")
    short_run(tmp_path / "run", "layerdecomp", f"base='{tmp_path / 'base'}'", "model.steps=2", steps=1)
    before = layers(load_run(tmp_path / "run")[0])
    shutil.rmtree(tmp_path / "base")
    system, table = load_run(tmp_path / "run")
    assert type(system.network.transformer) is SD3Transformer2DModel
    assert json.loads(table["model"]["backbone"])["attention_head_dim"] == 8
    assert all(torch.equal(one, other) for one, other in zip(layers(system), before, strict=True))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match=r"config\.toml: expected a TOML file"):
        load_run(tmp_path)
    (tmp_path / "config.toml").write_text("lr = 0.1\n")
    with pytest.raises(UsageError, match=r"config\.toml: expected the configuration of a run of layerkit train"):
        load_run(tmp_path)
    (tmp_path / "config.toml").write_text('system = "other"\n')
    with pytest.raises(
        UsageError, match=r"expected one of rgba-vae, layerdecomp, .*text2layer-ae, text2layer, .*got 'other'"
    ):
        load_run(tmp_path)
    (tmp_path / "config.toml").write_text('system = "layerdecomp"\n[model]\ncodex = 1\n')
    with pytest.raises(UsageError, match=r"config\.toml: model: unknown key 'codex'; did you mean 'codec'"):
        load_run(tmp_path)


def test_weights_that_are_missing_or_do_not_fit_are_named(finished_run: Path, tmp_path: Path):
    out = shutil.copytree(finished_run, tmp_path / "run")
    path = out / "weights.safetensors"
    tensors = load_file(path)
    for faulty, message in (
        ({**tensors, "network.type_embed": torch.zeros(2, 3)}, r"network\.type_embed \[2, 3\] for \[4, 64\]"),
        ({k: v for k, v in tensors.items() if k != "network.type_embed"}, r"1 missing: network\.type_embed"),
        ({**tensors, "network.other": torch.zeros(1)}, r"1 unexpected: network\.other"),
    ):
        save_file(faulty, path)
        with pytest.raises(UsageError, match=rf"run/weights\.safetensors does not hold .* LayerDecomp; .*{message}"):
            load_run(out)
    path.write_bytes(b"no tensors")
    with pytest.raises(UsageError, match=r"expected safetensors in .*weights\.safetensors"):
        load_run(out)
    path.unlink()
    with pytest.raises(UsageError, match=r"expected safetensors in .*weights\.safetensors"):
        load_run(out)


def test_a_run_of_the_vae_without_its_vae_is_told(short_run: Callable[..., Trained], tmp_path: Path):
    short_run(tmp_path / "run", "rgba-vae", steps=1)
    shutil.rmtree(tmp_path / "run" / "vae")
    with pytest.raises(UsageError, match=r"vae/config\.json"):
        load_run(tmp_path / "run")

"""The folder of a run as a model: loaded by its path, for pictures of any size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.decomposers import load
from layerkit.toolkit.models.inference import Fit, decompose_picture
from layerkit.toolkit.models.layerdecomp import LayerDecompOptions, build
from layerkit.toolkit.models.layerdecomp_network import LayerDecompConfig
from layerkit.toolkit.models.system import Origin
from layerkit.toolkit.suites.moves import Move, moved, placed

CONFIG = """
system = "layerdecomp"
[data]
size = 16
[model]
codec = "pixels"
steps = 3
[model.network]
width = 16
depth = 1
heads = 2
sample_size = 16
patch_size = 4
"""
OPTIONS = LayerDecompOptions(
    codec="pixels", steps=3, network=LayerDecompConfig(width=16, depth=1, heads=2, sample_size=16, patch_size=4)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    system = build(OPTIONS, Origin())
    for parameter in system.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    system.save(folder)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def a_case(size: tuple[int, int] = (20, 33)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.zeros(size, bool)
    mask[5:12, 8:20] = True
    return rng.integers(0, 256, (*size, 3), np.uint8), mask


def test_a_run_is_a_model_by_its_path(run: Path):
    model, (image, mask) = load(str(run), device="cpu"), a_case()
    assert (model.name, model.native, model.is_random) == (str(run), 16, True)
    assert model.revision.startswith("sha256:")
    made = model(image, mask, np.random.default_rng(1))
    system = build(OPTIONS, Origin(run=run))
    system.restore(run)
    expected = decompose_picture(system, image, mask, np.random.default_rng(1), Fit(side=16))
    assert np.array_equal(made.background, expected.background)
    assert np.array_equal(made.foreground, expected.foreground)
    assert made.foreground.any()


def test_other_options_are_another_revision(run: Path, tmp_path: Path):
    """Or a report that is gone on with would mix the predictions of both."""
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    revisions = set()
    for steps in (3, 4, 3):
        (tmp_path / "config.toml").write_text(CONFIG.replace("steps = 3", f"steps = {steps}"))
        revisions.add(load(str(tmp_path), device="cpu").revision)
    assert len(revisions) == 2
    assert load(str(run), device="cpu").revision in revisions


def test_the_background_can_stay_the_pictures_own(run: Path):
    image, mask = a_case()
    for way in ("resize", "tile"):
        made = load(str(run), device="cpu", way=way, keep="mask")(image, mask, np.random.default_rng(1))
        assert np.array_equal(made.background[~mask], image[~mask])
        assert not np.array_equal(made.background[mask], image[mask])


def test_a_run_that_takes_nothing_apart_and_a_judge_are_refused(tmp_path: Path):
    from layerkit.toolkit.models.rgba_vae_training import RgbaVaeTraining
    from layerkit.toolkit.models.rgba_vae_training import build as build_vae

    build_vae(RgbaVaeTraining(scratch="debug"), Origin()).save(tmp_path)
    (tmp_path / "config.toml").write_text('system = "rgba-vae"\n[data]\nsize = 16\n')
    with pytest.raises(UsageError, match="takes pictures apart, got rgba-vae"):
        load(str(tmp_path), device="cpu")
    (tmp_path / "config.toml").write_text('role = "mask-quality"\n')
    with pytest.raises(UsageError, match="the folder of a run"):
        load(str(tmp_path), device="cpu")


def test_a_run_without_its_weights_says_so(run: Path, tmp_path: Path):
    (tmp_path / "config.toml").write_text(CONFIG)
    with pytest.raises(UsageError, match=r"weights\.safetensors"):
        load(str(tmp_path), device="cpu")
    (tmp_path / "config.toml").write_text(CONFIG.replace("width = 16", "width = 32"))
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    with pytest.raises(UsageError, match="of another shape"):
        load(str(tmp_path), device="cpu")


def a_run_of_seele(folder: Path, *tasks: str) -> Path:
    from layerkit.toolkit.models.seele import SeeleOptions
    from layerkit.toolkit.models.seele import build as build_seele

    settings = {"tokens": 3, "rank": 2, "steps": 2, "base_dtype": "float32"}
    torch.manual_seed(0)
    build_seele(SeeleOptions(tasks=tasks, **settings), Origin(base="debug")).save(folder)
    listed = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    (folder / "config.toml").write_text(
        f'system = "seele"\nbase = "debug"\n[data]\nsize = 16\n[model]\ntasks = {list(tasks)}\n{listed}\n'
    )
    return folder


def test_a_run_does_the_task_that_it_is_asked_for(tmp_path: Path):
    run, (image, mask) = a_run_of_seele(tmp_path, "remove", "complete", "harmonise"), a_case()
    made = {}
    for task in ("remove", "complete", "harmonise"):
        model = load(str(run), device="cpu", keep="mask", task=task)
        made[task] = model(image, mask, np.random.default_rng(1)).background
        assert np.array_equal(made[task][~mask], image[~mask])
    assert len({one.tobytes() for one in made.values()}) == 3


def test_a_run_that_harmonises_sets_the_subject_down_in_harmony(tmp_path: Path):
    run, (image, mask) = a_run_of_seele(tmp_path, "remove", "harmonise"), a_case()
    model, move = load(str(run), device="cpu"), Move(0.3, 0.1)
    whole = model.inner.reposition(image, mask, move, np.random.default_rng(1))
    made = model(image, mask, np.random.default_rng(1))
    there = placed(made, image, mask, move)[..., 3] > 0
    assert there.any()
    plain = moved(made, image, mask, move)
    assert not np.array_equal(whole[there], plain[there])


def test_a_run_that_only_removes_moves_nothing_by_itself(run: Path, tmp_path: Path):
    assert not hasattr(load(str(run), device="cpu").inner, "reposition")
    assert not hasattr(load(str(a_run_of_seele(tmp_path, "remove")), device="cpu").inner, "reposition")
    with pytest.raises(UsageError, match="expected a run that harmonises, as of seele, got layerdecomp"):
        load(str(run), device="cpu", task="harmonise")


def test_a_task_that_a_run_did_not_learn_is_said_when_it_is_loaded(tmp_path: Path):
    run = a_run_of_seele(tmp_path, "remove")
    for task in ("complete", "harmonise"):
        with pytest.raises(UsageError, match=f"expected a run that learnt to {task}, got one that learnt to remove"):
            load(str(run), device="cpu", task=task)

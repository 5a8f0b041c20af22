"""Depth against transformers' own pipeline, with a small network of random weights."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.depth import DEPTH, TransformersDepth, load_depth

NAME = "depth-anything-v2-small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder NAME inside a ``--weights`` folder."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        initializer_range=0.4,  # or the map would be flat
    )
    path = tmp_path_factory.mktemp("weights") / NAME
    network = DepthAnythingForDepthEstimation(config).to(torch.float32)
    with torch.no_grad():
        network.head.conv3.bias.fill_(5.0)  # above the ReLU
    network.save_pretrained(path)
    DPTImageProcessor(
        size={"height": 56, "width": 56},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def depth(folder: Path) -> TransformersDepth:
    return TransformersDepth(folder, "small", device="cpu")


def photo(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def of_the_pipeline(folder: Path, image: np.ndarray) -> np.ndarray:
    from PIL import Image
    from transformers import pipeline

    predict = pipeline("depth-estimation", model=str(folder), device="cpu")
    inverse = predict(Image.fromarray(image))["predicted_depth"].numpy()
    return (inverse - inverse.min()) / (inverse.max() - inverse.min())


@pytest.mark.parametrize(
    ("height", "width", "mean"),
    [(56, 56, 1e-6), (56, 84, 1e-6), (90, 130, 0.04), (31, 40, 0.04)],
    ids=["as the network's", "as the network's, wide", "larger", "smaller"],
)
def test_depth_is_that_of_transformers_pipeline(folder, depth, height, width, mean):
    """The pipeline resizes its output bicubically, ours bilinearly; where neither resizes, they are equal."""
    ours = depth(photo(height, width))
    theirs = of_the_pipeline(folder, photo(height, width))
    assert ours.shape == (height, width)
    assert ours.dtype == np.float32
    assert (ours.min(), ours.max()) == (0, 1)
    assert theirs.std() > 0.1
    assert np.abs(ours - theirs).mean() < mean


def test_the_same_picture_gives_the_same_map(depth):
    np.testing.assert_array_equal(depth(photo(50, 70)), depth(photo(50, 70)))


def test_a_constant_map_is_zero(folder, depth, monkeypatch):
    import torch

    head = depth._network.head.conv3
    monkeypatch.setattr(head, "weight", torch.nn.Parameter(torch.zeros_like(head.weight)))
    assert not depth(photo(20, 30)).any()


def test_names_and_weights(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert list(DEPTH) == [NAME]
    model = load_depth(NAME, folder.parent)
    assert model.name == NAME
    assert model.revision.startswith("sha256:")
    with pytest.raises(MissingWeights, match=r"hf download depth-anything/Depth-Anything-V2-Small-hf"):
        load_depth(NAME)
    with pytest.raises(UsageError, match=rf"{NAME}.*got 'midas'"):
        load_depth("midas")


def copied(folder: Path, to: Path, **config: object) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    own = json.loads((folder / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps(own))
    return to


def test_metric_depth_is_refused(folder, tmp_path):
    metric = copied(folder, tmp_path / "metric", depth_estimation_type="metric")
    with pytest.raises(UsageError, match=r"expected a network for relative depth.*got one for metric depth"):
        TransformersDepth(metric, device="cpu")


def test_a_folder_without_a_depth_network_is_named(folder, tmp_path):
    text = copied(folder, tmp_path / "text", model_type="bert")
    with pytest.raises(UsageError, match=r"expected a depth network of transformers, but .*text"):
        TransformersDepth(text, device="cpu")
    partial = copied(folder, tmp_path / "partial")
    (partial / "model.safetensors").rename(partial / "pytorch_model.bin")
    with pytest.raises(MissingWeights, match=r"complete depth network with safetensors in .*partial"):
        TransformersDepth(partial, device="cpu")

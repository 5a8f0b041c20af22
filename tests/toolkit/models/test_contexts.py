"""Pictures of context against what draws them, and what is said where weights are missing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.models import contexts as contexts_module
from layerkit.toolkit.models.contexts import CONTEXTS, Contexts, Segmentation, palette

CLASSES = 7


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A ``--weights`` folder with a SegFormer of random weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=CLASSES,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("weights")
    path = folder / "segformer-b5-ade"
    SegformerForSemanticSegmentation(config).to(torch.float32).save_pretrained(path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    return folder


def photo(height: int = 24, width: int = 40) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images]) / 255


def test_edges_are_cannys():
    drawn = Contexts(["edges"])(batch(photo(), photo()[::-1].copy()))
    assert drawn.shape == (2, 1, 3, 24, 40)
    expected = torch.from_numpy(cv2.Canny(cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY), 100, 200)) / 255
    assert all(torch.equal(channel, expected) for channel in drawn[0, 0])
    assert 0.01 < expected.mean() < 0.5


def test_superpixels_are_flat_regions_of_the_images_colours():
    drawn = Contexts(["superpixels"])(batch(photo()))[0, 0]
    colours = {tuple(colour) for colour in drawn.flatten(1).T.tolist()}
    assert 4 < len(colours) <= 120
    torch.testing.assert_close(drawn.mean((1, 2)), batch(photo())[0].mean((1, 2)), atol=0.02, rtol=0)


def test_segmentation_colours_the_likeliest_class(weights):
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    drawn = Contexts(["segmentation"], weights)(batch(photo()))[0, 0]
    path = weights / "segformer-b5-ade"
    pixels = SegformerImageProcessor.from_pretrained(path)(photo(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = SegformerForSemanticSegmentation.from_pretrained(path)(pixels).logits
    classes = interpolate(logits, (24, 40), mode="bilinear")[0].argmax(0)
    assert len(classes.unique()) > 1
    assert torch.equal(drawn, torch.from_numpy(palette(CLASSES)[classes.numpy()]).permute(2, 0, 1) / 255)


def test_classes_have_colours_of_their_own():
    colours = palette(150)
    assert len({tuple(colour) for colour in colours.tolist()}) == 150
    assert colours[:3].tolist() == [[128, 0, 0], [0, 128, 0], [128, 128, 0]]  # Pascal VOC's after the background


def test_depth_is_grey(monkeypatch):
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(24, 0)
    monkeypatch.setattr(contexts_module, "load_depth", lambda name, weights: lambda image: ramp)
    drawn = Contexts(["depth"])(batch(photo()))[0, 0]
    torch.testing.assert_close(drawn, torch.from_numpy(ramp).expand(3, -1, -1), atol=0.5 / 255, rtol=0)


def test_kinds_come_in_the_order_asked_for(weights):
    image = batch(photo())
    several = Contexts(["segmentation", "edges", "superpixels"], weights)(image)
    for number, kind in enumerate(["segmentation", "edges", "superpixels"]):
        assert torch.equal(several[:, number : number + 1], Contexts([kind], weights)(image))
    assert several.dtype == torch.float32
    assert several.min() >= 0
    assert several.max() <= 1


def test_images_beyond_their_range_are_cut():
    wild = batch(photo()) * 4 - 1.5
    assert torch.equal(Contexts(["edges"])(wild), Contexts(["edges"])(wild.clamp(0, 1)))


def test_on_the_meta_device_no_weights_are_read():
    drawn = Contexts(tuple(CONTEXTS), meta=True)(torch.empty(2, 3, 24, 40, device="meta"))
    assert drawn.is_meta
    assert drawn.shape == (2, len(CONTEXTS), 3, 24, 40)


def test_missing_weights_are_named_with_the_command(tmp_path):
    for kind, repo in (
        ("segmentation", "nvidia/segformer-b5-finetuned-ade-640-640"),
        ("depth", "depth-anything/Depth-Anything-V2-Small-hf"),
    ):
        with pytest.raises(MissingWeights, match=f"hf download {repo}"):
            Contexts([kind], tmp_path)
    with pytest.raises(MissingWeights, match=r"non-commercial.* --revision refs/pr/3"):
        Contexts(["segmentation"])


def test_folders_without_a_network_are_told(weights, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    with pytest.raises(MissingWeights, match="expected a complete segmentation network"):
        Segmentation(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "depth_anything"}')
    with pytest.raises(UsageError, match="expected a segmentation network"):
        Segmentation(tmp_path)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="out of edges, superpixels, segmentation, depth, got 'normals'"):
        Contexts(["edges", "normals"])

"""A TorchScript remover: the network sees what LaMa is given, at a multiple of 8, and its picture comes back whole."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from layerkit.manifests.errors import MissingWeights, RunError, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.decomposers import load
from layerkit.toolkit.decomposers.torchscript import TorchScriptRemover


class Masked(torch.nn.Module):
    """Blanks the hole, as LaMa does first, and shows the mask in the red channel."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert image.shape[2] % 8 == 0 and image.shape[3] % 8 == 0, "multiple of 8"  # noqa: PT018
        shown = image * (1 - mask)
        return torch.cat([mask, shown[:, 1:]], 1)


class Mirrored(torch.nn.Module):
    """Returns the last rows and columns first: shows how the picture was padded."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image.flip(2).flip(3)


class Halved(torch.nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image[:, :, ::2]


def saved(module: torch.nn.Module, path):
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8), np.eye(21, 34, dtype=bool)


def test_the_network_sees_colour_and_mask_in_0_to_1_and_its_picture_is_kept(tmp_path, picture):
    image, mask = picture
    result = TorchScriptRemover(saved(Masked(), tmp_path / "m.pt"))(image, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(result.background[..., 0], mask * 255)
    np.testing.assert_array_equal(result.background[..., 1:], image[..., 1:] * ~mask[..., None])
    assert result.foreground is None


def test_the_picture_is_mirrored_at_the_bottom_and_right(tmp_path, picture):
    image, mask = picture
    result = TorchScriptRemover(saved(Mirrored(), tmp_path / "m.pt"))(image, mask, np.random.default_rng(0))
    padded = np.pad(image, ((0, 3), (0, 6), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(result.background, padded[::-1, ::-1][:21, :34])


def test_lama_is_found_by_its_hash_and_says_how_to_get_it(tmp_path, monkeypatch, picture):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(MissingWeights, match=r"run: curl .*big-lama\.pt"):
        load("lama", tmp_path)
    file = saved(Masked(), tmp_path / "big-lama.pt")
    with pytest.raises(UsageError, match="expected sha256 344c77bb"):
        load("lama", tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(WEIGHTS, "lama", replace(WEIGHTS["lama"], sha256=digest))
    model = load("lama", tmp_path)
    assert (model.name, model.native, model.is_random, model.licence) == ("lama", 0, False, "Apache-2.0")
    assert model.revision.startswith("sha256:")
    image, mask = picture
    first, second = (model(image, mask, np.random.default_rng(seed)).background for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_what_is_no_network_is_named(tmp_path, picture):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"expected a TorchScript file, got .*bad\.pt"):
        TorchScriptRemover(tmp_path / "bad.pt")
    halved = TorchScriptRemover(saved(Halved(), tmp_path / "m.pt"))
    with pytest.raises(RunError, match=r"expected \(1, 3, 24, 40\) from the network, got \(1, 3, 12, 40\)"):
        halved(*picture, np.random.default_rng(0))

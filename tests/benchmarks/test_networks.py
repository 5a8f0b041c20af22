"""Networks are loaded once, weights read once, and what is missing is named with its command."""

from pathlib import Path

import pytest

from layerkit.benchmarks import networks
from layerkit.benchmarks.measures import parse_measure
from layerkit.benchmarks.networks import Networks

MEASURES = [parse_measure(name) for name in ("psnr", "lpips:alex", "lpips:vgg", "fid:clean-fid", "fid:clip")]


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return tmp_path


def test_missing_weights_are_named_with_the_command_that_gets_them(nothing_cached: Path):
    missing = Networks(nothing_cached).missing(MEASURES)
    assert list(missing) == MEASURES[1:]
    assert all("run: " in why and "weights" in why for why in missing.values())
    assert "'alexnet'" in missing[MEASURES[1]]


def test_weights_are_found_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    monkeypatch.setattr(networks, "locate", lambda name, weights: asked.append(name) or path)
    found = Networks()
    for _ in range(3):
        assert found.missing(MEASURES) == {}
        assert found.revision(MEASURES[0]) == ""
        assert found.revision(MEASURES[3]).startswith("sha256:")
    assert sorted(asked) == ["alexnet", "clip-vit-b-32", "inception-torchscript", "vgg16"]


def test_networks_are_loaded_when_they_are_asked_for_and_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    loads = []
    monkeypatch.setattr(networks, "load_lpips", lambda *told: loads.append(told) or "lpips")
    monkeypatch.setattr(networks, "load_features", lambda *told: loads.append(told) or "features")
    found = Networks(tmp_path, "cpu")
    assert [found.lpips("alex"), found.lpips("alex"), found.features("clean-fid"), found.features("clean-fid")] == [
        "lpips",
        "lpips",
        "features",
        "features",
    ]
    assert loads == [("alex", tmp_path, "cpu"), ("clean-fid", tmp_path, "cpu")]


def test_clip_s_vectors_are_those_of_its_pictures(monkeypatch: pytest.MonkeyPatch):
    class Clip:
        @classmethod
        def load(cls, name: str, *told: object) -> "Clip":
            assert name == "clip-vit-b-32"
            return cls()

        def images(self, pictures: list) -> str:
            return f"{len(pictures)} vectors"

    monkeypatch.setattr(networks, "Clip", Clip)
    assert Networks().features("clip")([1, 2]) == "2 vectors"

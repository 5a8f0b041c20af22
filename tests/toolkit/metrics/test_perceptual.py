"""LPIPS against the lpips package and torchmetrics with shared random trunks."""

import math
import warnings

import numpy as np
import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.metrics.perceptual import TRUNKS, Lpips, load_lpips, lpips_net

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=TRUNKS)
def net(request):
    torch.manual_seed(0)
    return lpips_net(request.param)


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_agrees_with_the_lpips_package(net, photo, noisy):
    with torch.inference_mode():
        theirs = net(tensor(noisy), tensor(photo)).item()
    assert Lpips(net)(noisy, photo) == pytest.approx(theirs, rel=1e-5)
    assert Lpips(net)(photo, photo) == 0


def test_the_map_is_that_of_the_lpips_package(net, photo, noisy, disc):
    net.spatial = True
    with torch.inference_mode():
        theirs = net(tensor(noisy), tensor(photo))[0, 0].numpy()
    net.spatial = False
    ours = Lpips(net)
    assert ours.in_mask(noisy, photo, disc) == pytest.approx(theirs[disc].mean(), rel=1e-5)
    everywhere = ours.in_mask(noisy, photo, np.ones_like(disc))
    assert everywhere == pytest.approx(theirs.mean(), rel=1e-5)
    assert everywhere == pytest.approx(ours(noisy, photo), rel=0.05)
    assert math.isnan(ours.in_mask(noisy, photo, np.zeros_like(disc)))


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_agrees_with_torchmetrics(name, photo, noisy):
    from torchmetrics.functional.image.lpips import _LPIPS

    torch.manual_seed(1)
    net = lpips_net(name)
    theirs = _LPIPS(net=name, pretrained=True, pnet_rand=True, eval_mode=True)
    theirs.net.load_state_dict(net.net.state_dict())
    with torch.inference_mode():
        expected = theirs(tensor(noisy), tensor(photo)).item()
    assert Lpips(net)(noisy, photo) == pytest.approx(expected, rel=1e-4)


def test_more_noise_is_farther(net, photo):
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, photo.shape)
    distances = [Lpips(net)(np.clip(photo + sigma * noise, 0, 255).astype(np.uint8), photo) for sigma in (2, 8, 32)]
    assert distances == sorted(distances)


@pytest.mark.parametrize(("name", "builder"), [("alex", "alexnet"), ("vgg", "vgg16"), ("squeeze", "squeezenet1_1")])
def test_a_torchvision_file_becomes_the_trunk(name, builder, tmp_path, monkeypatch, photo, noisy):
    from dataclasses import replace

    import torchvision
    from lpips import pretrained_networks

    torch.manual_seed(2)
    module = getattr(torchvision.models, builder)(weights=None)
    row = WEIGHTS[TRUNKS[name]]
    torch.save(module.state_dict(), tmp_path / row.files[0])
    monkeypatch.setitem(WEIGHTS, row.name, replace(row, sha256=""))
    ours = load_lpips(name, tmp_path)
    monkeypatch.setattr(pretrained_networks.tv, builder, lambda **_: module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = __import__("lpips").LPIPS(net=name, verbose=False)
    with torch.inference_mode():
        assert ours(noisy, photo) == pytest.approx(reference(tensor(noisy), tensor(photo)).item(), rel=1e-5)


@pytest.mark.parametrize("name", TRUNKS)
def test_missing_trunks_say_how_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(MissingWeights, match=r"run: curl -L .*download.pytorch.org/models/"):
        load_lpips(name, tmp_path)


def test_what_is_refused_is_said(photo):
    net = Lpips(lpips_net("alex"))
    with pytest.raises(UsageError, match=r"at least 64 px a side, got \(63, 112\)"):
        net(photo[:63], photo[:63])
    with pytest.raises(UsageError, match="preds: expected uint8"):
        net(photo / 255, photo / 255)
    with pytest.raises(UsageError, match=r"\(alex, vgg, squeeze\), got 'resnet'"):
        load_lpips("resnet")

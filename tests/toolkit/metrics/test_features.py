"""Resizes and networks against the libraries they are named after, with shared random weights."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.metrics import inception
from layerkit.toolkit.metrics.distributions import fid
from layerkit.toolkit.metrics.features import RECIPES, RESIZES, InceptionFeatures, load_features
from layerkit.toolkit.metrics.inception import fid_inception, imagenet_inception, load_inception

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def pictures():
    from skimage import data

    return [data.astronaut()[:400], data.coffee(), data.chelsea()[:200, :260], data.astronaut()[::2, ::2]]


@pytest.fixture(scope="module")
def network(inception_state):
    return fid_inception(inception_state)


@pytest.fixture(scope="module")
def clean_fid_network(inception_state):
    """clean-fid's own module, its download replaced by the random weights."""
    from cleanfid import inception_pytorch

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: inception_state)
        warnings.simplefilter("ignore")  # it still says pretrained=False
        return inception_pytorch.InceptionV3([0, 3], resize_input=False, normalize_input=False).eval()


def close(ours, theirs, tolerance=2e-5):
    """Largest difference by the spread of what is compared."""
    return np.abs(ours - theirs).max() <= tolerance * theirs.std()


def test_clean_fids_resize(pictures):
    from cleanfid.resize import build_resizer

    for picture in pictures:
        ours = RESIZES["clean-fid"](tensor(picture))[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - build_resizer("clean")(picture)).max() < 0.01


def test_torchmetrics_and_torch_fidelitys_resizes(pictures):
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow", reason="needs torch-fidelity")
    for picture in map(tensor, pictures):
        resized = theirs.interpolate_bilinear_2d_like_tensorflow1x(picture, size=(299, 299), align_corners=False)
        assert (RESIZES["torch-fidelity"](picture) - resized).abs().max() < 1e-3


def test_tensorflows_resize_by_hand():
    ramp = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    resized = RESIZES["torch-fidelity"](tensor(ramp))[0, 0, 0].numpy()
    assert resized == pytest.approx(np.minimum(np.arange(299) * 30 / 299, 29) * 8, abs=1e-3)


def test_torchvisions_preprocessing(pictures):
    from PIL import Image
    from torchvision.models import Inception_V3_Weights

    for picture in pictures:
        theirs = Inception_V3_Weights.DEFAULT.transforms()(Image.fromarray(picture))
        ours = RESIZES["torchvision"](tensor(picture))[0] / 255
        mean, deviation = (torch.tensor(part)[:, None, None] for part in inception._IMAGENET)
        assert ((ours - mean) / deviation - theirs).abs().max() < 1.01 / 255 / 0.22


def test_features_are_clean_fids(pictures, network, clean_fid_network):
    """The whole path: its resize, batch and network."""
    from cleanfid.fid import get_batch_features
    from cleanfid.resize import build_resizer

    resized = np.stack([build_resizer("clean")(picture) for picture in pictures]).transpose(0, 3, 1, 2)
    early, late = (
        get_batch_features(torch.from_numpy(resized), lambda x, block=block: model(x, clean_fid_network, block), "cpu")
        for block in (0, 1)
    )
    assert close(InceptionFeatures(network, "clean-fid")(pictures), late)
    assert close(InceptionFeatures(network, "clean-fid", width=64)(pictures), early)


def model(pictures, network, block):
    """Normalised as clean-fid does for the network that it downloads, pooled as pytorch-fid pools."""
    found = network((pictures - 128) / 128)[block]
    return torch.nn.functional.adaptive_avg_pool2d(found, 1).flatten(1)


def test_fid_is_clean_fids_from_folder_to_number(tmp_path, pictures, network, clean_fid_network):
    """With the 64 features of the first pooling, as clean-fid's matrix square root of 2048 takes half a minute."""
    from cleanfid import fid as clean_fid

    from layerkit.toolkit.images import encode_png

    crops = [np.ascontiguousarray(p[row : row + 120, 10:150]) for p in pictures for row in (0, 40, 70)]
    sets = {"a": crops, "b": [np.roll(crop, 5, axis=2)[::-1].copy() for crop in crops]}
    for name, some in sets.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(some):
            (tmp_path / name / f"{number:03}.png").write_bytes(encode_png(picture))
    options = {"num_workers": 0, "device": "cpu", "verbose": False, "batch_size": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the matrix square root
        theirs = clean_fid.compute_fid(
            *(str(tmp_path / name) for name in sets),
            custom_feat_extractor=lambda x: model(x, clean_fid_network, 0),
            **options,
        )
    extractor = InceptionFeatures(network, "clean-fid", width=64)
    assert fid(extractor(sets["a"]), extractor(sets["b"])) == pytest.approx(theirs, rel=1e-4)


def test_features_are_torch_fidelitys(tmp_path, pictures, network, inception_state):
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs torch-fidelity")
    torch.save(inception_state, tmp_path / "weights.pth")
    extractor = theirs.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["64", "2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    )
    for picture in pictures[:2]:
        with torch.inference_mode():
            early, late = (part.numpy() for part in extractor(tensor(picture).byte()))
        assert close(InceptionFeatures(network, "torch-fidelity")([picture]), late)
        assert close(InceptionFeatures(network, "torch-fidelity", width=64)([picture]), early)


def test_features_are_torchmetrics(tmp_path, pictures, network, inception_state):
    pytest.importorskip("torch_fidelity", reason="torchmetrics' Inception needs torch-fidelity")
    from torchmetrics.image.fid import NoTrainInceptionV3

    torch.save(inception_state, tmp_path / "weights.pth")
    extractor = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(tmp_path / "weights.pth"))
    theirs = extractor(tensor(pictures[0]).byte()).numpy()
    assert close(InceptionFeatures(network, "torchmetrics")(pictures[:1]), theirs)


def test_the_imagenet_network_is_torchvisions(pictures):
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    reference = inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    for name, value in reference.state_dict().items():
        if value.ndim == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
        elif "running_var" in name:
            value.uniform_(0.5, 1.5)
    ours = InceptionFeatures(imagenet_inception(reference.state_dict()), "torchvision")(pictures)
    reference.fc = torch.nn.Identity()
    mean, deviation = (torch.tensor(part)[:, None, None] for part in inception._IMAGENET)
    resized = torch.cat([RESIZES["torchvision"](tensor(picture)) for picture in pictures])
    with torch.inference_mode():
        assert close(ours, reference((resized / 255 - mean) / deviation).numpy())


def test_batches_and_neighbours_change_nothing_but_rounding(pictures, network):
    extractor = InceptionFeatures(network, "clean-fid", batch=3)
    together = extractor(pictures)
    extractor.batch = 1
    alone = extractor(pictures)
    assert close(together, alone, 1e-5)
    assert close(extractor(pictures[::-1])[::-1], alone, 1e-6)
    assert extractor([]).shape == (0, 2048)


def test_what_is_refused_is_said(pictures, network):
    with pytest.raises(UsageError, match=r"expected a resize \(clean-fid, .*got 'pil'"):
        InceptionFeatures(network, "pil")
    with pytest.raises(UsageError, match=r"picture 1: expected uint8 .* flatten alpha"):
        InceptionFeatures(network, "clean-fid")([pictures[0], np.zeros((8, 8, 4), np.uint8)])
    with pytest.raises(UsageError, match=r"expected features \(clean-fid, .*got 'fid'"):
        load_features("fid")
    with pytest.raises(UsageError, match=r"expected an Inception network \(.*got 'vgg'"):
        load_inception("vgg")


@pytest.mark.parametrize("variant", RECIPES)
def test_missing_weights_say_how_to_get_them(variant, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(MissingWeights, match=r"run: curl -L --create-dirs -o DIR/.* and give --weights DIR"):
        load_features(variant, tmp_path)


def test_published_files_load_by_the_same_path(tmp_path, monkeypatch, pictures, network, inception_state):
    """Stand-ins with random weights in the published formats: a state dict, and a TorchScript with ``layers``."""

    class Published(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 2048)
            )

        def forward(self, x):
            return self.layers(x)

    published = Published()
    torch.jit.script(published).save(tmp_path / WEIGHTS["inception-torchscript"].files[0])
    torch.save(inception_state, tmp_path / WEIGHTS["inception-fid"].files[0])
    for name in ("inception-torchscript", "inception-fid"):
        monkeypatch.setitem(WEIGHTS, name, replace(WEIGHTS[name], sha256=""))
    assert close(
        load_features("torch-fidelity", tmp_path)(pictures), InceptionFeatures(network, "torch-fidelity")(pictures)
    )
    with torch.inference_mode():
        resized = torch.cat([RESIZES["clean-fid"](tensor(picture)) for picture in pictures])
        expected = published.layers((resized - 128) / 128).numpy()
    assert close(load_features("clean-fid", tmp_path)(pictures), expected)


def tensor(picture):
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()

"""Saliency against scipy, real photographs with true masks, and ONNX files written here byte by byte."""

import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.toolkit.saliency import (
    SALIENCY,
    OnnxSaliency,
    SpectralResidual,
    agreement,
    load_saliency,
    residual,
    salient_mask,
    spectral_residual,
)

ECSSD = Path(__file__).parents[3] / "shared" / "data" / "ecssd" / "data" / "ECSSD"


@pytest.fixture
def photo():
    """Blurred noise with a bright disc, (96, 128, 3)."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3)
    return cv2.circle(image, (90, 40), 12, (250, 240, 30), -1)


# ---- spectral residual


def reference(image: np.ndarray, size: int) -> np.ndarray:
    """Hou & Zhang as printed: full spectrum, amplitude and phase apart."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)
    spectrum = np.fft.fft2(grey.astype(np.float64))
    log_amplitude, phase = np.log1p(np.abs(spectrum)), np.angle(spectrum)
    residual_spectrum = log_amplitude - ndimage.uniform_filter(log_amplitude, 3, mode="wrap")
    energy = np.abs(np.fft.ifft2(np.exp(residual_spectrum + 1j * phase))) ** 2
    smooth = ndimage.gaussian_filter(energy, 2.5, mode="mirror", truncate=4)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize("size", [32, 64])
def test_spectral_residual_is_the_printed_formula(photo, size):
    ours = spectral_residual(photo, size, small=True)
    assert ours.shape == (size, size)
    np.testing.assert_allclose(ours, reference(photo, size), atol=5e-3)


def test_spectral_residual_fills_the_range_at_the_size_of_the_picture(photo):
    saliency = SpectralResidual()(photo)
    assert saliency.shape == photo.shape[:2]
    assert saliency.dtype == np.float32
    assert 0 <= saliency.min() < 0.01
    assert 0.9 < saliency.max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (64, 64)])
def test_a_constant_picture_has_no_saliency(shape):
    assert not spectral_residual(np.full((*shape, 3), 77, np.uint8)).any()


def test_an_odd_size_is_refused(photo):
    with pytest.raises(UsageError, match="even saliency size of at least 8 px, got 63"):
        spectral_residual(photo, 63)


def ecssd() -> list[tuple[np.ndarray, np.ndarray]]:
    if not ECSSD.is_dir():
        pytest.skip("ECSSD photographs are not here (../shared/data/ecssd)")
    pairs = []
    for mask in sorted(ECSSD.glob("ground_truth_mask/*.png")):
        (image,) = ECSSD.glob(f"*/{mask.stem}.jpg")
        pairs.append((cv2.imread(str(image))[..., ::-1].copy(), cv2.imread(str(mask), 0) > 127))
    return pairs


def test_spectral_residual_finds_the_salient_objects_of_ecssd():
    scores = np.array([agreement(spectral_residual(image), mask) for image, mask in ecssd()])
    small = np.array([agreement(spectral_residual(image, small=True), mask) for image, mask in ecssd()])
    assert scores[:, 1].mean() > 0.6
    assert (scores[:, 1] > 0.5).mean() > 0.8
    np.testing.assert_allclose(small[:, 1], scores[:, 1], atol=0.05)


# ---- masks and scores


def test_salient_mask_thresholds_strictly():
    saliency = np.array([[0.0, 0.1, 0.2, 1.0]], np.float32)
    assert salient_mask(saliency, 0.15).tolist() == [[False, False, True, True]]
    assert salient_mask(saliency).tolist() == [[False, False, False, True]], "twice the mean is 0.65"
    assert not salient_mask(np.zeros((3, 3), np.float32)).any()
    assert salient_mask(np.ones((3, 3), np.float32)).all(), "the threshold stays below 1"


def test_agreement_is_iou_and_contrast():
    saliency = np.zeros((4, 4), np.float32)
    saliency[:2, :2] = 0.8
    saliency[2:, :] = 0.2
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    iou, contrast = agreement(saliency, mask, threshold=0.5)
    assert iou == pytest.approx(4 / 8)
    assert contrast == pytest.approx(0.4 / (0.4 + 0.2))
    assert residual(saliency, mask) == pytest.approx(contrast)


@pytest.mark.parametrize("fill", [False, True])
def test_nothing_to_compare_is_indifferent(fill):
    rng = np.random.default_rng(1)
    mask = np.full((8, 8), fill)
    assert agreement(rng.random((8, 8), np.float32), mask)[1] == 0.5
    assert residual(np.zeros((8, 8), np.float32), mask) == 0.5
    assert residual(np.zeros((8, 8), np.float32), np.eye(8, dtype=bool)) == 0.5
    assert agreement(np.zeros((8, 8), np.float32), mask)[0] == (0.0 if fill else 1.0)


def test_perfect_and_opposite_masks():
    mask = np.zeros((32, 32), bool)
    mask[4:12, 4:12] = True
    assert agreement(mask.astype(np.float32), mask, 0.5) == (1.0, 1.0)
    assert agreement(mask.astype(np.float32), ~mask, 0.5) == (0.0, 0.0)


def test_a_map_larger_than_the_mask_is_refused():
    with pytest.raises(UsageError, match=r"no larger than the mask \(4, 4\), got \(8, 8\)"):
        residual(np.zeros((8, 8), np.float32), np.zeros((4, 4), bool))


# ---- ONNX


def field(number: int, payload: bytes | str | int) -> bytes:
    """One protobuf field: length-delimited, or a varint below 128."""
    if isinstance(payload, int):
        return bytes([number << 3, payload])
    data = payload.encode() if isinstance(payload, str) else payload
    length = bytes([len(data) & 127 | 128, len(data) >> 7]) if len(data) > 127 else bytes([len(data)])
    return bytes([number << 3 | 2]) + length + data


def tensor(name: str, *shape: int | str) -> bytes:
    dims = b"".join(field(1, field(1, s) if isinstance(s, int) else field(2, s)) for s in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def red_channel_model(path: Path, gain: float, offset: float) -> Path:
    """Write the ONNX model ``gain * red + offset`` (a 1x1 convolution), opset 13."""
    kernel = struct.pack("<4f", gain, 0, 0, 0)[:12]
    weight = b"".join(field(1, d) for d in (1, 3, 1, 1)) + field(2, 1) + field(8, "w") + field(9, kernel)
    bias = field(1, 1) + field(2, 1) + field(8, "b") + field(9, struct.pack("<f", offset))
    node = b"".join(field(1, i) for i in ("x", "w", "b")) + field(2, "y") + field(4, "Conv")
    graph = field(1, node) + field(2, "g") + field(5, weight) + field(5, bias)
    graph += field(11, tensor("x", 1, 3, "h", "w2")) + field(12, tensor("y", 1, 1, "h", "w2"))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (layerkit[onnx])")


@pytest.mark.usefixtures("onnx")
def test_logits_pass_a_sigmoid_after_imagenet_normalisation(tmp_path):
    model = OnnxSaliency(red_channel_model(tmp_path / "m.onnx", 2.0, -0.5), "mine", side=32, logits=True)
    for red in (0, 90, 255):
        image = np.full((20, 50, 3), (red, 7, 200), np.uint8)
        expected = 1 / (1 + np.exp(0.5 - 2 * (red / 255 - 0.485) / 0.229))
        np.testing.assert_allclose(model(image), np.full((20, 50), expected), atol=1e-5)


@pytest.mark.usefixtures("onnx")
def test_u2net_is_stretched_and_min_max_normalised(tmp_path):
    red_channel_model(tmp_path / "u2net.onnx", 3.0, 1.0)
    model = load_saliency("u2net", tmp_path)
    image = np.zeros((320, 320, 3), np.uint8)
    image[:, 160:] = (100, 0, 0)
    image[:, 240:] = (25, 0, 0)
    expected = image[..., 0] / 100
    np.testing.assert_allclose(model(image), expected, atol=1e-6)
    assert model.name == "u2net"
    assert model.revision.startswith("sha256:")
    assert not model(np.zeros((5, 5, 3), np.uint8)).any()


@pytest.mark.usefixtures("onnx")
def test_birefnet_comes_back_at_the_size_of_the_picture(tmp_path):
    red_channel_model(tmp_path / "birefnet.onnx", 1.0, 0.0)
    saliency = load_saliency("birefnet", tmp_path)(np.full((30, 44, 3), 255, np.uint8))
    assert saliency.shape == (30, 44)
    assert saliency.dtype == np.float32


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_broken_model_file_is_named(tmp_path, content):
    (tmp_path / "u2net.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"expected an ONNX model, but .*u2net\.onnx"):
        load_saliency("u2net", tmp_path)


def test_missing_runtime_and_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match=r"hf download .*BiRefNet-ONNX onnx/model\.onnx"):
        load_saliency("birefnet")
    (tmp_path / "u2net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'layerkit\[onnx\]'"):
        load_saliency("u2net", tmp_path)


def test_names():
    assert list(SALIENCY) == ["spectral", "birefnet", "u2net"]
    assert load_saliency("spectral").name == "spectral"
    with pytest.raises(UsageError, match=r"spectral, birefnet, u2net.*got 'icon'"):
        load_saliency("icon")

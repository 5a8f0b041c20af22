"""One thread a process, a cache outside the home folder, and the folder of shared sample data."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Set before numpy, cv2, numba or torch is imported, and inherited by the subprocesses of a test.
for _variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"

# A shell lets what it starts in the background ignore Ctrl-C, and so would every command that a test starts and ends.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of the whole session, so that no test reads or writes the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Sample data that lies beside the checkout and is no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the sample data folder ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def judge_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``--weights`` folder with a tiny random EfficientNet of 64 px, saved as the Hub has it: with its classifier."""
    import torch
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    torch.manual_seed(0)
    size = {"image_size": 64, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}
    network = EfficientNetForImageClassification(EfficientNetConfig(**size, initializer_range=0.5)).train()
    with torch.no_grad():  # fills the statistics of its batch norms, without which a random network's output vanishes
        network(torch.randn(16, 3, 64, 64))
    folder = tmp_path_factory.mktemp("judge-weights")
    network.save_pretrained(folder / "efficientnet-b0")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

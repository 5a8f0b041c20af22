"""Pictures to compare, and Inception's state dict with random weights of a sensible size."""

import numpy as np
import pytest
from skimage import data


@pytest.fixture(scope="session")
def photo():
    """(96, 112, 3) of a photograph."""
    return np.ascontiguousarray(data.astronaut()[40:136, 160:272])


@pytest.fixture(scope="session")
def noisy(photo):
    noise = np.random.default_rng(0).integers(-25, 26, photo.shape)
    return np.clip(photo.astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def disc(photo):
    """A bool mask of the photograph's size."""
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]]
    return np.hypot(rows - 40, columns - 60) < 25


@pytest.fixture(scope="session")
def inception_state():
    """FID's Inception, random: convolutions that keep the variance, batch normalisations that shift and scale."""
    import torch
    from torchvision.models import inception_v3

    random = torch.Generator().manual_seed(0)
    shapes = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008).state_dict()
    return {name: random_layer(name, value, random) for name, value in shapes.items()}


def random_layer(name, value, random):
    import torch

    if value.ndim > 1:
        return torch.randn(value.shape, generator=random) * (2 / value[0].numel()) ** 0.5
    if name.endswith(("bn.weight", "running_var")):
        return 0.5 + torch.rand(value.shape, generator=random)
    return torch.zeros_like(value) if value.ndim == 0 else 0.1 * torch.randn(value.shape, generator=random)

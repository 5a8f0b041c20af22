"""The Inception networks behind FID, KID and the IDS, from weights files; each gives feature vectors by their width.

The network of FID is not torchvision's: Google's of 2015 averages without its padding, and takes a maximum in its last
block. Nothing is downloaded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...manifests.errors import UsageError
from ...manifests.weights import locate

if TYPE_CHECKING:
    import torch

    Network = Callable[[torch.Tensor], dict[int, torch.Tensor]]

NETWORKS = ("inception-torchscript", "inception-fid", "inception-imagenet")
"""Names of weights: NVIDIA's TorchScript, the same network as a state dict, and torchvision's of ImageNet."""


_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # mean and standard deviation of each channel


def load_inception(name: str, weights: Path | None = None) -> "Network":
    """The network called ``name`` (see ``NETWORKS``) with its published weights, in evaluation mode on the CPU.

    It takes (B, 3, 299, 299) in 0..255, float32, and returns ``{2048: (B, 2048)}``; ``inception-fid`` adds ``64``.

    Raises:
        UsageError: another name, or a file of another sha256.
        MissingWeights: the file is not on this machine; says how to get it.
    """
    if name not in NETWORKS:
        raise UsageError(f"expected an Inception network ({', '.join(NETWORKS)}), got {name!r}")
    import torch

    path = locate(name, weights)
    if name == "inception-torchscript":
        module: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        return scripted(module.eval())
    state = torch.load(path, map_location="cpu", weights_only=True)
    return fid_inception(state) if name == "inception-fid" else imagenet_inception(state)


def scripted(module: Any) -> "Network":
    """A network from a TorchScript module as NVIDIA published it: ``module.layers`` gives final-pool features."""
    import torch

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = module.layers

        def forward(self, pictures: torch.Tensor) -> dict[int, torch.Tensor]:
            return {2048: self.layers((pictures - 128) / 128).flatten(1)}

    return Scripted()


def fid_inception(state: dict[str, Any] | None = None) -> "Network":
    """FID's Inception from a state dict of pytorch-fid or torch-fidelity; None leaves it random, for tests.

    ``64`` are the features after the first max-pooling and ``2048`` those after the final pooling, both averaged over
    the picture: LayerFusion's table takes its FID from the former.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    class FidInception(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = _fid_blocks(state)
            self.first, self.second = blocks[:4], blocks[4:]

        def forward(self, pictures: torch.Tensor) -> dict[int, torch.Tensor]:
            early = self.first((pictures - 128) / 128)
            late = self.second(early)
            return {width: adaptive_avg_pool2d(x, 1).flatten(1) for width, x in ((64, early), (2048, late))}

    return _fused(FidInception().eval())


def imagenet_inception(state: dict[str, Any] | None = None) -> "Network":
    """Inception-v3 of torchvision with its ImageNet normalisation, as ASUKA's script scores; None leaves it random."""
    import torch
    from torchvision.models import inception_v3
    from torchvision.transforms.functional import normalize

    class ImageNetInception(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = inception_v3(weights=None, init_weights=False, transform_input=True)
            if state is not None:
                self.body.load_state_dict(state)
            self.body.fc = torch.nn.Identity()

        def forward(self, pictures: torch.Tensor) -> dict[int, torch.Tensor]:
            return {2048: self.body(normalize(pictures / 255, *_IMAGENET))}

    return _fused(ImageNetInception().eval())


def _fid_blocks(state: dict[str, Any] | None) -> Any:
    """The layers in order as one Sequential, random or with the weights of ``state``."""
    import torch
    from cleanfid import inception_pytorch as blocks
    from torchvision.models import inception_v3

    net = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008)
    for name, channels in (("5b", 192), ("5c", 256), ("5d", 288)):
        setattr(net, f"Mixed_{name}", blocks.FIDInceptionA(channels, pool_features=32 if name == "5b" else 64))
    for name, channels in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(net, f"Mixed_{name}", blocks.FIDInceptionC(768, channels_7x7=channels))
    net.Mixed_7b, net.Mixed_7c = blocks.FIDInceptionE_1(1280), blocks.FIDInceptionE_2(2048)
    if state is not None:
        net.load_state_dict(state)
    return torch.nn.Sequential(
        *[layer for name, layer in net.named_children() if name not in ("avgpool", "dropout", "fc")]
    )


def _fused(module: Any) -> "Network":
    """Fold every batch normalisation into the convolution before it, which changes features by rounding alone."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torchvision.models.inception import BasicConv2d

    for block in [part for part in module.modules() if isinstance(part, BasicConv2d)]:
        block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), torch.nn.Identity()
    network: Network = module.to(memory_format=torch.channels_last)
    return network

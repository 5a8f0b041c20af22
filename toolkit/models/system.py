"""What a published system offers to whoever trains it, and to whoever uses what was trained.

Pictures are float32 tensors in 0..1, channel-first, alpha straight.
"""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..files import write_atomically
from .runs import WEIGHTS
from .tensor_files import check_tensors, read_tensors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triplets:
    """What a training step sees, all of one size and on one device.

    Attributes:
        image: the composite, (N, 3, H, W).
        foreground: the object with its effects, (N, 4, H, W); of any content where ``has_foreground`` is False.
        background: (N, 3, H, W).
        mask: of the visible object, perhaps imperfect, 0 or 1, (N, 1, H, W).
        has_foreground: (N,), bool; False for a pair of photographs with and without the object.
        captions: N texts of the pictures, each perhaps empty; none where nothing that looks at them is trained.
    """

    image: Tensor
    foreground: Tensor
    background: Tensor
    mask: Tensor
    has_foreground: Tensor
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """What a system makes of pictures, in 0..1; None is what it does not make.

    Attributes:
        background: (N, 3, H, W).
        foreground: (N, 4, H, W).
    """

    background: Tensor | None = None
    foreground: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a system is made from, beside its options.

    Attributes:
        base: a pre-trained model that it stands on or begins with: a folder, or a name in the hub cache; or empty.
        weights: the folder given by ``--weights``, looked into before the hub cache.
        run: folder of a trained run, whose weights are filled in by :meth:`System.restore`: what they replace need not
            be read from ``base``. None where training begins.
        meta: make it without memory, on torch's meta device, to count parameters and operations; published bases are
            then known by their configurations, without their weights.
    """

    base: str = ""
    weights: Path | None = None
    run: Path | None = None
    meta: bool = False


class System(nn.Module):
    """The networks of a system, frozen and trained, with its losses and its inference.

    What requires a gradient is what is trained: those parameters alone are optimised, averaged, saved and restored.
    The pass forward *is* the training step up to the losses, so that whatever wraps a module (DDP, FSDP) wraps all of
    it.

    Attributes:
        multiple: sides of pictures must be multiples of this, px.
        effects: whether the foregrounds that it is trained on hold their shadows; None where it does not matter.
        generates: whether what it predicts is drawn from the captions alone: there is then no truth to compare it with,
            and its losses on held-out samples are what is validated.
        tasks: of one that was taught several: names of its methods, from image, mask and generator to pictures
            (N, 3, H, W) in 0..1. Those of :meth:`decompose` alone have none.
    """

    multiple: int = 1
    effects: bool | None = None
    generates: bool = False
    tasks: tuple[str, ...] = ()

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """Losses of one step, scalars by name; ``loss`` is what to minimise.

        Args:
            batch: sides must be multiples of ``multiple``.
            generator: of the CPU, for every random choice, so that a seed gives the same on every device.
            step: optimiser steps done so far.
        """
        raise NotImplementedError

    def predict(self, batch: Triplets, generator: torch.Generator) -> Predicted:
        """What it makes of a batch, without gradients.

        A decomposer looks at ``image`` and ``mask`` alone, a generator at ``captions``.
        """
        background, foreground = self.decompose(batch.image, batch.mask, generator)
        return Predicted(background=background, foreground=foreground)

    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Take pictures apart.

        Args:
            image: (N, 3, H, W), sides multiples of ``multiple``.
            mask: (N, 1, H, W), 0 or 1.
            generator: see :meth:`forward`.

        Returns:
            The background (N, 3, H, W) and the foreground (N, 4, H, W), in 0..1; None where there is none.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write what was trained, as ``weights.safetensors``; what was not stays with its base."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state().items()}
        write_atomically(folder / WEIGHTS, safetensors.torch.save(tensors))

    def restore(self, folder: Path) -> None:
        """Fill in what :meth:`save` wrote.

        Raises:
            UsageError: it is missing, or of another system or other sizes.
        """
        tensors, state = read_tensors(folder / WEIGHTS), self.state()
        check_tensors(folder / WEIGHTS, tensors, self, names=state)
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(tensors[name])

    def state(self) -> dict[str, Tensor]:
        """What is saved, restored and resumed, by name: what is trained, and statistics that training gathers."""
        return dict(self.trained())

    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


class TaskOf(System):
    """A system seen by one of its other tasks, such as ``complete``: whoever asks for a background gets its result.

    Args:
        system: to see.
        task: one of its ``tasks``.
    """

    def __init__(self, system: System, task: str) -> None:
        super().__init__()
        self.system, self.task, self.multiple = system, task, system.multiple

    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """See :meth:`System.decompose`; there is no foreground."""
        return getattr(self.system, self.task)(image, mask, generator), None

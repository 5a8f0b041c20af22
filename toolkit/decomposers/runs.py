"""A run of ``layerkit train`` as a decomposer: pictures of any size through the system that it trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...manifests.errors import UsageError
from ..compose import over_u8
from ..decomposition import U8, Bool, Decomposition, Traits
from ..models.runs import revision_of_run
from ..suites.moves import Move, placed

if TYPE_CHECKING:
    from ..models.inference import Fit

Way = Literal["resize", "tile"]
Keep = Literal["none", "mask", "alpha"]
Task = Literal["remove", "complete", "harmonise"]
"""What is done under the mask: the object goes away, goes on, or is brought in harmony with what is around it."""


@dataclass(frozen=True, kw_only=True)
class Run(Traits):
    """A trained system, and how pictures are fitted to it; made by :func:`load_run_decomposer`."""

    system: Any
    fit: "Fit"

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """See :class:`~layerkit.toolkit.decomposition.Decomposer`."""
        from ..models.inference import decompose_picture

        return decompose_picture(self.system, image, mask, generator, self.fit)


@dataclass(frozen=True, kw_only=True)
class Repositioner(Run):
    """A run that harmonises as well as it removes, as one of ``seele``: it moves a subject by itself."""

    def reposition(self, image: U8, mask: Bool, move: Move, generator: np.random.Generator) -> U8:
        """The picture with the subject at its new place, in harmony with what is there, 8-bit (H, W, 3)."""
        from ..models.inference import decompose_picture
        from ..models.system import TaskOf

        made = self(image, mask, generator)
        subject = placed(made, image, mask, move)
        picture, there = over_u8(subject, made.background), subject[..., 3] > 0
        return decompose_picture(TaskOf(self.system, "harmonise"), picture, there, generator, self.fit).background


def load_run_decomposer(
    folder: Path,
    *,
    name: str,
    weights: Path | None = None,
    base: str = "",
    device: str | None = None,
    way: Way = "resize",
    keep: Keep = "none",
    task: Task = "remove",
) -> Run:
    """Load a run.

    Args:
        folder: of the run.
        name: what it was asked for by.
        weights: the folder given by ``--weights``.
        base: another base than it was trained on, where it stands on one.
        device: None = CUDA where there is one, else the CPU.
        way: see ``inference.Fit``.
        keep: see ``inference.Fit``.
        task: what it is asked for, of ``System.tasks``; a system without any paints as it takes apart.

    Raises:
        UsageError: the folder is no such run, its system takes nothing apart, or it did not learn the task.
        MissingWeights: its base is not on this machine.
    """
    from ..diffusers_folders import placement
    from ..models.inference import Fit
    from ..models.registry import SYSTEMS, load_run
    from ..models.system import TaskOf

    system, table = load_run(folder, base, weights)
    if not SYSTEMS[table["system"]].decomposes:
        raise UsageError(f"--model: expected a system that takes pictures apart, got {table['system']} in {folder}")
    _expect_task(task, system.tasks, f"{table['system']} in {folder}")
    kind = Repositioner if task == "remove" and "harmonise" in system.tasks else Run
    if task != "remove" and system.tasks:
        system = TaskOf(system, task)
    side = int(table["data"]["size"])
    return kind(
        name=name,
        revision=revision_of_run(folder, table, base),
        licence="unknown",
        native=side,
        system=system.to(placement(device)[0]),
        fit=Fit(side=side, way=way, keep=keep),
    )


def _expect_task(task: Task, learnt: tuple[str, ...], run: str) -> None:
    """A system that was taught no tasks removes, and paints whatever is masked."""
    if task == "harmonise" and not learnt:
        raise UsageError(f"--harmonise: expected a run that harmonises, as of seele, got {run}")
    if learnt and task not in learnt:
        raise UsageError(f"expected a run that learnt to {task}, got one that learnt to {', '.join(learnt)}: {run}")

"""A run of ``layerkit train`` as a generator: a text and a seed through the system that it trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError
from ...manifests.prompts import Prompt
from ..generation import Generation
from ..models.runs import revision_of_run
from .options import Options


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained system and the size that it draws at; made by :func:`load_run_generator`.

    Attributes:
        name: what it was asked for by.
        revision: of its weights and options.
        size: height and width, px.
        system: a ``System`` that generates.
        licence: of its weights.
        has_background: it draws one.
    """

    name: str
    revision: str
    size: tuple[int, int]
    system: Any
    licence: str = "unknown"
    has_background: bool = True

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        """See :class:`~layerkit.toolkit.generation.Generator`.

        Raises:
            RunError: the system gave values that are not finite.
        """
        import torch

        from ..models.inference import pictures

        made = self.system.generate(
            [one.prompt for one in prompts],
            [torch.Generator().manual_seed(seed) for seed in seeds],
            self.size,
            [one.negative for one in prompts],
        )
        return [
            Generation(*layers) for layers in zip(pictures(made.foreground), pictures(made.background), strict=True)
        ]


def load_run_generator(folder: Path, options: Options, *, name: str) -> Run:
    """Load a run.

    Args:
        folder: of the run.
        options: what it is told.
        name: what it was asked for by.

    Raises:
        UsageError: the folder is no such run, its system draws nothing, or it cannot draw at this size.
        MissingWeights: its base is not on this machine.
    """
    from ..diffusers_folders import placement
    from ..models.registry import SYSTEMS, load_run

    system, table = load_run(folder, options.base, options.weights)
    if not SYSTEMS[table["system"]].generates:
        raise UsageError(f"--model: expected a system that draws layers from text, got {table['system']} in {folder}")
    asked = {"steps": options.steps, "guidance": options.guidance}
    told: Any = system
    told.options = replace(told.options, **{key: value for key, value in asked.items() if value is not None})
    size = options.size or (int(table["data"]["size"]),) * 2
    if any(side % system.multiple for side in size):
        raise UsageError(f"--size: expected a multiple of {system.multiple} px, got {size[1]}x{size[0]}")
    changed = "".join(f" {key} {value}" for key, value in asked.items() if value is not None)
    return Run(
        name=name,
        revision=revision_of_run(folder, table, options.base) + changed,
        size=size,
        system=told.to(placement(options.device)[0]),
    )

"""What a generator may be told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...manifests.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a generator may be told; None is as it was trained or published.

    Attributes:
        weights: the folder given by ``--weights``, looked into before the hub cache.
        size: height and width, px.
        steps: of sampling.
        guidance: scale of classifier-free guidance.
        base: of a run: another one than it was trained on; empty is that one.
        device: None = CUDA where there is one, else the CPU.
        settings: of the generator's own options, by name; of ``layerfusion`` those of ``FusionOptions``.
    """

    weights: Path | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    base: str = ""
    device: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What decides the pictures beside model, text and seed, as far as it was told, for JSON."""
        size = f"{self.size[1]}x{self.size[0]}" if self.size else None
        told = {"size": size, "steps": self.steps, "guidance": self.guidance, **self.settings}
        numbers = {name: str(value) for name, value in told.items() if value == math.inf}  # which JSON does not know
        return {name: value for name, value in (told | numbers).items() if value is not None}

    def drawing(self) -> dict[str, Any]:
        """Size as (width, height), steps and guidance, those that are told, as the SDXL generators take them."""
        size = self.size and self.size[::-1]
        told = {"size": size, "steps": self.steps, "guidance": self.guidance}
        return {name: value for name, value in told.items() if value is not None}

    def __post_init__(self) -> None:
        for name in ("steps", "guidance"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < math.inf:
                raise UsageError(f"--{name}: expected 1 or more, got {value}")

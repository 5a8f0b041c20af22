"""What a run would be: its options, what it trains, and the memory and the operations of a step, without doing any.

The system is made on torch's meta device, where tensors have shapes and no numbers, and goes forward and back once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ...manifests.errors import UsageError
from ...toolkit.models.system import Origin, System, Triplets
from ..lock import to_toml
from .config import TrainConfig
from .trainer import made_system

_ADAM = 2  # moments of AdamW, each as large as what is trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What :func:`plan` finds; sizes are bytes.

    Attributes:
        config: every option.
        trained: number of parameters.
        frozen: number of parameters.
        parts: trained parameters by the part of the system that they belong to.
        weights: of all parameters, with the averaged ones.
        optimiser: gradients and moments.
        activations: what the backward pass of ``micro`` samples keeps, in the precision of the parameters: with
            ``bf16`` it is about half of that.
        flops: of one step of the whole batch, forward and back, a multiplication and an addition counted as two.
    """

    config: dict[str, Any]
    trained: int
    frozen: int
    parts: dict[str, int]
    weights: int
    optimiser: int
    activations: int
    flops: int

    def describe(self, run: Path) -> str:
        """The plan in words; ``run`` is where it would be."""
        parts = ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in self.parts.items())
        total = self.weights + self.optimiser + self.activations
        return (
            f"{to_toml(self.config)}\n"
            f"trained      {self.trained / 1e6:,.1f} M parameters: {parts}\n"
            f"frozen       {self.frozen / 1e6:,.1f} M parameters\n"
            f"memory       {total / 2**30:.2f} GiB a process: weights {self.weights / 2**30:.2f}, "
            f"gradients and moments {self.optimiser / 2**30:.2f}, activations {self.activations / 2**30:.2f}\n"
            f"a step       {self.flops / 1e12:,.3f} TFLOP for {self.config['batch']} samples, forward and back"
        )


def plan(config: TrainConfig, weights: Path | None = None) -> Plan:
    """Count what a run would train, and what a step of it would take.

    Raises:
        UsageError: the options do not fit one another.
    """
    with torch.device("meta"):
        config, system = made_system(config, Origin(base=config.base, weights=weights, meta=True))
    system.to("meta")
    if config.data.size % system.multiple:
        raise UsageError(
            f"data.size: expected a multiple of {system.multiple} for these networks, got {config.data.size}"
        )
    trained = system.trained()
    parts: dict[str, int] = {}
    for name, parameter in trained.items():
        part = _part(name)
        parts[part] = parts.get(part, 0) + parameter.numel()
    held = sum(p.numel() * p.element_size() for p in system.parameters())
    learnt = sum(p.numel() * p.element_size() for p in trained.values())
    activations, flops = _step(system, config)
    return Plan(
        config=config.table(),
        trained=sum(parts.values()),
        frozen=sum(p.numel() for p in system.parameters()) - sum(parts.values()),
        parts=parts,
        weights=held + learnt * bool(config.ema),
        optimiser=learnt * (1 + _ADAM),
        activations=activations,
        flops=flops * (config.batch // config.micro),
    )


def _part(name: str) -> str:
    """What a parameter belongs to: the adapters, or the module that it is in, two levels deep."""
    return "LoRA" if "lora_" in name else ".".join(name.split(".")[:2])


def _step(system: System, config: TrainConfig) -> tuple[int, int]:
    """Bytes that the backward pass of ``micro`` samples needs kept, and operations of both passes."""
    kept: dict[int, int] = {}
    known = {id(parameter) for parameter in system.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in known and id(tensor._base) not in known:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = system(_batch(config), torch.Generator(), 0)
        losses["loss"].backward()
    return sum(kept.values()), int(counter.get_total_flops())


def _batch(config: TrainConfig) -> Triplets:
    channels = {"image": 3, "foreground": 4, "background": 3, "mask": 1}
    size = config.data.size
    layers = {name: torch.zeros(config.micro, count, size, size, device="meta") for name, count in channels.items()}
    known = torch.ones(config.micro, dtype=torch.bool, device="meta")
    return Triplets(**layers, has_foreground=known, captions=("a picture",) * config.micro)

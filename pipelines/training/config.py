"""What a training run is: its options as frozen dataclasses, read from a training recipe."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ...manifests import schema, trainings
from ...manifests.errors import UsageError
from ...toolkit.models import registry
from ..filters import SCORES
from .sample import View

_MAY_CHANGE = (
    *("steps", "micro", "checkpointing", "compile", "workers", "about"),
    *("save_every", "keep", "validate_every", "validate_on"),
)
"""Options in which a resumed run may differ from its checkpoint; ``steps`` only if the rate does not depend on it."""

_LEAST = dict.fromkeys(("steps", "batch", "micro", "save_every", "keep"), 1) | dict.fromkeys(
    ("warmup", "weight_decay", "clip", "workers", "validate_every", "validate_on"), 0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """What a run is trained on.

    Attributes:
        size: side of the samples, px.
        compose: share of the samples that are composed while training, from the pools of the build; the rest is read
            from its shards.
        pairs: share of the samples that are photographs with and without an object, of ``--pairs``.
        crop: see :class:`~.sample.View`.
        flip: see :class:`~.sample.View`.
        masks: see :class:`~.sample.View`.
        effects: see :class:`~.sample.View`; False is LayerDecomp's ablation ``v1``.
        amodal: see :class:`~.sample.View`.
        without: sources whose foregrounds are left out.
        scores: limits of scores in the builds' records, (lowest, highest) by the filter's name: a sample of the shards
            whose score was measured and lies outside is left out, so that one build serves with and without a filter.
        held_out: share of the samples that are held out of a build without a split ``val``, by a hash of their keys:
            they share pictures with those trained on.
    """

    size: int
    compose: float = 0.0
    pairs: float = 0.0
    crop: bool = True
    flip: float = 0.5
    masks: Mapping[str, float] = field(default_factory=lambda: {"tight": 1.0})
    effects: bool = True
    amodal: bool = False
    without: tuple[str, ...] = ()
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if unknown := [name for name in self.scores if name not in SCORES]:
            raise UsageError(f"scores: expected names of {', '.join(SCORES)}, got {', '.join(unknown)}")
        if min(self.compose, self.pairs) < 0 or self.compose + self.pairs > 1:
            raise UsageError(
                f"compose and pairs: expected shares that sum to 1 at most, got {self.compose}, {self.pairs}"
            )
        if not 0 <= self.held_out < 1:
            raise UsageError(f"held_out: expected a share in 0..1, got {self.held_out}")
        self.view()

    def view(self) -> View:
        """How the samples that are trained on are looked at."""
        return View(
            size=self.size,
            crop=self.crop,
            flip=self.flip,
            masks=self.masks,
            effects=self.effects,
            amodal=self.amodal,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run, whole.

    Attributes:
        system: name in ``registry.SYSTEMS``.
        about: what it is, in a few words.
        base: pre-trained model that the system stands on or begins with; see ``Origin``.
        seed: of the initial weights, the data and all noise.
        steps: of the optimiser.
        batch: samples of one step, over all processes.
        micro: samples that one process holds at a time; ``batch`` is gathered from as many as it takes.
        lr: highest learning rate.
        warmup: steps over which the rate rises from 0.
        schedule: how it falls afterwards: not at all, or to 0 at the last step.
        betas: of AdamW.
        weight_decay: of AdamW; 0 makes it Adam.
        clip: largest norm of the gradient; 0 leaves it.
        ema: decay of the averaged weights, which are then what is validated and saved; 0 has none.
        precision: of the passes: ``no`` is float32.
        checkpointing: recompute activations in the backward pass.
        compile: compile the trained networks' passes forward; the RGBA VAE, which is called as encoder and decoder, has
            none, and stays as it is.
        workers: threads that read ahead, in each process.
        save_every: steps from one checkpoint to the next.
        keep: checkpoints that are kept.
        validate_every: steps from one validation, with its pictures, to the next; 0 has none but the last.
        validate_on: held-out samples that it sees.
        data: see :class:`DataOptions`.
        model: the system's own options, see ``registry.SYSTEMS``.
    """

    system: str
    about: str = ""
    base: str = ""
    seed: int = 0
    steps: int
    batch: int
    micro: int
    lr: float
    warmup: int = 0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpointing: bool = False
    compile: bool = False
    workers: int = 2
    save_every: int = 1000
    keep: int = 2
    validate_every: int = 1000
    validate_on: int = 16
    data: DataOptions
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise UsageError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if self.batch % self.micro:
            raise UsageError(f"batch: expected a multiple of micro ({self.micro}), got {self.batch}")
        if not self.lr > 0 or not 0 <= self.ema < 1:
            raise UsageError(f"expected lr above 0 and ema in 0..1, got {self.lr} and {self.ema}")

    def table(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        table: dict[str, Any] = json.loads(json.dumps({**asdict(self), "model": as_table(self.model)}))
        return table

    def rate(self, step: int) -> float:
        """Learning rate of the step after ``step`` steps."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.lr * falls[self.schedule]


def as_table(options: Any) -> dict[str, Any]:
    """A system's options, a dataclass or a table already, as a table."""
    return dict(options) if isinstance(options, Mapping) else asdict(options)


def load(name: str, presets: Iterable[str] = (), settings: Iterable[str] = (), **overrides: Any) -> TrainConfig:
    """Read a training recipe; its table ``model`` is checked by the system's own options.

    Args:
        name: a shipped recipe or a TOML file.
        presets: see :func:`~layerkit.manifests.trainings.load`.
        settings: see there.
        overrides: keys that replace the recipe's; None leaves them.

    Raises:
        UsageError: names the recipe and the key.
    """
    table = trainings.load(name, presets, settings) | {k: v for k, v in overrides.items() if v is not None}
    table.pop("run", None)  # what a run adds to its own configuration
    config = schema.parse(TrainConfig, {**table, "model": {}}, name)
    model = registry.parse_options(config.system, table.get("model", {}), f"{name}: model")
    return schema.parse(TrainConfig, {**table, "model": as_table(model)}, name)


def differences(mine: TrainConfig, theirs: Mapping[str, Any]) -> list[str]:
    """The options in which a run differs from one that it cannot continue, each with both values."""
    left, right = (_flat({k: v for k, v in t.items() if k not in _MAY_CHANGE}) for t in (mine.table(), theirs))
    found = [
        f"{k}: {right.get(k)!r} there, {left.get(k)!r} now"
        for k in sorted({*left, *right})
        if left.get(k) != right.get(k)
    ]
    if mine.schedule != "constant" and theirs.get("steps") != mine.steps:
        found.append(
            f"steps: {theirs.get('steps')} there, {mine.steps} now, and the schedule {mine.schedule} depends on it"
        )
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat

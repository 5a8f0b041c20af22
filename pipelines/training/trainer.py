"""What the loop does at every step, with ``accelerate``: gather a batch, step, average, validate, save."""

import contextlib
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from ...manifests.errors import RunError, UsageError
from ...toolkit.files import write_atomically
from ...toolkit.images import encode_png
from ...toolkit.models import registry
from ...toolkit.models.system import Origin, System
from . import checkpoints, journal, run_folder
from .checkpoints import State
from .config import TrainConfig, as_table
from .data import Batches
from .journal import Journal
from .sample import Batch
from .streams import Sources, trained_on, validated_on
from .validation import torch_generator, triplets, validate


class Trainer:
    """A system in training, and where its data stand.

    Args:
        config: the run.
        sources: of its data.
        run: its folder, which must be there.
        accelerator: of this process.
        skip_broken: leave broken shards and samples out.

    Attributes:
        config: the run, with what its base decides.

    Raises:
        UsageError, MissingWeights, ShardError: see :func:`layerkit.pipelines.train.train`.
    """

    def __init__(
        self, config: TrainConfig, sources: Sources, run: Path, accelerator: Accelerator, *, skip_broken: bool = False
    ) -> None:
        self._run, self._accelerator = run, accelerator
        self.config, self._system = made_system(config, Origin(base=config.base, weights=sources.weights))
        self._check_data()
        self._data = self._batches(sources, skip_broken)
        self._held_out = validated_on(config.data, sources, config.seed, config.validate_on, skip_broken=skip_broken)
        self._parameters = list(self._system.trained().values())
        optimiser = torch.optim.AdamW(
            self._parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
        )
        self._model, self._optimiser = accelerator.prepare(self._system, optimiser)
        self._average = self._averaged()
        checkpoints.save_trained_only(accelerator)
        counted = [
            sum(p.numel() for p in self._system.parameters() if p.requires_grad is trains) for trains in (True, False)
        ]
        self._made = run_folder.made_with(sources, *counted)

    def _batches(self, sources: Sources, skip_broken: bool) -> Batches:
        config, accelerator = self.config, self._accelerator
        world = accelerator.num_processes
        if config.batch % (config.micro * world):
            raise UsageError(
                f"batch: expected a multiple of micro times processes, {config.micro} x {world}, got {config.batch}"
            )
        stream = trained_on(config.data, sources, config.seed, skip_broken=skip_broken)
        return Batches(
            stream,
            config.micro,
            workers=config.workers,
            rank=accelerator.process_index,
            world=world,
            skip_broken=skip_broken,
        )

    def _check_data(self) -> None:
        data, multiple, effects = self.config.data, self._system.multiple, self._system.effects
        if data.size % multiple:
            raise UsageError(f"data.size: expected a multiple of {multiple} for these networks, got {data.size}")
        if effects is not None and effects != data.effects:
            wanted = str(effects).lower()
            raise UsageError(
                f"data.effects: expected {wanted} for this variant of {self.config.system}, got {not effects}; "
                f"add --set data.effects={wanted}, or take its preset"
            )

    def _averaged(self) -> EMAModel | None:
        if not self.config.ema:
            return None
        if self._accelerator.distributed_type == "FSDP":
            raise UsageError("ema: expected 0 under FSDP, whose weights lie in parts; add --set ema=0")
        average = EMAModel(self._parameters, decay=self.config.ema)
        self._accelerator.register_for_checkpointing(average)
        return average

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return bool(self._accelerator.is_main_process)

    def begin(self, *, overwrite: bool) -> None:
        """Make the run's folder, or write anew what it says of itself; ``overwrite`` deletes what is in it."""
        if self.is_main:
            run_folder.begin(self._run, self.config, self._made, overwrite=overwrite)
        self._accelerator.wait_for_everyone()

    def last_scores(self) -> dict[str, float]:
        """Of the last validation of a run that is gone on with; empty where there was none."""
        rows = journal.rows_of(self._run, journal.VALIDATION)
        return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}

    def restore(self) -> int:
        """Go on where the last checkpoint stands; the number of steps done, 0 without one.

        Raises:
            UsageError: it is of other options or other data.
        """
        found = checkpoints.latest(self._run)
        if found is None:
            return 0
        folder, state = found
        checkpoints.expect_same(self.config, state, self._run)
        self._data.resume(state.data)
        self._accelerator.load_state(str(folder))
        if self._average:
            self._average.to(self._accelerator.device)
        return state.step

    def batches(self) -> Generator[Batch, None, None]:
        """Batches of ``micro`` samples from where the data stand on."""
        yield from self._data

    def step(self, batches: Iterator[Batch], done: int) -> dict[str, float]:
        """One step of the optimiser; a row for the journal.

        Args:
            batches: see :meth:`batches`.
            done: steps done so far.

        Raises:
            RunError: the loss is no number, or memory ran out.
        """
        started = time.perf_counter()
        try:
            row = self._stepped(batches, done)
        except RuntimeError as error:
            if _ran_out_of_memory(error):
                raise RunError(self._memory_told(done)) from error
            raise
        seconds = time.perf_counter() - started
        return {"step": done + 1, **row, "images_per_s": round(self.config.batch / seconds, 2)}

    def _stepped(self, batches: Iterator[Batch], done: int) -> dict[str, float]:
        """One step; the mean losses of all processes, the norm of the gradient and the rate."""
        parts = self._gradient(batches, done)
        norm = self._accelerator.clip_grad_norm_(self._parameters, self.config.clip or float("inf"))
        row = self._reduced({**parts, "grad_norm": norm.detach().float()})
        self._expect_numbers(row, done)
        rate = self.config.rate(done)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._average:
            self._average.step(self._parameters)
        return {**row, "lr": rate}

    def _gradient(self, batches: Iterator[Batch], done: int) -> dict[str, Tensor]:
        """Gather the gradient of a whole batch; the mean losses of this process."""
        self._model.train()
        world, rank = self._accelerator.num_processes, self._accelerator.process_index
        turns = self.config.batch // (self.config.micro * world)
        sums: dict[str, Tensor] = {}
        for turn in range(turns):
            batch = triplets(next(batches), self._accelerator.device)
            generator = torch_generator(self.config.seed, "noise", done, turn * world + rank)
            apart = self._accelerator.no_sync(self._model) if turn + 1 < turns else contextlib.nullcontext()
            with apart:
                losses = self._model(batch, generator, done)
                self._accelerator.backward(losses["loss"] / turns)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach().float() / turns
        return sums

    def _reduced(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """Means over all processes, the loss first."""
        names = sorted(parts, key=lambda name: (name != "loss", name))
        values: Any = self._accelerator.reduce(torch.stack([parts[name] for name in names]), "mean")
        return dict(zip(names, values.tolist(), strict=True))

    def _expect_numbers(self, parts: dict[str, float], done: int) -> None:
        scaled = self.config.precision == "fp16"  # whose scaler skips a step where the gradient overflows
        wrong = [f"{k} {v}" for k, v in parts.items() if not (abs(v) < float("inf") or (scaled and k == "grad_norm"))]
        if wrong:
            raise RunError(
                f"step {done + 1}: expected losses that are numbers, got {', '.join(wrong)}; {_kept(self._run)}: "
                f"train anew with a lower lr (now {self.config.lr}), clip (now {self.config.clip}), or precision = 'no'"
            )

    def _memory_told(self, done: int) -> str:
        micro = self.config.micro
        less = next((k for k in range(micro // 2, 0, -1) if micro % k == 0), None)
        fewer = f"--set micro={less}, which leaves the batch as it is, or " if less else ""
        return (
            f"step {done + 1}: memory ran out with micro = {micro} samples of {self.config.data.size} px; "
            f"{_kept(self._run)}: go on with --resume {fewer}--set checkpointing=true"
        )

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The averaged weights in the place of those that are trained, where there are any."""
        if self._average is None:
            yield
            return
        self._average.store(self._parameters)
        self._average.copy_to(self._parameters)
        try:
            yield
        finally:
            self._average.restore(self._parameters)

    def validate(self, log: Journal, done: int) -> dict[str, float]:
        """Score the weights that would be saved on held-out samples, and show some; empty where there are none."""
        if not self._held_out or not self.is_main:
            return {}
        self._system.eval()
        config = self.config
        with self._averaged_weights():
            result = validate(self._system, self._held_out, config.micro, config.seed)
        log.write({"step": done, **result.scores}, journal.VALIDATION)
        log.show("samples", result.pictures, done)
        write_atomically(self._run / run_folder.SAMPLES / f"{done:06d}.png", encode_png(result.pictures))
        return dict(result.scores)

    def save(self, done: int) -> None:
        """Write a checkpoint, and what users take from the folder."""
        state = State(step=done, data=self._data.state(), config=self.config.table())
        checkpoints.save(self._accelerator, self._run, state, self.config.keep)
        self.publish(done)

    def publish(self, done: int) -> None:
        """Write the weights, the plot and the card."""
        if not self.is_main:
            return
        with self._averaged_weights():
            self._system.save(self._run)
        journal.plot(self._run)
        validations = journal.rows_of(self._run, journal.VALIDATION)
        run_folder.write_card(self._run, self.config, self._made, done, validations)


def made_system(config: TrainConfig, origin: Origin) -> tuple[TrainConfig, System]:
    """The system of a run, before it is trained, and the run's options with what its base decides.

    Raises:
        UsageError, MissingWeights: see :func:`layerkit.pipelines.train.train`.
    """
    entry = registry.find(config.system)
    options = entry.resolve(registry.parse_options(config.system, config.model), origin)
    torch.manual_seed(config.seed)
    system = entry.build(options, origin)
    for module in system.modules():  # frozen ones too: a loss may go back through a decoder
        recompute = getattr(module, "enable_gradient_checkpointing", None)
        if config.checkpointing and recompute:
            recompute()
    for child in system.children():
        if config.compile and any(parameter.requires_grad for parameter in child.parameters()):
            child.compile()
    return replace(config, model=as_table(options)), system


def _kept(run: Path) -> str:
    found = checkpoints.latest(run)
    return f"the checkpoint of step {found[1].step} stays" if found else "there is no checkpoint yet"


def _ran_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error of its own, the CPU's allocator only a text."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

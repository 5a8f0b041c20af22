"""The training loop: any system of ``toolkit.models.registry``, on the data of ``training``, into the folder of a run.

Every random choice is drawn from the seed, the step and the process, never from what was drawn before; so a run that
is broken off and resumed ends with the weights of one that was not.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from .options import Progress, Report
from .training import run_folder
from .training.config import TrainConfig
from .training.journal import Journal
from .training.streams import Sources
from .training.trainer import Trainer

_PATIENCE = timedelta(hours=6)  # the other processes wait while the first one validates


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a run ended.

    Attributes:
        steps: done in all.
        of: asked for.
        loss: of the last step; None where none was left to do.
        scores: of the last validation.
    """

    steps: int
    of: int
    loss: float | None
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def is_broken_off(self) -> bool:
        """Whether it was asked to end before its last step."""
        return self.steps < self.of

    def describe(self, run: Path) -> str:
        """The outcome in words."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
        loss = "none was left to do" if self.loss is None else f"loss {self.loss:.4g}"
        lines = [
            f"steps     {self.steps} of {self.of}, {loss}",
            f"held out  {scores or 'nothing was held out'}",
            f"run       {run}",
        ]
        if self.is_broken_off:
            lines.append("stopped; run the same command with --resume to go on")
        return "\n".join(lines)


def train(
    config: TrainConfig,
    sources: Sources,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    skip_broken: bool = False,
    report: Report | None = None,
) -> Trained:
    """Train a system, or go on where its last checkpoint stands.

    Args:
        config: the run.
        sources: where its data lie.
        run: its folder, see :mod:`.training.run_folder`.
        resume: go on in a folder that holds a run.
        overwrite: delete a run in the folder first.
        skip_broken: leave broken shards and samples out, with a line in the log.
        report: called after every step.

    Returns:
        How it ended: Ctrl-C or SIGTERM end it after the step in work, with a checkpoint.

    Raises:
        UsageError: wrong options, no data, or a checkpoint of other options.
        MissingWeights: the base is not on this machine.
        ShardError: a shard is broken.
        RunError: the loss is no number, or memory ran out; the last checkpoint stays.
    """
    accelerator = _accelerator(config)
    run_folder.expect_free(run, resume=resume, overwrite=overwrite)
    trainer = Trainer(config, sources, run, accelerator, skip_broken=skip_broken)
    done = trainer.restore() if resume else 0
    trainer.begin(overwrite=overwrite and not resume)
    loss = None
    with (
        _stop_requested(accelerator) as stopped,
        contextlib.closing(trainer.batches()) as batches,
        contextlib.closing(Journal(run, done, silent=not trainer.is_main)) as log,
    ):
        scores = trainer.last_scores()
        while done < config.steps and not stopped():
            row = trainer.step(batches, done)
            done, loss = done + 1, row["loss"]
            log.write(row)
            if report:
                report(Progress(stage="train", done=done, total=config.steps, kept=done))
            if _due(done, config.validate_every, config.steps):
                scores = trainer.validate(log, done)
            if _due(done, config.save_every, config.steps):
                trainer.save(done)
        if done < config.steps:
            trainer.save(done)
        elif loss is None:  # it may have been killed between its last checkpoint and its weights
            trainer.publish(done)
    return Trained(steps=done, of=config.steps, loss=loss, scores=scores)


def _accelerator(config: TrainConfig) -> Accelerator:
    """Without a GPU the processes of torchrun find one another only if the CPU is asked for."""
    patience = InitProcessGroupKwargs(timeout=_PATIENCE)
    on_cpu = not torch.accelerator.is_available()
    return Accelerator(mixed_precision=config.precision, cpu=on_cpu, kwargs_handlers=[patience])


def _due(done: int, every: int, last: int) -> bool:
    return done == last or (every > 0 and done % every == 0)


@contextlib.contextmanager
def _stop_requested(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Tells all processes alike whether one was asked to end by Ctrl-C or SIGTERM; a second Ctrl-C ends at once."""

    def ask(number: int, frame: Any) -> None:
        accelerator.set_trigger()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield accelerator.check_trigger
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

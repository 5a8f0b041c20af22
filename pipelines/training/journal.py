"""What a run tells while it goes: ``train.jsonl``, TensorBoard, and a plot of the losses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LOG = "train.jsonl"
VALIDATION = "validation.jsonl"
PLOT = "loss.png"

_NO_LOSS = ("step", "grad_norm", "lr", "images_per_s")

Row = Mapping[str, float]


class Journal:
    """The rows of a run, one object a step, in a file and in TensorBoard.

    Args:
        run: folder of the run.
        step: what was done after this step, by a run that was broken off, is forgotten.
        silent: write nothing: another process does.
    """

    def __init__(self, run: Path, step: int, *, silent: bool = False) -> None:
        self._silent = silent
        if silent:
            return
        from torch.utils.tensorboard import SummaryWriter

        for name in (LOG, VALIDATION):
            _forget(run / name, step)
        self._run = run
        self._files = {name: (run / name).open("a", encoding="utf-8") for name in (LOG, VALIDATION)}
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)  # from there on

    def write(self, row: Row, name: str = LOG) -> None:
        """Add a row; ``step`` is one of its keys."""
        if self._silent:
            return
        self._files[name].write(json.dumps(row) + "\n")
        self._files[name].flush()
        kind = Path(name).stem
        for key, value in row.items():
            if key != "step":
                self._board.add_scalar(f"{kind}/{key}", value, int(row["step"]))

    def show(self, name: str, picture: Any, step: int) -> None:
        """Add an 8-bit (H, W, 3) picture to TensorBoard."""
        self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Close the files."""
        if self._silent:
            return
        for file in self._files.values():
            file.close()
        self._board.close()


def rows_of(run: Path, name: str = LOG) -> list[dict[str, float]]:
    """The rows of a run; a line that was cut off at the end is left out."""
    path = run / name
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _forget(path: Path, step: int) -> None:
    """Drop the rows after a step."""
    kept = [row for row in rows_of(path.parent, path.name) if row["step"] <= step]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def plot(run: Path) -> None:
    """Draw the losses of a run over its steps, each with its running mean, on a logarithmic axis."""
    import matplotlib.pyplot as plt

    rows = rows_of(run)
    names = [name for name in (rows[0] if rows else {}) if name not in _NO_LOSS]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    steps = [row["step"] for row in rows]
    for name in names:
        values = np.array([row[name] for row in rows])
        (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        axes.plot(steps, _running_mean(values), color=line.get_color(), label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    if names:
        axes.legend()
    figure.savefig(run / PLOT, dpi=100)
    plt.close(figure)


def _running_mean(values: Any) -> Any:
    """Mean over the last twentieth of the steps so far."""
    width = max(1, len(values) // 20)
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)

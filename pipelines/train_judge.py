"""Trains the one neuron of a judge on labels, as Text2Layer does (arXiv 2307.09781, section 3).

The features of the frozen network are computed once; the neuron then is a logistic regression, fitted by full-batch
Adam from zero, in which good and bad weigh the same. Nothing is drawn at random: the held-out share is chosen by a hash
of seed and key.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from ..toolkit.judges import BASE, CONFIG, HEAD, HEURISTICS, Features, JudgeConfig, Role, role_of, sigmoid
from ..toolkit.shards import decode_layers
from .labels import KINDS, Label, evidence, read_labels, samples_of
from .ledger import write_atomically
from .lock import to_toml
from .options import Progress, Report

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

MINIMUM = 10
"""Labels below which nothing is trained."""

THRESHOLD = 0.5
"""Score from which a sample counts as good: the classes weigh the same, so it is the middle."""

_WEIGHT_DECAY = 0.01  # there are more features than labels


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeMetrics:
    """What ``metrics.json`` of a trained judge holds, all measured on the held-out labels.

    Attributes:
        n_train, n_test: labels trained on and held out.
        accuracy: share that falls on the right side of the threshold.
        balanced_accuracy: mean of the shares of good and of bad ones.
        roc_auc: probability that a good one scores above a bad one; 0.5 is chance.
        heuristic_roc_auc: the same of the heuristic that needs no labels.
    """

    n_train: int
    n_test: int
    accuracy: float
    balanced_accuracy: float
    roc_auc: float
    heuristic_roc_auc: float

    def describe(self, out: Path) -> str:
        """The metrics in words."""
        return (
            f"labels    {self.n_train} trained on, {self.n_test} held out\n"
            f"held out  AUC {self.roc_auc:.3f} (heuristic {self.heuristic_roc_auc:.3f}), "
            f"balanced accuracy {self.balanced_accuracy:.3f}\njudge     {out}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Samples:
    """What is known of the labelled samples, in one order: features (N, D), labels, heuristic scores, held out (N,)."""

    features: Float
    good: Bool
    heuristic: Float
    held_out: Bool


def train_judge(
    role: str,
    build: Path,
    labels: Path,
    out: Path,
    *,
    weights: Path | None = None,
    epochs: int = 100,
    lr: float = 0.01,
    seed: int = 0,
    test_share: float = 1 / 6,
    report: Report | None = None,
) -> JudgeMetrics:
    """Train a judge of ``role`` on the labelled samples of a build, and write it to a new folder.

    ``out`` gets ``head.safetensors``, ``train.jsonl`` (a row an epoch), ``metrics.json`` and, last, ``config.toml``.
    Samples of a build may share objects and backgrounds: the held-out ones are no other data set.

    Args:
        role: one of ``ROLES``.
        build: folder of a finished build.
        labels: the labels file; lines of another role are passed over.
        out: the judge's folder.
        weights: the folder given by ``--weights``, looked into before the hub cache.
        epochs: steps, for each sees all labels.
        lr: learning rate.
        seed: another one holds out other samples.
        test_share: of the good and of the bad labels each, held out.
        report: called as features are computed.

    Returns:
        The metrics on the held-out samples.

    Raises:
        UsageError: ``out`` exists, an unknown role, an option out of range, too few labels or of one class only, keys
            that the build does not have.
        MissingWeights: EfficientNet-b0 is not on this machine.
    """
    known = role_of(role)
    _check(out, epochs, lr, test_share)
    chosen = {label.key: label for label in read_labels(labels) if label.role == known}
    _check_labels(labels, known, list(chosen.values()))
    features = Features(weights)
    samples = _measured(known, build, chosen, features, _held_out(chosen, seed, test_share), report)
    trained = ~samples.held_out
    weight, bias, steps = fit(samples.features[trained], samples.good[trained], epochs=epochs, lr=lr)
    metrics = _metrics(samples, sigmoid(samples.features @ weight + bias))
    config = JudgeConfig(
        role=known,
        base=BASE,
        revision=features.revision,
        epochs=epochs,
        lr=lr,
        seed=seed,
        n_train=metrics.n_train,
        n_test=metrics.n_test,
        threshold=THRESHOLD,
    )
    _write(out, weight, bias, steps, metrics, config)
    return metrics


def _check(out: Path, epochs: int, lr: float, test_share: float) -> None:
    if out.exists():
        raise UsageError(f"--out: expected a folder that does not exist yet, got {out}; name another or delete it")
    if epochs < 1 or not lr > 0:
        raise UsageError(f"expected epochs of 1 or more and a learning rate above 0, got {epochs} and {lr}")
    if not 0 < test_share < 1:
        raise UsageError(f"expected a held-out share between 0 and 1, got {test_share}; a sixth is a good value")


def _check_labels(path: Path, role: Role, labels: Sequence[Label]) -> None:
    good = sum(label.label == "good" for label in labels)
    bad = len(labels) - good
    if len(labels) < MINIMUM or min(good, bad) < 2:
        raise UsageError(
            f"{path}: expected {MINIMUM} labels of {role} or more, 2 good and 2 bad ones among them, "
            f"got {good} good and {bad} bad; label more samples"
        )


def _held_out(labels: dict[str, Label], seed: int, share: float) -> set[str]:
    """Keys that are held out: of each class those with the lowest hashes, one at least and not all."""
    held: set[str] = set()
    for kind in KINDS:
        keys = sorted((key for key, label in labels.items() if label.label == kind), key=lambda key: _hash(seed, key))
        held.update(keys[: min(len(keys) - 1, max(1, round(share * len(keys))))])
    return held


def _hash(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _measured(
    role: Role, build: Path, labels: dict[str, Label], features: Features, held_out: set[str], report: Report | None
) -> _Samples:
    """Look once at every labelled sample."""
    rows = []
    for key, sample in samples_of(build, labels):
        image, mask = evidence(role, decode_layers(sample, key))
        good = labels[key].label == "good"
        rows.append((features(role, image, mask), good, HEURISTICS[role](image, mask), key in held_out))
        if report:
            report(Progress(stage="features", done=len(rows), total=len(labels), kept=len(rows)))
    columns = list(zip(*rows, strict=True))
    return _Samples(
        features=np.stack(columns[0]),
        good=np.array(columns[1], bool),
        heuristic=np.array(columns[2], np.float32),
        held_out=np.array(columns[3], bool),
    )


def fit(features: Float, good: Bool, *, epochs: int, lr: float) -> tuple[Float, float, list[dict[str, float]]]:
    """Fit a logistic regression by full-batch Adam from zero; good and bad weigh the same, whatever their numbers.

    It works on standardised features, and the standardisation is folded into the result.

    Args:
        features: float32 (N, D).
        good: bool (N,), both values among them.
        epochs: steps.
        lr: learning rate.

    Returns:
        Weight (D,) and bias of the logit of good, and a row for each epoch: step, loss, lr, accuracy.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    mean, spread = features.mean(0), np.maximum(features.std(0), 1e-6)
    inputs, target = torch.from_numpy((features - mean) / spread), torch.from_numpy(good.astype(np.float32))
    share = target.mean()
    balance = torch.where(target > 0, 0.5 / share, 0.5 / (1 - share))
    neuron = torch.nn.Linear(features.shape[1], 1)
    for parameter in neuron.parameters():
        torch.nn.init.zeros_(parameter)
    optimiser = torch.optim.AdamW(neuron.parameters(), lr=lr, weight_decay=_WEIGHT_DECAY)
    steps = []
    for epoch in range(1, epochs + 1):
        logits = neuron(inputs)[:, 0]
        loss = binary_cross_entropy_with_logits(logits, target, balance)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        accuracy = ((logits > 0) == (target > 0)).float().mean()
        steps.append({"step": epoch, "loss": loss.item(), "lr": lr, "accuracy": accuracy.item()})
    weight: Float = neuron.weight.detach().numpy()[0] / spread
    return weight, neuron.bias.item() - float(weight @ mean), steps


def _metrics(samples: _Samples, scores: Float) -> JudgeMetrics:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

    held = samples.held_out
    good, said = samples.good[held], scores[held] >= THRESHOLD
    return JudgeMetrics(
        n_train=int((~held).sum()),
        n_test=int(held.sum()),
        accuracy=float(accuracy_score(good, said)),
        balanced_accuracy=float(balanced_accuracy_score(good, said)),
        roc_auc=float(roc_auc_score(good, scores[held])),
        heuristic_roc_auc=float(roc_auc_score(good, samples.heuristic[held])),
    )


def _write(
    out: Path, weight: Float, bias: float, steps: list[dict[str, float]], metrics: JudgeMetrics, config: JudgeConfig
) -> None:
    """Write the judge's folder; ``config.toml`` last, for with it the judge can be loaded."""
    from safetensors.numpy import save

    tensors: dict[str, Any] = {"weight": weight, "bias": np.array([bias], np.float32)}
    out.mkdir(parents=True)
    write_atomically(out / HEAD, save(tensors))
    write_atomically(out / "train.jsonl", b"".join(json.dumps(step).encode() + b"\n" for step in steps))
    write_atomically(out / "metrics.json", json.dumps(asdict(metrics), indent=1).encode())
    write_atomically(out / CONFIG, to_toml(asdict(config)).encode())

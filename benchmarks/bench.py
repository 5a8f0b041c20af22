"""``layerkit bench``: run every model on every suite, and write the report in all its forms."""

from collections.abc import Sequence

from ..manifests import suites
from ..manifests.errors import MissingWeights, UsageError
from ..toolkit.suites.cases import HUMAN
from .networks import Networks
from .options import BenchOptions
from .report import Report, report_of, write_report
from .run import Outcome, Tell, run_model
from .votes import with_votes


def bench(
    models: Sequence[str], wanted: Sequence[str], options: BenchOptions, tell: Tell, *, strict: bool
) -> Report | None:
    """Score models on suites.

    Args:
        models: names as ``--model`` takes them.
        wanted: names of suites, of groups of them, or ``triplets:DIR``.
        options: where and how.
        tell: called as cases are done.
        strict: a metric that is skipped for missing weights is an error.

    Returns:
        The report; None in a process that ``accelerate launch`` started beside the one that writes it.

    Raises:
        UsageError: no such model or suite, or data that cannot be read.
        MissingWeights: with ``strict``.
    """
    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out: expected a folder, got the file {options.out}")
    chosen = suites.resolve(wanted)
    if len({suite.name for suite in chosen}) < len(chosen):
        names = ", ".join(suite.name for suite in chosen)
        raise UsageError(
            f"--suite: expected suites of different names, got {names}; score them into reports of their own"
        )
    if any(suite.generates for suite in chosen):
        _expect_masks_of_one(models, options)
    networks = Networks(options.weights, options.device)
    outcomes = [run_model(name, suite, options, tell, networks) for suite in chosen for name in dict.fromkeys(models)]
    if options.part:
        return None
    if strict:
        _require_all(outcomes)
    outcomes = with_votes(outcomes, options.out)
    report = report_of(outcomes, options)
    write_report(report, outcomes, options)
    return report


def _expect_masks_of_one(models: Sequence[str], options: BenchOptions) -> None:
    """Masks that people drew are of the pictures of one model: another drew its objects elsewhere."""
    masks = options.roots.get(HUMAN)
    if masks is None:
        return
    if not masks.is_dir():
        raise UsageError(f"--root {HUMAN}: expected a folder of masks that people drew, got {masks}")
    if len(names := dict.fromkeys(models)) > 1:
        raise UsageError(
            f"--root {HUMAN}: expected one --model, whose pictures the masks were drawn on, got {', '.join(names)}; "
            "score each with masks of its own"
        )


def _require_all(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        for metric, why in outcome.skipped.items():
            if metric == "*" or "weights" in why:
                raise MissingWeights(f"--strict: {outcome.model} on {outcome.suite.name}, {metric}: {why}")

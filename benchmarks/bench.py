"""``layerkit bench``: run every model on every suite, and write the report in all its forms."""

from collections.abc import Sequence

from ..manifests import suites
from ..manifests.errors import MissingWeights
from .report import Report, report_of, write_report
from .run import BenchOptions, Outcome, Tell, run_model


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
    chosen = suites.resolve(wanted)
    outcomes = [run_model(name, suite, options, tell) for suite in chosen for name in dict.fromkeys(models)]
    if options.part:
        return None
    if strict:
        _require_all(outcomes)
    report = report_of(outcomes, options)
    write_report(report, outcomes, options)
    return report


def _require_all(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        for metric, why in outcome.skipped.items():
            if "weights" in why:
                raise MissingWeights(f"--strict: {outcome.model} on {outcome.suite.name}, {metric}: {why}")

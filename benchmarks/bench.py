"""``layerkit bench``: run every model on every suite, and write the report in all its forms."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..manifests import suites
from ..manifests.errors import MissingWeights, UsageError
from ..manifests.recipes import load_table
from ..manifests.suites import Suite
from ..toolkit.generators import GENERATORS
from ..toolkit.models.runs import CONFIG, is_run
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
        UsageError: no such model or suite, data that cannot be read, or a model that no suite is for.
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
    _expect_known(options.roots)
    if any(suite.generates for suite in chosen):
        _expect_masks_of_one(models, options)
    networks = Networks(options.weights, options.device)
    outcomes = [
        passed_over(name, suite, chosen) or run_model(name, suite, options, tell, networks)
        for suite in chosen
        for name in dict.fromkeys(models)
    ]
    if options.part:
        return None
    if strict:
        _require_all([one for one in outcomes if not passed_over(one.model, one.suite, chosen)])
    outcomes = with_votes(outcomes, options.out)
    report = report_of(outcomes, options)
    write_report(report, outcomes, options)
    return report


def passed_over(name: str, suite: Suite, chosen: Sequence[Suite]) -> Outcome | None:
    """Why a model is not run on a suite: it is of the other kind, and another of the chosen suites is for it."""
    draws = draws_layers(name)
    if draws is None or draws == suite.generates or all(draws != other.generates for other in chosen):
        return None
    does, takes = ("draws layers from texts", "pictures") if draws else ("takes pictures apart", "texts")
    return Outcome(suite=suite, model=name, skipped={"*": f"it {does}, and {suite.name} is a suite of {takes}"})


def draws_layers(name: str) -> bool | None:
    """Whether a model draws layers from text rather than takes pictures apart; None where that is not known."""
    if name.startswith("python:"):
        return None
    folder = Path(name).expanduser()
    if not is_run(folder):
        return name in GENERATORS
    from ..toolkit.models.registry import SYSTEMS

    system = SYSTEMS.get(load_table(folder / CONFIG)["system"])
    return system.generates if system else None


def _expect_known(roots: Iterable[str]) -> None:
    known = sorted({HUMAN, *(suite.reader for suite in suites.SUITES.values())})
    if unknown := [name for name in roots if name not in known]:
        raise UsageError(f"--root: expected names of {', '.join(known)}, got {', '.join(unknown)}")


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

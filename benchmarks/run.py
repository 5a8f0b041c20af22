"""``bench``: models on suites. Each case is decoded once, predicted once, and scored by every measure in one pass."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..manifests.errors import BadImage, MissingWeights, UsageError
from ..manifests.suites import Suite
from ..toolkit.decomposers import load
from ..toolkit.decomposition import Checked, Decomposition
from ..toolkit.suites.cases import Case, Dropped, cases
from .drawing import Drawing, load_drawing
from .features_cache import FeatureCache
from .measures import Measure, parse_measure, with_pasted
from .networks import Networks
from .options import BenchOptions
from .repositioning import repositioned
from .scoring import applies, picture_pair, score, why_not
from .store import Row, Seen, Store, rng_of

Item = TypeVar("Item")

_BATCH = 8  # cases that go through a network at once
_PATIENCE = timedelta(days=7)  # a resumed run may leave all that is to be done to one process


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of a model on a suite.

    Attributes:
        suite: what it ran on.
        model: its name.
        revision, licence: of the model.
        measures: that were taken.
        skipped: measure to why it was not.
        rows: scores by case, in the order of the suite.
        dropped: cases that could not be read.
        features: measure to the cache of its vectors.
    """

    suite: Suite
    model: str
    revision: str = ""
    licence: str = ""
    measures: tuple[Measure, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    features: dict[str, FeatureCache] = field(default_factory=dict)


Tell = Callable[[str, int, int], None]
"""Called with what is at work, how many cases of it are done, and of how many; 0 where that is not known."""


def run_model(name: str, suite: Suite, options: BenchOptions, tell: Tell, networks: Networks | None = None) -> Outcome:
    """Score a model on a suite, going on where an earlier run stopped.

    Args:
        name: of the model.
        suite: what it is scored on.
        options: where and how.
        tell: called as cases are done.
        networks: of the metrics, where they are kept for the next model.

    Raises:
        UsageError: no such model, the suite's data cannot be read, or it has no case that could be scored.
        RunError: another process of this run is not through.
    """
    try:
        model = _loaded(name, suite, options)
    except MissingWeights as error:
        return Outcome(suite=suite, model=name, skipped={"*": str(error)})
    run = _Run(model, suite, options, networks or Networks(options.weights, options.device))
    if options.workers > 1:
        _run_in_processes(name, suite, options)
        return run.outcome(options.workers)
    run.go(tell)
    wait_for_all(options.of)
    return run.outcome(options.of)


def _run_in_processes(name: str, suite: Suite, options: BenchOptions) -> None:
    """Each process takes every ``workers``-th case; the scores are those of one process."""
    context = multiprocessing.get_context("spawn")
    parts = [replace(options, workers=1, part=part, of=options.workers) for part in range(options.workers)]
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        list(pool.map(_part_of, [name] * len(parts), [suite] * len(parts), parts))


def _part_of(name: str, suite: Suite, options: BenchOptions) -> None:
    import cv2

    cv2.setNumThreads(1)
    networks = Networks(options.weights, options.device)
    _Run(_loaded(name, suite, options), suite, options, networks).go(lambda what, done, total: None)


def _loaded(name: str, suite: Suite, options: BenchOptions) -> Checked | Drawing:
    if suite.generates:
        return load_drawing(name, suite, options)
    return load(
        name,
        options.weights,
        prompt=options.prompt,
        device=options.device,
        on_missing=options.on_missing,
        resize=options.resize,
    )


def wait_for_all(of: int) -> None:
    """Wait for the other processes that ``accelerate launch`` or ``torchrun`` started, if one did.

    By gloo, which needs no GPU: accelerate's own barrier does nothing in processes that it takes for single ones.
    """
    if of > 1:
        from torch import distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=_PATIENCE)
        distributed.barrier()


class _Run:
    """A model on a suite, in one process."""

    def __init__(self, model: Checked | Drawing, suite: Suite, options: BenchOptions, networks: Networks) -> None:
        self.model, self.suite, self.options, self.networks = model, suite, options, networks
        wanted = wanted_of(suite)
        self.missing = networks.missing(wanted)
        self.measures = [measure for measure in wanted if measure not in self.missing]
        self.features = {
            str(measure): feature_cache(measure, networks, options.cache)
            for measure in self.measures
            if measure.row.kind == "distribution"
        }
        identity = f"{model.name}@{model.revision} seed {options.seed if model.is_random else 0}"
        told = " ".join(map(str, self.measures))
        self.store = Store(options.out, suite.protocol, model.name, identity, told, options.part)

    def go(self, tell: Tell) -> None:
        """Predict and score what no earlier run has."""
        options, suite = self.options, self.suite
        done, keys, dropped = self.store.rows(), {}, []
        total = min(options.limit or suite.n, suite.n or options.limit or 0) // options.of
        numbered = enumerate(cases(suite, options.roots, limit=options.limit, excluded=options.exclude))
        for batch in _batches(islice(numbered, options.part, None, options.of), _BATCH):
            open_ = []
            for number, case in batch:
                if isinstance(case, Dropped):
                    dropped.append((number, case.id, case.reason, case.detail))
                    continue
                keys[case.id] = number, self.store.row_key(case)
                if not self._is_done(case, done.get((case.id, keys[case.id][1]))):
                    open_.append((number, case))
            dropped += self._score(open_)
            tell(f"{suite.name} {self.model.name}", len({*keys, *(row[1] for row in dropped)}), total)
        self.store.write_seen(options.of, Seen(keys, dropped))

    def _is_done(self, case: Case, row: Row | None) -> bool:
        """Whether a row has all behind it: the prediction, and the vectors, whose cache may have been emptied."""
        if row is None or not self.store.has(case):
            return False
        return all(self.features[measure].has(name) for measure, names in row.vectors.items() for name in names)

    def _score(self, batch: Sequence[tuple[int, Case]]) -> list[tuple[int, str, str, str]]:
        """Predict, score and keep some cases, features together; return those that the model could not do."""
        made, dropped = [], []
        for number, case in batch:
            try:
                made.append((case, self._predicted(case)))
            except BadImage as error:
                dropped.append((number, case.id, error.reason, error.detail))
        for (case, one), vectors in zip(made, self._vectors(made), strict=True):
            self.store.append(self._row(case, one, vectors))
        return dropped

    def _predicted(self, case: Case) -> Decomposition:
        made = self.store.load(case)
        if made is None:
            made = _made_by(self.model, case, rng_of(self.options.seed, case))
            self.store.save(case, made)
        return made

    def _row(self, case: Case, made: Decomposition, vectors: dict[str, list[str]]) -> Row:
        singles = [one for one in self.measures if one.row.kind == "per-image" and not why_not(one, case, made)]
        return Row(
            id=case.id,
            key=self.store.row_key(case),
            scene=case.scene,
            category=case.category,
            area=round(float(case.mask.mean()), 6),
            values={str(measure): score(measure, case, made, self.networks) for measure in singles},
            vectors=vectors,
        )

    def _vectors(self, made: Sequence[tuple[Case, Decomposition]]) -> list[dict[str, list[str]]]:
        """For each case the names of the vectors of prediction and truth, by measure."""
        out: list[dict[str, list[str]]] = [{} for _ in made]
        for measure in self.measures:
            if measure.row.kind == "distribution":
                pairs = [None if why_not(measure, *one) else picture_pair(measure, *one) for one in made]
                held = [k for k, pair in enumerate(pairs) if pair is not None]
                pictures = [picture for pair in pairs if pair is not None for picture in pair[:2]]
                names = self.features[str(measure)].put(pictures)
                for n, k in enumerate(held):
                    out[k][str(measure)] = names[2 * n : 2 * n + 2]
        return out

    def outcome(self, of: int) -> Outcome:
        """What all ``of`` processes have left of the model on the suite; for what it raises see :func:`run_model`."""
        rows, dropped = self.store.scored(of)
        if not rows:
            first = f": {' '.join(map(str, dropped[0][1:]))}" if dropped else ""
            raise UsageError(f"suite {self.suite.name}: no case could be scored, {len(dropped)} were dropped{first}")
        names = {name for row in rows for name in (*row.values, *row.vectors)}
        taken = tuple(measure for measure in self.measures if str(measure) in names)
        return Outcome(
            suite=self.suite,
            model=self.model.name,
            revision=self.model.revision,
            licence=self.model.licence,
            measures=taken,
            skipped=self._skipped(rows, taken),
            rows=tuple(rows),
            dropped=tuple(Dropped(id_, reason, detail) for _, id_, reason, detail in dropped),
            features={str(one): self.features[str(one)] for one in taken if str(one) in self.features},
        )

    def _skipped(self, rows: Sequence[Row], taken: Sequence[Measure]) -> dict[str, str]:
        """Why measures were not taken."""
        foreground = any(self.store.picture(row.id, "foreground").exists() for row in rows)
        return {
            str(one): applies(one, foreground=foreground, true_foreground=True, captions=self.suite.generates)
            or self.missing.get(one, "the suite knows no true foreground")
            for one in wanted_of(self.suite)
            if one not in taken
        }


def _made_by(model: Checked | Drawing, case: Case, rng: np.random.Generator) -> Decomposition:
    if isinstance(model, Drawing):
        return model(case, rng)
    if case.move is not None:
        return repositioned(model, case, rng)
    return model(case.image, case.mask, rng, case.id)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def wanted_of(suite: Suite) -> list[Measure]:
    """The measures that a suite asks for."""
    measures = [parse_measure(text) for text in suite.metrics]
    return with_pasted(measures) if suite.paste_back == "both" else measures


def feature_cache(measure: Measure, networks: Networks, folder: Path) -> FeatureCache:
    """Where the vectors of a distance of sets lie."""
    recipe = measure.definition.features
    return FeatureCache(folder, f"{recipe} {networks.revision(measure)}", lambda: networks.features(recipe))

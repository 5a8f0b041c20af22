"""``bench``: models on suites. Each case is decoded once, predicted once, and scored by every measure in one pass."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..manifests.errors import BadImage, MissingWeights, UsageError
from ..manifests.suites import Suite
from ..toolkit.decomposition import Checked, Decomposition
from .cases import Case, Dropped, cases
from .decomposers import load
from .features_cache import FeatureCache
from .measures import Measure, parse_measure, with_pasted
from .networks import Networks
from .scoring import applies, picture_pair, score
from .store import Row, Seen, Store, rng_of

Item = TypeVar("Item")

_BATCH = 8  # cases that go through a network at once


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """How models are scored.

    Attributes:
        out: the report's folder.
        roots: name of a data set to its folder.
        weights: folder of pre-trained weights, beside the hub cache.
        cache: folder of feature vectors, shared by reports.
        device: of networks: ``cpu`` or ``cuda``.
        limit: cases of each suite, the first of its draw; None is all.
        seed: of the models' randomness.
        prompt: for the models that take one.
        on_missing: for ``predictions``: a case without a picture is an error, or is dropped.
        resize: for ``predictions``: let pictures of another size in.
        workers: processes.
        part: which of ``of`` slices of the cases this process takes.
        of: see ``part``.
    """

    out: Path
    cache: Path
    roots: dict[str, Path] = field(default_factory=dict)
    weights: Path | None = None
    device: str = "cpu"
    limit: int | None = None
    seed: int = 0
    prompt: str = ""
    on_missing: Literal["error", "skip"] = "error"
    resize: bool = False
    workers: int = 1
    part: int = 0
    of: int = 1


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


def options_of(device: str | None, **given: Any) -> BenchOptions:
    """Options as the command line gives them, with this machine's device and the slice that ``accelerate`` gives.

    Raises:
        UsageError: ``on_missing`` is another word.
    """
    if given["on_missing"] not in ("error", "skip"):
        raise UsageError(f"--on-missing: expected error or skip, got {given['on_missing']!r}")
    of, part = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if of > 1 and device in (None, "cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if _has_cuda() else "cpu"
    device = device or ("cuda" if _has_cuda() else "cpu")
    return BenchOptions(device=device, cache=default_cache(), of=of, part=part, **given)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def default_cache() -> Path:
    """``LAYERKIT_CACHE``, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LAYERKIT_CACHE") or Path(base) / "layerkit")


def run_model(name: str, suite: Suite, options: BenchOptions, tell: Tell) -> Outcome:
    """Score a model on a suite, going on where an earlier run stopped.

    Raises:
        UsageError: no such model, or the suite's data cannot be read.
        RunError: another process of this run is not through.
    """
    try:
        model = _loaded(name, options)
    except MissingWeights as error:
        return Outcome(suite=suite, model=name, skipped={"*": str(error)})
    if options.workers > 1:
        _run_in_processes(name, suite, options)
        return collect(model, suite, replace(options, of=options.workers))
    _run_part(model, suite, options, tell)
    wait_for_all(options.of)
    return collect(model, suite, options)


def _run_in_processes(name: str, suite: Suite, options: BenchOptions) -> None:
    """Each process takes every ``workers``-th case; the scores are those of one process."""
    context = multiprocessing.get_context("spawn")
    parts = [replace(options, workers=1, part=part, of=options.workers) for part in range(options.workers)]
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        list(pool.map(_part_of, [name] * len(parts), [suite] * len(parts), parts))


def _part_of(name: str, suite: Suite, options: BenchOptions) -> None:
    import cv2

    cv2.setNumThreads(1)
    _run_part(_loaded(name, options), suite, options, lambda what, done, total: None)


def _loaded(name: str, options: BenchOptions) -> Checked:
    return load(
        name,
        options.weights,
        prompt=options.prompt,
        device=options.device,
        on_missing=options.on_missing,
        resize=options.resize,
    )


def wait_for_all(of: int) -> None:
    """Wait for the other processes that ``accelerate launch`` started, if it did."""
    if of > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def _run_part(model: Checked, suite: Suite, options: BenchOptions, tell: Tell) -> None:
    networks = Networks(options.weights, options.device)
    store = _store(model, suite, options, networks)
    done, keys, dropped = store.rows(), {}, []
    total = min(options.limit or suite.n, suite.n or options.limit or 0) // options.of
    numbered = enumerate(cases(suite, options.roots, limit=options.limit))
    for batch in _batches(islice(numbered, options.part, None, options.of), _BATCH):
        open_ = []
        for number, case in batch:
            if isinstance(case, Dropped):
                dropped.append((number, case.id, case.reason, case.detail))
                continue
            keys[case.id] = store.row_key(case)
            if case.id not in done or done[case.id].key != keys[case.id]:
                open_.append((number, case))
        dropped += _score_batch(open_, model, suite, store, networks, options)
        tell(f"{suite.name} {model.name}", len(keys) + len(dropped), total)
    store.write_seen(options.of, Seen(keys, dropped))


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _store(model: Checked, suite: Suite, options: BenchOptions, networks: Networks) -> Store:
    identity = f"{model.name}@{model.revision} seed {options.seed if model.is_random else 0}"
    measures = wanted_of(suite)
    missing = networks.missing(measures)
    told = " ".join(str(measure) for measure in measures if measure not in missing)
    return Store(options.out, suite.protocol, model.name, identity, told, options.part)


def _score_batch(
    batch: Sequence[tuple[int, Case]],
    model: Checked,
    suite: Suite,
    store: Store,
    networks: Networks,
    options: BenchOptions,
) -> list[tuple[int, str, str, str]]:
    """Predict, score and keep some cases, features together; return those that the model could not do."""
    made, dropped = [], []
    for number, case in batch:
        try:
            made.append((number, case, _predicted(case, model, store, options.seed)))
        except BadImage as error:
            dropped.append((number, case.id, error.reason, error.detail))
    if made:
        _keep(made, suite, store, networks, options)
    return dropped


def _keep(
    made: Sequence[tuple[int, Case, Decomposition]],
    suite: Suite,
    store: Store,
    networks: Networks,
    options: BenchOptions,
) -> None:
    """Score predictions and append a row each."""
    foreground = any(one.foreground is not None for _, _, one in made)
    truth = any(case.foreground is not None for _, case, _ in made)
    measures, _ = chosen(suite, networks, foreground=foreground, true_foreground=truth)
    vectors = _vectors(made, measures, networks, options.cache)
    for (number, case, one), names in zip(made, vectors, strict=True):
        singles = [measure for measure in measures if measure.row.kind == "per-image"]
        store.append(
            Row(
                id=case.id,
                number=number,
                key=store.row_key(case),
                scene=case.scene,
                category=case.category,
                area=round(float(case.mask.mean()), 6),
                values={str(measure): score(measure, case, one, networks) for measure in singles},
                vectors=names,
            )
        )


def _predicted(case: Case, model: Checked, store: Store, seed: int) -> Decomposition:
    made = store.load(case)
    if made is None:
        made = model(case.image, case.mask, rng_of(seed, case), case.id)
        store.save(case, made)
    return made


def wanted_of(suite: Suite) -> list[Measure]:
    """The measures that a suite asks for."""
    measures = [parse_measure(text) for text in suite.metrics]
    return with_pasted(measures) if suite.paste_back == "both" else measures


def chosen(
    suite: Suite, networks: Networks, *, foreground: bool, true_foreground: bool
) -> tuple[list[Measure], dict[str, str]]:
    """The measures of a suite that can be taken, and why the others cannot."""
    wanted = wanted_of(suite)
    skipped = {
        measure: why
        for measure in wanted
        if (why := applies(measure, foreground=foreground, true_foreground=true_foreground))
    }
    skipped |= networks.missing(measure for measure in wanted if measure not in skipped)
    return [one for one in wanted if one not in skipped], {str(one): why for one, why in skipped.items()}


def feature_cache(measure: Measure, networks: Networks, folder: Path) -> FeatureCache:
    """Where the vectors of a distance of sets lie."""
    recipe = measure.definition.features
    return FeatureCache(folder, f"{recipe} {networks.revision(measure)}", lambda: networks.features(recipe))


def _vectors(
    made: Sequence[tuple[int, Case, Decomposition]], measures: Sequence[Measure], networks: Networks, folder: Path
) -> list[dict[str, list[str]]]:
    """For each case the names of the vectors of prediction and truth, by measure."""
    out: list[dict[str, list[str]]] = [{} for _ in made]
    for measure in measures:
        if measure.row.kind == "distribution":
            pairs = [picture_pair(measure, case, one) for _, case, one in made]
            held = [k for k, pair in enumerate(pairs) if pair is not None]
            pictures = [picture for pair in pairs if pair is not None for picture in pair[:2]]
            names = feature_cache(measure, networks, folder).put(pictures)
            for n, k in enumerate(held):
                out[k][str(measure)] = names[2 * n : 2 * n + 2]
    return out


def collect(model: Checked, suite: Suite, options: BenchOptions) -> Outcome:
    """What all processes have left of a model on a suite.

    Raises:
        UsageError: the suite has no case that could be scored.
        RunError: a process is not through.
    """
    networks = Networks(options.weights, options.device)
    store = _store(model, suite, options, networks)
    seen, found = store.read_seen(options.of), store.rows()
    ids = [id_ for id_, key in seen.keys.items() if id_ in found and found[id_].key == key]
    rows = sorted((found[id_] for id_ in ids), key=lambda row: row.number)
    if not rows:
        first = f": {' '.join(map(str, seen.dropped[0]))}" if seen.dropped else ""
        raise UsageError(f"suite {suite.name}: no case could be scored, {len(seen.dropped)} were dropped{first}")
    names = {name for row in rows for name in (*row.values, *row.vectors)}
    foreground = any(store.picture(row.id, "foreground").exists() for row in rows)
    measures, skipped = chosen(suite, networks, foreground=foreground, true_foreground=True)
    taken = tuple(measure for measure in measures if str(measure) in names)
    skipped |= {str(one): "the suite knows no true foreground" for one in measures if one not in taken}
    return Outcome(
        suite=suite,
        model=model.name,
        revision=model.revision,
        licence=model.licence,
        measures=taken,
        skipped=skipped,
        rows=tuple(rows),
        dropped=tuple(Dropped(id_, reason, detail) for _, id_, reason, detail in seen.dropped),
        features={
            str(one): feature_cache(one, networks, options.cache) for one in taken if one.row.kind == "distribution"
        },
    )

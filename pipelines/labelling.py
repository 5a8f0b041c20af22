"""A view of a build in FiftyOne in which a person tags samples ``good`` or ``bad``; the tags become a labels file."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import UsageError
from ..toolkit.images import decode_member
from ..toolkit.judges import HEURISTICS, Role, role_of
from ..toolkit.shards import decode_layers, decode_record
from .browsing import database, server
from .browsing.builds import evenly
from .browsing.exhibit import Exhibit, Shown
from .browsing.media import Folder, Media
from .browsing.triplets import measured
from .labels import KINDS, Label, evidence, read_labels, samples_of, tars_of, write_labels

_PICTURES: dict[Role, str] = {"mask-quality": "image", "inpaint-quality": "background"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What a person made of the samples that were shown.

    Attributes:
        shown: samples in the view.
        good, bad: how many were tagged so.
        contradictory: keys tagged both; they are no labels.
    """

    shown: int
    good: int
    bad: int
    contradictory: tuple[str, ...]


def label(
    build: Path,
    role: str,
    out: Path,
    *,
    limit: int = 500,
    port: int | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> Labelled:
    """Open a build in the App on 127.0.0.1 and write the labels file once the user ends it with Ctrl-C.

    An ``out`` that exists is gone on with: its labels are tags from the start, and those of samples that are not shown
    stay.

    Args:
        build: folder of a finished build.
        role: one of ``ROLES``.
        out: the labels file.
        limit: samples to show, evenly from all of the build.
        port: of the App; None takes the first free one from 5151 on.
        ready: called with the address of the App once it can be opened.

    Raises:
        UsageError: an unknown role, a limit below 1, no finished build, no database; or ``out`` holds something else or
            cannot be written.
        RunError: the App's server does not start.
    """
    _expect_work(build, role, limit)
    before = read_labels(out) if out.exists() else []
    write_labels(out, before)  # a file that cannot be written is found before the work, not after it
    with server.app(server.free_port(port)) as address:
        dataset = label_dataset(build, role, limit, before)
        try:
            url = address(dataset.name)
            ready(url)
            server.show(url)
            server.wait()
        finally:
            dataset.reload()
            shown, made = set(dataset.values("key")), labels_of(dataset)
            others = [one for one in before if one.role != role or one.key not in shown]
            write_labels(out, [*others, *made])
    good = sum(one.label == "good" for one in made)
    outcome = Labelled(shown=len(shown), good=good, bad=len(made) - good, contradictory=_contradictory(dataset))
    database.delete(dataset.name)
    Media(dataset.name).clear()
    return outcome


def label_dataset(build: Path, role: str, limit: int = 500, before: Sequence[Label] = ()) -> Any:
    """A new ``fiftyone.Dataset`` of samples to label, those first of which the heuristic is least sure.

    A sample has the fields ``key``, ``judge`` (the heuristic's score), ``mask`` (the object, or the hole), ``note`` and
    the scores that its record holds.

    Args:
        build: folder of a finished build.
        role: one of ``ROLES``.
        limit: samples to show, evenly from all of the build.
        before: labels that are tags from the start.

    Raises:
        UsageError: an unknown role, a limit below 1, no finished build, or no database.
    """
    known, keys = _expect_work(build, role, limit)
    chosen = evenly(keys, limit)
    number = uuid.uuid4().hex[:8]
    name = f"{build.resolve().name}-{known}-{number}"
    said = {one.key: one for one in before if one.role == known}
    media = Media(name).folder(number)
    shown = [_shown(known, media, key, sample, said.get(key)) for key, sample in samples_of(build, chosen)]
    shown.sort(key=lambda one: abs(float(str(one.values["judge"])) - 0.5))
    exhibit = Exhibit(
        name=name,
        kind="labels",
        folder=build.resolve(),
        identity=known,
        total=len(shown),
        samples=lambda: iter(shown),
        panels=("picture",),
        groups={"judge": ("key", "judge", "note")},
        lasting=False,
    )
    return database.load(exhibit, lambda stage, done, total: None)


def _expect_work(build: Path, role: str, limit: int) -> tuple[Role, list[str]]:
    """The role and the keys of the build; what is asked for wrongly is said before FiftyOne is started."""
    known = role_of(role)
    if limit < 1:
        raise UsageError(f"--limit: expected 1 or more samples, got {limit}")
    return known, list(tars_of(build))


def _shown(role: Role, media: Folder, key: str, sample: Mapping[str, bytes], said: Label | None) -> Shown:
    """A sample with the picture that its judge looks at; the bytes of its file are those of the shard."""
    image, mask = evidence(role, decode_layers(sample, key))
    member = next(name for name in sample if name.startswith(_PICTURES[role]))
    ending = member.rpartition(".")[2]
    overlay = media.overlay(key, role, mask.astype(np.uint8) * 255, heat=False)
    picture = decode_member(sample[member], ending)
    panel = media.panel(key, "picture", picture, data=(ending, sample[member]), overlays={"mask": overlay})
    scores = measured(decode_record(sample, key).scores)
    note = said.note if said else ""
    return Shown(
        key=key,
        panels={"picture": panel},
        values={"key": key, "judge": HEURISTICS[role](image, mask), "note": note, **scores},
        tags=(said.label,) if said else (),
    )


def labels_of(dataset: Any) -> list[Label]:
    """The labels that the tags of a dataset of :func:`label_dataset` say, in its order.

    Samples that are tagged both good and bad, or neither, are left out.
    """
    role = dataset.info["identity"]
    rows = zip(*dataset.values(["key", "note", "tags"]), strict=True)
    said = ((key, note, [kind for kind in KINDS if kind in tags]) for key, note, tags in rows)
    return [Label(key=key, role=role, label=kinds[0], note=note) for key, note, kinds in said if len(kinds) == 1]


def _contradictory(dataset: Any) -> tuple[str, ...]:
    return tuple(key for key, tags in zip(*dataset.values(["key", "tags"]), strict=True) if set(KINDS) <= set(tags))

"""A view of a build in FiftyOne in which a person tags samples ``good`` or ``bad``; the tags become a labels file."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import UsageError
from ..manifests.record import NOT_MEASURED
from ..toolkit.files import cache_folder
from ..toolkit.images import encode_png
from ..toolkit.judges import HEURISTICS, Role, role_of
from ..toolkit.shards import decode_layers, decode_record
from .labels import KINDS, Label, evidence, read_labels, samples_of, tars_of, write_labels

ADDRESS = "127.0.0.1"

_PICTURES: dict[Role, str] = {"mask-quality": "image", "inpaint-quality": "background"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample as the App shows it.

    Attributes:
        picture: file of the picture.
        overlays: field to file of a mask that is laid over it.
        values: field to value, to sort and filter by.
        tags: what was said of it before.
    """

    picture: Path
    overlays: Mapping[str, Path]
    values: Mapping[str, float | str]
    tags: Sequence[str] = ()


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


def label(build: Path, role: str, out: Path, *, limit: int = 500, port: int = 5151) -> Labelled:
    """Open a build in the App on 127.0.0.1 and write the labels file once the user ends it with Ctrl-C.

    An ``out`` that exists is gone on with: its labels are tags from the start, and those of samples that are not shown
    stay.

    Args:
        build: folder of a finished build.
        role: one of ``ROLES``.
        out: the labels file.
        limit: samples to show, evenly from all of the build.
        port: of the App.

    Raises:
        UsageError: an unknown role, a limit below 1, no finished build, or ``out`` holds something else or cannot be
            written.
    """
    before = read_labels(out) if out.exists() else []
    write_labels(out, before)  # a file that cannot be written is found before the work, not after it
    dataset = label_dataset(build, role, limit, before)
    session = _fiftyone().launch_app(dataset, address=ADDRESS, port=port)
    try:
        session.wait(-1)
    except KeyboardInterrupt:
        pass  # how the user says that it is done
    finally:
        shown, made = set(dataset.values("key")), labels_of(dataset)
        others = [one for one in before if one.role != role or one.key not in shown]
        write_labels(out, [*others, *made])
    good = sum(one.label == "good" for one in made)
    outcome = Labelled(shown=len(shown), good=good, bad=len(made) - good, contradictory=_contradictory(dataset))
    session.close()
    dataset.delete()
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
        UsageError: an unknown role, a limit below 1, or no finished build.
    """
    known = role_of(role)
    if limit < 1:
        raise UsageError(f"--limit: expected 1 or more samples, got {limit}")
    media = cache_folder() / "media" / hashlib.sha256(str(build.resolve()).encode()).hexdigest()[:16]
    media.mkdir(parents=True, exist_ok=True)
    said = {one.key: one for one in before if one.role == known}
    chosen = _evenly(list(tars_of(build)), limit)
    shown = [_shown(known, media, key, sample, said.get(key)) for key, sample in samples_of(build, chosen)]
    shown.sort(key=lambda one: abs(float(one.values["judge"]) - 0.5))
    return dataset_of(f"{build.resolve().name}-{known}", shown, {"role": known})


def _evenly(keys: Sequence[str], limit: int) -> list[str]:
    """``limit`` keys, or all of fewer, at even distances."""
    count = min(limit, len(keys))
    return [keys[(2 * k + 1) * len(keys) // (2 * count)] for k in range(count)]


def _shown(role: Role, media: Path, key: str, sample: Mapping[str, bytes], said: Label | None) -> Shown:
    """Write the pictures of a sample to ``media``; the picture's bytes are those of the shard."""
    image, mask = evidence(role, decode_layers(sample, key))
    member = next(name for name in sample if name.startswith(_PICTURES[role]))
    picture, overlay = media / f"{key}.{member}", media / f"{key}.{role}.png"
    picture.write_bytes(sample[member])
    overlay.write_bytes(encode_png(mask.astype(np.uint8) * 255))
    measured = {name: score for name, score in decode_record(sample, key).scores.items() if score != NOT_MEASURED}
    return Shown(
        picture=picture,
        overlays={"mask": overlay},
        values={"key": key, "judge": HEURISTICS[role](image, mask), "note": said.note if said else "", **measured},
        tags=(said.label,) if said else (),
    )


def dataset_of(name: str, shown: Iterable[Shown], info: Mapping[str, Any]) -> Any:
    """A new ``fiftyone.Dataset`` of these samples in their order, called ``name`` or, if that is taken, nearly so.

    Args:
        name: of the dataset.
        shown: its samples.
        info: what to remember with it.
    """
    fiftyone = _fiftyone()
    dataset = fiftyone.Dataset(fiftyone.core.dataset.make_unique_dataset_name(name))
    dataset.info = dict(info)
    dataset.add_samples(
        [
            fiftyone.Sample(
                filepath=str(one.picture),
                tags=list(one.tags),
                **{field: fiftyone.Segmentation(mask_path=str(path)) for field, path in one.overlays.items()},
                **one.values,
            )
            for one in shown
        ],
        progress=False,
    )
    dataset.save()
    return dataset


def labels_of(dataset: Any) -> list[Label]:
    """The labels that the tags of a dataset of :func:`label_dataset` say, in its order.

    Samples that are tagged both good and bad, or neither, are left out.
    """
    role = dataset.info["role"]
    rows = zip(*dataset.values(["key", "note", "tags"]), strict=True)
    said = ((key, note, [kind for kind in KINDS if kind in tags]) for key, note, tags in rows)
    return [Label(key=key, role=role, label=kinds[0], note=note) for key, note, kinds in said if len(kinds) == 1]


def _contradictory(dataset: Any) -> tuple[str, ...]:
    return tuple(key for key, tags in zip(*dataset.values(["key", "tags"]), strict=True) if set(KINDS) <= set(tags))


def _fiftyone() -> Any:
    """FiftyOne, told to call home only where the user says so."""
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    import fiftyone

    return fiftyone

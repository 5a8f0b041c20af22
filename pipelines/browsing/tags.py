"""What people say of samples by tags, and the files that it becomes: an exclude list, and labels for the judges.

Whoever is shown decides: of the samples that a data set shows its tags count, of all others the files stay as they are.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...manifests.errors import UsageError
from ...manifests.exclusions import read_keys
from ...toolkit.files import write_atomically
from ...toolkit.judges import ROLES, Role
from ..labels import KINDS, Kind, Label, read_labels, write_labels

EXCLUDED = "exclude"
BROKEN = "broken"
"""Said by layerkit, of what it could not read."""

LABELS: dict[str, tuple[Role, Kind]] = {
    f"{role.partition('-')[0]}-{kind}": (role, kind) for role in ROLES for kind in KINDS
}
"""Tag to role of a judge and what is said: ``mask-good``, ``mask-bad``, ``inpaint-good``, ``inpaint-bad``."""

_MANIFESTS = "manifests"
_EXCLUDE, _LABELS = "exclude.txt", "labels.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What tags became.

    Attributes:
        shown: samples whose tags were looked at.
        excluded: keys in the exclude list now.
        labels: labels in the labels file now.
        contradictory: keys tagged both good and bad for one role; no labels.
        exclude_file, labels_file: where they lie; empty where there is nothing to write.
    """

    shown: int
    excluded: int
    labels: int
    contradictory: tuple[str, ...]
    exclude_file: str
    labels_file: str

    def describe(self) -> str:
        """What was written, in words."""
        lines = [f"excluded  {self.excluded} samples: {self.exclude_file}" if self.exclude_file else ""]
        lines += [f"labels    {self.labels}: {self.labels_file}" if self.labels_file else ""]
        lines += [f"left out  tagged both good and bad: {', '.join(self.contradictory)}"] * bool(self.contradictory)
        told = [line for line in lines if line]
        return "\n".join(told) or f"no tag of {EXCLUDED}, {', '.join(LABELS)} on {self.shown} samples"


def said_in(folder: Path) -> dict[str, list[str]]:
    """Key to tags, as the files of a folder say them.

    Raises:
        UsageError: one of the files cannot be read.
    """
    tags: dict[str, list[str]] = defaultdict(list)
    excluded, labels = _read(folder)
    for key in sorted(excluded):
        tags[key].append(EXCLUDED)
    named = {said: tag for tag, said in LABELS.items()}
    for label in labels:
        tags[label.key].append(named[label.role, label.label])
    return dict(tags)


def _place(folder: Path) -> Path:
    """Where the files lie: among a build's manifests, or in the folder of a report."""
    return folder / _MANIFESTS if (folder / _MANIFESTS).is_dir() else folder


def _read(folder: Path) -> tuple[frozenset[str], list[Label]]:
    """What the files of a folder say; nothing where there are none."""
    exclude, labels = _place(folder) / _EXCLUDE, _place(folder) / _LABELS
    keys = read_keys(exclude) if exclude.is_file() else frozenset[str]()
    return keys, read_labels(labels) if labels.is_file() else []


def unsaid(folder: Path, tags: Mapping[str, Collection[str]]) -> int:
    """Samples whose tags say something else than the files do.

    Args:
        folder: of a build, or of a report.
        tags: key to tags of every sample that was shown.
    """
    said, spoken = said_in(folder), {EXCLUDED, *LABELS}
    return sum(spoken & set(held) != spoken & set(said.get(key, ())) for key, held in tags.items())


def export(folder: Path, tags: Mapping[str, Collection[str]]) -> Exported:
    """Write the files of a folder from tags.

    Args:
        folder: of a build, or of a report.
        tags: key to tags of every sample that was shown.

    Raises:
        UsageError: a file cannot be read or written.
    """
    excluded_before, before = _read(folder)
    excluded = {key for key in excluded_before if key not in tags}
    excluded |= {key for key, said in tags.items() if EXCLUDED in said}
    notes = {(one.key, one.role, one.label): one.note for one in before}
    labels = [one for one in before if one.key not in tags]
    labels += [replace(one, note=notes.get((one.key, one.role, one.label), "")) for one in _labels(tags)]
    contradictory = tuple(_contradictory(tags))
    return Exported(
        shown=len(tags),
        excluded=len(excluded),
        labels=len(labels),
        contradictory=contradictory,
        exclude_file=_write_keys(_place(folder) / _EXCLUDE, excluded),
        labels_file=_write_labels(_place(folder) / _LABELS, labels),
    )


def _write_keys(path: Path, keys: Collection[str]) -> str:
    """Write the list; one that holds nothing and is not there yet is not made."""
    if not keys and not path.exists():
        return ""
    try:
        write_atomically(path, "".join(f"{key}\n" for key in sorted(keys)).encode())
    except OSError as error:
        raise UsageError(f"cannot write the exclude list {path}: {error.strerror}; is the folder writable?") from error
    return str(path)


def _write_labels(path: Path, labels: list[Label]) -> str:
    if not labels and not path.exists():
        return ""
    write_labels(path, labels)
    return str(path)


def _labels(tags: Mapping[str, Collection[str]]) -> Iterator[Label]:
    for key, said in tags.items():
        kinds: dict[Role, list[Kind]] = defaultdict(list)
        for tag in LABELS.keys() & set(said):
            kinds[LABELS[tag][0]].append(LABELS[tag][1])
        for role in sorted(kinds):
            if len(kinds[role]) == 1:
                yield Label(key=key, role=role, label=kinds[role][0])


def _contradictory(tags: Mapping[str, Collection[str]]) -> Iterator[str]:
    for key, said in tags.items():
        roles = [LABELS[tag][0] for tag in LABELS.keys() & set(said)]
        if len(set(roles)) < len(roles):
            yield key

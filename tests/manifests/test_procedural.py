"""Source ``procedural``: seeds as entries, without a root or a file."""

from pathlib import Path

from layerkit.manifests.licences import LICENCES
from layerkit.manifests.sources import entries, find, procedural


def test_entries_are_seeds_that_need_no_root():
    found = list(entries("procedural", {}))
    assert len(found) == procedural.COUNT
    assert len({entry.id for entry in found}) == procedural.COUNT
    assert [int(entry.id) for entry in found] == list(range(procedural.COUNT))
    first = found[0]
    assert (first.id, first.kind, first.source) == ("000000", "procedural", "procedural")
    assert first.uses == ("foreground", "background", "layers")
    assert (LICENCES[first.licence].kind, first.author) == ("open", "layerkit")
    assert not find("procedural").needs_root


def test_the_root_is_not_looked_at():
    assert list(procedural.index(Path("no such folder"))) == list(procedural.index(Path()))

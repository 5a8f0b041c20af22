"""The records that readers of benchmarks yield."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from layerkit.manifests.pairs import File, MaskFile, Pair


def test_a_pair_needs_no_more_than_a_picture_and_is_frozen():
    pair = Pair(source="rord", id="a", scene="s", image=File(path=Path("a.jpg")))
    assert (pair.kind, pair.truth, pair.licence, pair.drop, pair.masks) == ("files", "background", "unknown", "", {})
    with pytest.raises(FrozenInstanceError):
        pair.id = "b"


def test_a_mask_is_white_on_black_at_half_unless_its_reader_knows_better():
    mask = MaskFile(file=File(path=Path("m.png")))
    assert (mask.threshold, mask.white_is_object, mask.format) == (127, True, "picture")

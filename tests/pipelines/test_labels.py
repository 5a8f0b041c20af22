"""Labels files: what is written is read back, the later line wins, errors name file and line; samples by their keys."""

import shutil

import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.labels import Label, evidence, read_labels, samples_of, tars_of, write_labels
from layerkit.toolkit.shards import decode_layers, read_samples

GOOD = Label(key="a-1", role="mask-quality", label="good")


def test_labels_come_back_as_they_were_written(tmp_path):
    labels = [GOOD, Label(key="b", role="inpaint-quality", label="bad", note="Gräte im Loch\n")]
    write_labels(tmp_path / "new" / "labels.jsonl", labels)
    assert read_labels(tmp_path / "new" / "labels.jsonl") == labels
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.jsonl"]


def test_the_later_line_wins_within_a_role(tmp_path):
    other, changed = (
        Label(key="a-1", role="inpaint-quality", label="good"),
        Label(key="a-1", role="mask-quality", label="bad"),
    )
    write_labels(tmp_path / "labels.jsonl", [GOOD, other, changed])
    assert read_labels(tmp_path / "labels.jsonl") == [changed, other]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"key": "b", "role": "mask-quality"', "expected one JSON object a line"),
        ('["b"]', "expected a table"),
        ('{"key": "b", "role": "mask-quality"}', "the key 'label' is missing"),
        ('{"key": "b", "role": "mask-quality", "label": "fine"}', "label: expected one of good, bad, got 'fine'"),
        ('{"key": "b", "role": "taste", "label": "good"}', "role: expected one of mask-quality, inpaint-quality"),
        ('{"key": "b", "role": "mask-quality", "lable": "good"}', "unknown key 'lable'; did you mean 'label'"),
        ('{"key": 7, "role": "mask-quality", "label": "good"}', "key: expected a value of type str, got 7"),
    ],
)
def test_an_error_names_file_and_line(tmp_path, line, message):
    path = tmp_path / "labels.jsonl"
    write_labels(path, [GOOD])
    path.write_text(path.read_text() + "\n" + line + "\n")  # an empty line is none
    with pytest.raises(UsageError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}:3")
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="expected a labels file"):
        read_labels(tmp_path / "labels.jsonl")


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--out: cannot write the labels file"):
        write_labels(tmp_path / "file" / "labels.jsonl", [GOOD])
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="--out: cannot write the labels file"):
        write_labels(tmp_path / "folder", [GOOD])
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_samples_are_found_by_key_and_only_their_tars_are_opened(tiny_build, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(tiny_build, build)
    tars = tars_of(build)
    first = [key for key, tar in tars.items() if tar == min(tars.values())]
    for tar in set(tars.values()) - {min(tars.values())}:
        (build / "data" / tar).unlink()
    found = dict(samples_of(build, [first[2], first[0]]))
    assert list(found) == [first[0], first[2]]
    assert found[first[2]] == dict(read_samples(build / "data" / min(tars.values())))[first[2]]


def test_unknown_keys_and_unfinished_builds_are_refused(tiny_build, tmp_path):
    known = next(iter(tars_of(tiny_build)))
    with pytest.raises(UsageError, match=r"2 of 3 are not: x, y"):
        list(samples_of(tiny_build, [known, "x", "y"]))
    with pytest.raises(UsageError, match=r"samples\.parquet is missing; build it to its end first"):
        tars_of(tmp_path)


def test_evidence_is_image_and_mask_or_background_and_what_was_covered(tiny_build):
    key = next(iter(tars_of(tiny_build)))
    layers = decode_layers(dict(samples_of(tiny_build, [key]))[key])
    image, mask = evidence("mask-quality", layers)
    background, hole = evidence("inpaint-quality", layers)
    assert image is layers.image
    assert background is layers.background
    np.testing.assert_array_equal(mask, layers.mask == 255)
    assert (hole | ~mask).all(), "the hole holds the visible object"
    assert (layers.image == layers.background).all(-1)[~hole & (layers.occluder[..., 3] == 0)].all()

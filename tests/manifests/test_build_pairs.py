"""Builds as benchmarks: the held-out split, members by span, and tars that are damaged."""

import io
import tarfile
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.manifests.record import SCHEMA, Origin, Record
from layerkit.manifests.sources.build_pairs import pairs

MEMBERS = ("image.png", "foreground.png", "background.jpg", "mask.png", "shadow.png", "occluder.png", "json")


def record(key: str, split: str) -> bytes:
    same = {"dataset": "d", "licence": "mit", "author": "Zoë", "url": "https://x", "sha256": "0"}
    origins = [Origin(layer="foreground", id="i", **same), Origin(layer="background", id=key[:1], **same)]
    return Record(
        schema=SCHEMA,
        key=key,
        split=split,
        mix="paste-a",
        route="paste",
        width=4,
        height=4,
        caption="",
        objects=1,
        licence="mit",
        layers=tuple(origins),
        models={},
        scores={},
        recomposition_error=0,
        recomposition_bound=0,
        composite_error=0.0,
        choices="{}",
    ).to_json()


def shard(root: Path, split: str, *keys: str, leave_out: str = "", spoil: str = "", caption: bytes = b"") -> Path:
    path = root / "data" / f"{split}-paste-a-000000.tar"
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in keys:
            for name in MEMBERS:
                data = record(key, split) if name == "json" else f"{key} {name}".encode()
                data = b"{}" if name == spoil else data.replace(b'"caption":""', b'"caption":"%s"' % caption)
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                if name != leave_out:
                    tar.addfile(info, io.BytesIO(data))
    return path


def test_a_sample_is_a_triplet_with_every_layer(tmp_path: Path):
    path = shard(tmp_path, "test", "k-1", "k-2")
    first, second = pairs(tmp_path)
    assert (first.id, second.id, first.kind, first.category) == ("k-1", "k-2", "triplet", "paste-a")
    assert (first.licence, first.author, first.url) == ("mit", "Zoë", "https://x")
    data = path.read_bytes()
    files = (first.image, first.foreground, first.background, first.masks["tight"][0].file)
    for file, name in zip(files, MEMBERS, strict=False):
        offset, length = file.span
        assert data[offset : offset + length] == f"k-1 {name}".encode()
    (shadow,) = first.masks["shadow"]
    assert (shadow.threshold, first.occluder is not None) == (12, True)


def test_triplets_on_one_background_are_one_scene(tmp_path: Path):
    shard(tmp_path, "test", "a-1", "a-2", "b-1")
    assert [pair.scene for pair in pairs(tmp_path)] == ["d/a", "d/a", "d/b"]


def test_the_held_out_split_is_test_or_else_val_or_else_all(tmp_path: Path):
    shard(tmp_path, "train", "a")
    assert [pair.id for pair in pairs(tmp_path)] == ["a"]
    shard(tmp_path, "val", "b")
    assert [pair.id for pair in pairs(tmp_path)] == ["b"]
    shard(tmp_path, "test", "c")
    assert [pair.id for pair in pairs(tmp_path)] == ["c"]
    assert [pair.id for pair in pairs(tmp_path, "train")] == ["a"]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_sample_that_lacks_a_member_is_a_drop(tmp_path: Path, name: str):
    shard(tmp_path, "test", "k", leave_out=name)
    (pair,) = pairs(tmp_path)
    assert pair.drop.startswith(f"missing_member: expected {name.partition('.')[0]} of k in ")


def test_the_caption_is_what_a_generator_is_to_draw(tmp_path: Path):
    shard(tmp_path, "test", "k", caption=b"a cup")
    assert [pair.prompt for pair in pairs(tmp_path)] == [Prompt("a cup")]
    shard(tmp_path, "test", "k")
    assert [(pair.prompt, pair.drop) for pair in pairs(tmp_path)] == [(None, "")]


def test_a_caption_that_no_text_can_hold_is_a_drop(tmp_path: Path):
    shard(tmp_path, "test", "k", caption=rb"half of a pair: \ud800")
    (pair,) = pairs(tmp_path)
    assert pair.drop.startswith("bad_record: ")
    assert "UTF-8" in pair.drop


def test_a_record_that_is_none_is_a_drop(tmp_path: Path):
    shard(tmp_path, "test", "k", spoil="json")
    (pair,) = pairs(tmp_path)
    assert pair.drop.startswith("bad_record: ")


def test_a_truncated_shard_gives_what_is_whole_and_says_so(tmp_path: Path):
    path = shard(tmp_path, "test", "a", "b")
    path.write_bytes(path.read_bytes()[: 8 * 1024])
    first, second, fault = pairs(tmp_path)
    assert (first.id, first.drop) == ("a", "")
    assert second.drop.startswith("missing_member: ")
    assert (fault.id, fault.scene, fault.drop.partition(":")[0]) == (path.name, "", "unreadable_tar")


def test_a_folder_that_is_no_build_is_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match="expected a data set of layerkit build-triplets"):
        pairs(tmp_path)
    shard(tmp_path, "train", "a")
    with pytest.raises(UsageError, match=r"val-\*\.tar, got train"):
        pairs(tmp_path, "val")

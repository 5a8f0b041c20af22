"""Shards against tarfile and webdataset, and every way to damage one."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests.errors import ShardError, UsageError
from layerkit.manifests.record import SCHEMA, Origin, Record
from layerkit.toolkit import compose, shards
from layerkit.toolkit.layers import CHANNELS, Layers

MEMBERS = ["image.png", "foreground.png", "background.jpg", "mask.png", "shadow.png", "occluder.png", "json"]


def record_of(key: str) -> Record:
    origin = Origin(
        layer="foreground", dataset="rgba", id="a/b.png", licence="cc0-1.0", author="Zoë", url="", sha256="0" * 64
    )
    return Record(
        schema=SCHEMA,
        key=key,
        split="train",
        mix="m",
        route="paste",
        width=30,
        height=20,
        caption="",
        objects=1,
        licence="cc0-1.0",
        layers=(origin,),
        models={"matting": "closed-form@1"},
        scores={"sharpness": 12.5},
        recomposition_error=0,
        recomposition_bound=0,
        composite_error=0.5,
        choices="{}",
    )


def sample_of(seed: int, members: shards.Members | None = None) -> tuple[Layers, dict[str, bytes]]:
    members = members or shards.Members()
    rng = np.random.default_rng(seed)
    shapes = {name: (20, 30) if count == 1 else (20, 30, count) for name, count in CHANNELS.items()}
    parts = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    data, parts["background"] = members.encode_background(parts["background"])
    parts["image"] = compose.recompose(parts["foreground"], parts["background"], parts["occluder"])
    layers, image = Layers(**parts), members.encode_image(parts["image"])
    return layers, shards.encode_sample(record_of(f"key-{seed}"), layers, image, members, data)


def shard_of(path: Path, count: int = 3) -> str:
    with shards.TarWriter(path) as writer:
        for seed in range(count):
            writer.write(f"key-{seed}", sample_of(seed)[1])
        return writer.close()


def equal(a: Layers, b: Layers) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in CHANNELS)


# round trip


def test_layers_and_records_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard_of(path)
    read = list(shards.read_samples(path))
    assert [key for key, _ in read] == ["key-0", "key-1", "key-2"]
    for seed, (key, sample) in enumerate(read):
        layers, _ = sample_of(seed)
        assert list(sample) == MEMBERS
        assert equal(shards.decode_layers(sample), layers)
        assert shards.decode_layers(sample).recomposition_error() == 0
        assert shards.decode_record(sample) == record_of(key)


@pytest.mark.parametrize("image", ["png", "jpg"])
@pytest.mark.parametrize("background", ["png", "jpg"])
def test_every_choice_of_formats_keeps_its_bound(image: str, background: str) -> None:
    members = shards.Members(image=image, background=background)
    layers, sample = sample_of(0, members)
    assert {f"image.{image}", f"background.{background}"} < set(sample)
    decoded = shards.decode_layers(sample)
    assert np.array_equal(decoded.background, layers.background)
    assert np.array_equal(decoded.foreground, layers.foreground)
    assert decoded.recomposition_error() <= members.recomposition_bound
    assert (members.recomposition_bound == 0) == (image == "png")


def test_a_quality_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"members\.quality must lie in 1\.\.100, got 0"):
        shards.Members(quality=0)


def test_equal_samples_give_equal_bytes_and_the_digest_of_the_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tar", tmp_path / "b.tar"
    digest = shard_of(first)
    assert digest == shard_of(second) == hashlib.sha256(first.read_bytes()).hexdigest()
    assert first.stat().st_size % 10_240 == 0


def test_the_writer_counts_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with shards.TarWriter(path) as writer:
        writer.write("k", {"json": b"{}"})
        writer.close()
        assert writer.size == path.stat().st_size


# other readers


def test_tarfile_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard_of(path)
    with tarfile.open(path) as tar:
        found = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        assert all((m.mtime, m.uid, m.gid, m.uname, m.mode) == (0, 0, 0, "", 0o644) for m in tar)
    assert found == list(shards.read_members(path))


def test_we_read_what_tarfile_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("k.json", b"{}"), ("k.empty", b""), ("k.block", bytes(range(256)) * 2)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1_700_000_000, "someone"
            tar.addfile(info, io.BytesIO(data))
    assert dict(shards.read_members(path)) == {"k.json": b"{}", "k.empty": b"", "k.block": bytes(range(256)) * 2}


def test_webdataset_yields_the_same_layers_with_their_alpha(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    path = tmp_path / "a-000000.tar"
    shard_of(path)
    dataset = wds.WebDataset(str(path), shardshuffle=False).map(shards.decode_layers)
    assert [equal(layers, sample_of(seed)[0]) for seed, layers in enumerate(dataset)] == [True] * 3
    records = wds.WebDataset(str(path), shardshuffle=False).map(shards.decode_record)
    assert [record.key for record in records] == ["key-0", "key-1", "key-2"]


# damage


def test_a_shard_cut_at_any_block_is_refused(tmp_path: Path) -> None:
    """``tarfile`` and ``webdataset`` stop in silence there. Zeros after the end mark may be missing."""
    path, cut = tmp_path / "a.tar", tmp_path / "cut.tar"
    shard_of(path, 2)
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    whole = list(shards.read_members(path))
    for length in range(0, end + 1024, 512):
        cut.write_bytes(data[:length])
        with pytest.raises(ShardError, match=r"cut\.tar"):
            list(shards.read_members(cut))
    cut.write_bytes(data[: end + 1024])
    assert list(shards.read_members(cut)) == whole


@pytest.mark.parametrize("lost", [1, 100, 511, 700])
def test_a_shard_cut_within_a_block_is_refused(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.tar"
    shard_of(path, 1)
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[:-lost])
    with pytest.raises(ShardError, match="truncated"):
        list(shards.read_members(path))


def test_a_flip_of_any_byte_of_a_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard_of(path, 1)
    data = path.read_bytes()
    for position in range(512):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ShardError, match="bad tar header at byte 0"):
            list(shards.read_members(path))


def test_a_zeroed_block_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    shard_of(path, 3)
    data = bytearray(path.read_bytes())
    second = data.index(b"key-1.image.png")
    data[second : second + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(ShardError, match=f"expected zeros to the end from byte {second}"):
        list(shards.read_members(path))


@pytest.mark.parametrize("size", [b"-0000001000", b" 0000001000", b"0x000000010"])
def test_a_size_that_is_no_number_never_turns_the_reader_back(tmp_path: Path, size: bytes) -> None:
    path = tmp_path / "a.tar"
    shard_of(path, 1)
    data = bytearray(path.read_bytes())
    data[124:135] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(ShardError, match="bad tar header"):
        list(shards.read_members(path))


def test_a_member_may_not_stand_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with shards.TarWriter(path) as writer:
        for _ in range(2):
            writer.write_member("k.json", b"{}")
        writer.close()
    with pytest.raises(ShardError, match=r"k\.json stands twice"):
        list(shards.read_samples(path))


def test_a_name_has_a_hundred_bytes(tmp_path: Path) -> None:
    with shards.TarWriter(tmp_path / "a.tar") as writer:
        writer.write_member("k" * 95 + ".json", b"{}")
        with pytest.raises(ValueError, match="may have 100 bytes, got 101"):
            writer.write_member("k" * 96 + ".json", b"{}")
        writer.close()
    assert [name for name, _ in shards.read_members(tmp_path / "a.tar")] == ["k" * 95 + ".json"]


@pytest.mark.parametrize("name", MEMBERS[:-1])
def test_a_missing_or_broken_member_is_named(name: str) -> None:
    _, sample = sample_of(0)
    with pytest.raises(ShardError, match="s: expected each of the members"):
        shards.decode_layers({k: v for k, v in sample.items() if k != name}, "s")
    with pytest.raises(ShardError, match="s: unreadable"):
        shards.decode_layers(sample | {name: sample[name][: len(sample[name]) // 2]}, "s")


def test_unknown_doubled_and_odd_sized_members_are_refused() -> None:
    _, sample = sample_of(0)
    with pytest.raises(ShardError, match=r"depth\.png"):
        shards.decode_layers(sample | {"depth.png": sample["mask.png"]})
    with pytest.raises(ShardError, match=r"image\.jpg"):
        shards.decode_layers(sample | {"image.jpg": sample["background.jpg"]})
    with pytest.raises(ShardError, match="mask must be uint8 of shape"):
        shards.decode_layers(sample | {"mask.png": sample["image.png"]})


def test_a_sample_without_a_record_is_refused() -> None:
    with pytest.raises(ShardError, match="expected a json member, got"):
        shards.decode_record({"image.png": b""})

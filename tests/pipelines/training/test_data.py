import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerkit.manifests.errors import RunError, ShardError, UsageError
from layerkit.manifests.exclusions import EXCLUDE
from layerkit.pipelines.training.composed import ComposedData, PairData, RenderedData
from layerkit.pipelines.training.data import Batches, ShardData
from layerkit.pipelines.training.sample import LAYERS, Batch, Mixed, Sample, Stream, View, collate, object_alone
from layerkit.toolkit.compose import fold_shadow_u8, over_u8
from layerkit.toolkit.images import encode_jpeg, encode_png
from layerkit.toolkit.mask_augment import POLICIES
from layerkit.toolkit.shards import TarWriter, decode_layers, read_samples

SIDE = 24
COUNT = 22  # samples of the fixture: no multiple of any batch size here
PLAIN = View(size=SIDE, crop=False, flip=0)
RANDOM = View(size=16, masks=dict.fromkeys(POLICIES, 1.0))


def layers_of(number: int) -> dict[str, np.ndarray]:
    """A sample of noise that recomposes, with an ellipse for its object."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = (y - 12) ** 2 + 2 * (x - 9) ** 2 < 60
    foreground = rng.integers(0, 256, (SIDE, SIDE, 4), np.uint8) * mask[..., None].astype(np.uint8)
    background = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return {
        "image": over_u8(foreground, background),
        "foreground": foreground,
        "background": background,
        "mask": mask.astype(np.uint8) * 255,
        "occluder": np.zeros((SIDE, SIDE, 4), np.uint8),
    }


def members_of(layers: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {f"{name}.png": encode_png(layer) for name, layer in layers.items()} | {"json": b'{"caption": "noise"}'}


def write_shard(path: Path, samples: dict[str, dict[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(path) as writer:
        for key, members in samples.items():
            writer.write(key, members)
        writer.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of train and one of val, for reading only."""
    root = tmp_path_factory.mktemp("shards") / "build"
    for name, numbers in {"train-a-000000": range(9), "train-b-000001": range(9, COUNT), "val-a-000002": [99]}.items():
        write_shard(root / "data" / f"{name}.tar", {f"s{k:02d}": members_of(layers_of(k)) for k in numbers})
    return root


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[bytes], Path]:
    """A folder of one shard whose sample s2 has other bytes for its image."""

    def make(image: bytes) -> Path:
        samples = {f"s{k}": members_of(layers_of(k)) for k in range(4)}
        samples["s2"]["image.png"] = image
        write_shard(tmp_path / "data" / "train-a-000000.tar", samples)
        return tmp_path

    return make


def take(batches: Batches, count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def equal(first: Batch, second: Batch) -> bool:
    names = (*LAYERS, "has_foreground")
    return first.keys == second.keys and all(torch.equal(getattr(first, n), getattr(second, n)) for n in names)


def keys_of(batches: list[Batch]) -> list[str]:
    return [key for batch in batches for key in batch.keys]


# ---- shards


def test_members_come_as_they_were_written(folder: Path):
    data = ShardData([folder], "train", PLAIN, shuffle=False)
    assert len(data) == COUNT
    for number in range(COUNT):
        sample = data[number]
        assert (sample.key, sample.caption) == (f"s{number:02d}", "noise")
        assert sample.has_foreground
        for name in LAYERS:
            assert np.array_equal(getattr(sample, name), layers_of(number)[name])


def test_a_real_build_reads_as_its_own_decoder_reads_it(tiny_build: Path):
    data = ShardData([tiny_build], "train", View(size=64, flip=0), shuffle=False)
    truth = [sample for path in sorted((tiny_build / "data").glob("*.tar")) for sample in read_samples(path)]
    assert len(data) == len(truth)
    for number, (key, members) in enumerate(truth):
        layers, sample = decode_layers(members), data[number]
        assert sample.key == key
        assert sample.caption == json.loads(members["json"])["caption"] != ""
        assert np.array_equal(sample.image, layers.image)
        assert np.array_equal(sample.mask, layers.mask)
        assert np.array_equal(sample.background, over_u8(layers.occluder, layers.background))
        clear = layers.occluder[..., 3] == 0
        assert np.array_equal(sample.foreground[clear], layers.foreground[clear])


def test_what_hides_the_object_stands_in_the_background_and_the_seen_part_recomposes(tiny_build: Path):
    """Where only a shadow, or nothing, or an opaque object lies in front, the recomposition is the image."""
    data, whole = (
        ShardData([tiny_build], "train", View(size=64, flip=0, amodal=amodal), shuffle=False)
        for amodal in (False, True)
    )
    occluded = 0
    for number, (_, members) in enumerate(
        sample for path in sorted((tiny_build / "data").glob("*.tar")) for sample in read_samples(path)
    ):
        layers, sample = decode_layers(members), data[number]
        assert np.array_equal(whole[number].foreground, layers.foreground)
        assert np.array_equal(whole[number].background, sample.background)
        difference = np.abs(over_u8(sample.foreground, sample.background).astype(int) - sample.image)
        assert difference.max() <= 3
        hidden = (layers.occluder[..., 3] == 255) & (layers.foreground[..., 3] > 0)
        assert not sample.foreground[hidden].any()
        occluded += hidden.sum()
    assert occluded


def test_the_object_alone_is_the_foreground_without_its_shadow():
    rng = np.random.default_rng(0)
    colour, alpha, shadow = (rng.integers(0, 256, (9, 9, *c), np.uint8) for c in ((3,), (), ()))
    shadow = np.minimum(shadow, 216)  # the darkest that the contract allows
    alone = object_alone(fold_shadow_u8(colour, alpha, shadow), shadow)
    assert np.abs(alone[..., 3].astype(int) - alpha).max() <= 4
    seen = alpha > 64
    assert np.abs(alone[seen][:, :3].astype(int) - colour[seen]).max() <= 9
    assert not object_alone(fold_shadow_u8(colour, 0 * alpha, shadow), shadow)[..., :3].any()


def test_effects_can_be_taken_out_of_a_build(tiny_build: Path):
    with_effects, without = (
        ShardData([tiny_build], "train", View(size=64, flip=0, effects=effects), shuffle=False)
        for effects in (True, False)
    )
    shadows = 0
    for number in range(len(without)):
        one, other = with_effects[number], without[number]
        assert np.array_equal(one.image, other.image)
        assert (other.foreground[..., 3] <= one.foreground[..., 3].astype(int) + 1).all()
        shadows += int((other.foreground[..., 3] < one.foreground[..., 3]).sum())
    assert shadows


def test_rendered_scenes_are_drawn_by_number_and_recompose():
    data = RenderedData("train", View(size=32))
    samples = [data[number] for number in (3, 0, 3)]
    assert np.array_equal(samples[0].image, samples[2].image)
    assert not np.array_equal(samples[0].image, samples[1].image)
    assert not np.array_equal(samples[0].image, RenderedData("val", View(size=32))[3].image)
    for sample in samples:
        assert 0.02 <= (sample.mask > 0).mean() <= 0.5
        assert sample.caption.startswith("a rendered ")
        assert np.abs(over_u8(sample.foreground, sample.background).astype(int) - sample.image).max() <= 3


def test_an_epoch_is_every_sample_once_in_an_order_of_its_own(folder: Path):
    data = ShardData([folder], "train", RANDOM)
    epochs = [[data[epoch * COUNT + k].key for k in range(COUNT)] for epoch in range(3)]
    assert all(sorted(epoch) == [f"s{k:02d}" for k in range(COUNT)] for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    other = ShardData([folder], "train", RANDOM, seed=1)
    assert [other[k].key for k in range(COUNT)] != epochs[0]


def test_a_sample_looks_different_in_every_epoch(folder: Path):
    data = ShardData([folder], "train", RANDOM, shuffle=False)
    looks = {data[epoch * COUNT].image.tobytes() for epoch in range(6)}
    assert len(looks) >= 5


def test_several_folders_are_one_set(folder: Path, tiny_build: Path):
    data = ShardData([folder, tiny_build], "train", View(size=SIDE))
    assert len(data) == COUNT + 12


def test_jpeg_members_are_read(tmp_path: Path):
    layers = layers_of(0)
    members = members_of(layers)
    del members["background.png"]
    members["background.jpg"] = encode_jpeg(np.full((SIDE, SIDE, 3), 77, np.uint8))
    write_shard(tmp_path / "data" / "train-a-000000.tar", {"s0": members})
    sample = ShardData([tmp_path], "train", PLAIN)[0]
    assert np.abs(sample.background.astype(int) - 77).max() <= 2
    assert np.array_equal(sample.image, layers["image"])


def test_keys_that_a_build_excludes_are_left_out_of_it_alone(folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "manifests").mkdir()
    (other / EXCLUDE).write_text("s03\n\n s20 \n")
    every = {f"s{k:02d}" for k in range(COUNT)}
    assert held_by(ShardData([other], "train", PLAIN)) == sorted(every - {"s03", "s20"})
    assert held_by(ShardData([folder, other], "train", PLAIN)) == sorted([*every, *every - {"s03", "s20"}])
    (other / EXCLUDE).write_text("\n".join(every))
    with pytest.raises(UsageError, match="no train sample"):
        ShardData([other], "train", PLAIN)
    (other / EXCLUDE).write_bytes(b"\xff")
    with pytest.raises(UsageError, match="a key a line"):
        ShardData([other], "train", PLAIN)


def held_by(data: ShardData) -> list[str]:
    return sorted(data[k].key for k in range(len(data)))


def test_folders_that_cannot_be_trained_on_say_why(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"finished build with data/\*\.tar"):
        ShardData([tmp_path], "train", PLAIN)
    with pytest.raises(UsageError, match=r"expected shards of test, got train, val"):
        ShardData([folder], "test", PLAIN)
    with pytest.raises(UsageError, match=r"at least 48 px, got 24"):
        ShardData([folder], "train", View(size=48))


# ---- broken shards and samples


def test_a_broken_sample_is_named(damaged: Callable[[bytes], Path]):
    data = ShardData([damaged(b"no picture")], "train", PLAIN)
    with pytest.raises(ShardError, match=r"train-a-000000\.tar: s2: unreadable"):
        [data[k] for k in range(4)]


def test_a_member_of_another_shape_is_named(damaged: Callable[[bytes], Path]):
    data = ShardData([damaged(encode_png(np.zeros((SIDE, SIDE, 4), np.uint8)))], "train", PLAIN)
    with pytest.raises(ShardError, match=r"s2\.image: expected shape \(24, 24, 3\), got \(24, 24, 4\)"):
        [data[k] for k in range(4)]


def test_a_record_without_a_caption_is_named(tmp_path: Path):
    write_shard(tmp_path / "data" / "train-a-000000.tar", {"s": members_of(layers_of(0)) | {"json": b"[]"}})
    with pytest.raises(ShardError, match=r"s\.json: expected a record with a caption"):
        ShardData([tmp_path], "train", PLAIN)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_samples_stop_the_batches_or_are_replaced_and_counted(
    damaged: Callable[[bytes], Path], workers: int, caplog: pytest.LogCaptureFixture
):
    data = ShardData([damaged(b"no picture")], "train", PLAIN, shuffle=False)
    with pytest.raises(ShardError, match=r"^\S*train-a-000000\.tar: s2: unreadable"):
        take(Batches(data, 4, workers=workers), 1)
    batches = Batches(data, 4, workers=workers, skip_broken=True)
    made = take(batches, 2)
    assert [sorted(set(batch.keys)) for batch in made] == [["s0", "s1", "s3"]] * 2
    assert all(batch.image.shape[0] == 4 for batch in made)
    assert batches.skipped == 2
    assert caplog.text.count("s2: unreadable") == 2


def test_the_first_sample_may_be_the_broken_one(tmp_path: Path):
    samples = {f"s{k}": members_of(layers_of(k)) for k in range(2)}
    samples["s0"]["mask.png"] = b""
    write_shard(tmp_path / "data" / "train-a-000000.tar", samples)
    with pytest.raises(ShardError, match="s0"):
        ShardData([tmp_path], "train", PLAIN)
    data = ShardData([tmp_path], "train", PLAIN, skip_broken=True)
    (batch,) = take(Batches(data, 2, skip_broken=True), 1)
    assert batch.keys == ("s1", "s1")


def test_a_batch_of_nothing_but_broken_samples_stops(damaged: Callable[[bytes], Path]):
    data = ShardData([damaged(b"no picture")], "train", PLAIN, shuffle=False)
    with pytest.raises(ShardError, match="s2"):
        take(Batches(data, 1, skip_broken=True), 4)


@pytest.mark.parametrize("fault", ["cut", "flipped", "lacking"])
def test_a_broken_shard_is_named_or_left_out(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture):
    write_shard(tmp_path / "data" / "train-a-000000.tar", {"good": members_of(layers_of(0))})
    path = tmp_path / "data" / "train-a-000001.tar"
    members = members_of(layers_of(1))
    if fault == "lacking":
        del members["mask.png"]
    write_shard(path, {"fine": members_of(layers_of(2)), "bad": members})
    data = bytearray(path.read_bytes())
    if fault == "flipped":
        data[3] ^= 1
    path.write_bytes(data[: 3 * len(data) // 5] if fault == "cut" else data)
    with pytest.raises(ShardError, match=r"train-a-000001\.tar"):
        ShardData([tmp_path], "train", PLAIN)
    rest = ShardData([tmp_path], "train", PLAIN, skip_broken=True)
    assert [rest[k].key for k in range(len(rest))] == ["good"]
    assert "train-a-000001.tar" in caplog.text


# ---- batches


def test_a_batch_is_uint8_and_channel_first(folder: Path):
    (batch,) = take(Batches(ShardData([folder], "train", PLAIN, shuffle=False), 5), 1)
    shapes = {name: tuple(getattr(batch, name).shape) for name in LAYERS}
    assert shapes == {
        "image": (5, 3, SIDE, SIDE),
        "foreground": (5, 4, SIDE, SIDE),
        "background": (5, 3, SIDE, SIDE),
        "mask": (5, 1, SIDE, SIDE),
    }
    assert all(getattr(batch, name).dtype == torch.uint8 for name in LAYERS)
    assert batch.has_foreground.tolist() == [True] * 5
    assert batch.captions == ("noise",) * 5
    assert batch.image[3, 1].numpy().tolist() == layers_of(3)["image"][..., 1].tolist()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_an_epoch_without_overlap(folder: Path, world: int):
    data = ShardData([folder], "train", PLAIN)
    steps = COUNT // (2 * world)
    ranks = [keys_of(take(Batches(data, 2, rank=rank, world=world), steps)) for rank in range(world)]
    together = [key for keys in ranks for key in keys]
    assert len(together) == len(set(together)) == steps * 2 * world
    assert set(together) == {data[k].key for k in range(steps * 2 * world)}


def test_the_stream_resumes_bit_equal_anywhere(folder: Path):
    data = ShardData([folder], "train", RANDOM)
    batches = Batches(data, 4)
    states, whole = [batches.state()], []
    for batch in itertools.islice(batches, 14):
        whole.append(batch)
        states.append(batches.state())
    for done, state in enumerate(states[:-1]):
        again = Batches(ShardData([folder], "train", RANDOM), 4)
        again.resume(state)
        assert all(map(equal, take(again, 3), whole[done:]))
    for done in (0, 1, 5, 11):  # over the end of the first epoch and the second; batches are read ahead here
        again = Batches(data, 4, workers=2)
        again.resume(states[done])
        made = []
        for batch in itertools.islice(again, 3):
            made.append(batch)
            assert again.state() == states[done + len(made)]
        assert all(map(equal, made, whole[done:]))


def test_other_ranks_go_on_where_one_stopped(folder: Path):
    data = ShardData([folder], "train", PLAIN)
    alone = Batches(data, 4)
    take(alone, 3)
    ranks = [Batches(data, 2, rank=rank, world=2) for rank in range(2)]
    for rank in ranks:
        rank.resume(alone.state())
    expected = keys_of(take(alone, 2))
    first, second = (keys_of(take(rank, 2)) for rank in ranks)
    assert [*first[:2], *second[:2], *first[2:], *second[2:]] == expected


def test_a_state_of_other_data_is_refused(folder: Path, tiny_build: Path):
    state = Batches(ShardData([folder], "train", PLAIN), 4).state()
    for data in (
        ShardData([folder], "train", PLAIN, seed=1),
        ShardData([folder], "train", View(size=16)),
        ShardData([tiny_build], "train", PLAIN),
    ):
        with pytest.raises(UsageError, match="start a new run"):
            Batches(data, 4).resume(state)


class Numbers:
    """A stream that says which number was asked for; 13 fails for good."""

    def __init__(self, name: str = "n", size: int = 2) -> None:
        self.size, self.identity = size, name

    def __getitem__(self, number: int) -> Sample:
        if number == 13:
            raise RunError("the disk is gone")
        grey = np.zeros((self.size, self.size, 4), np.uint8)
        layers = {"image": grey[..., :3].copy(), "foreground": grey, "background": grey[..., :3].copy()}
        return Sample(**layers, mask=grey[..., 0].copy(), has_foreground=True, key=f"{self.identity}{number}")


@pytest.mark.parametrize("workers", [0, 2])
def test_other_errors_are_raised_at_their_batch_even_where_broken_samples_are_skipped(workers: int):
    batches = iter(Batches(Numbers(), 4, workers=workers, skip_broken=True))
    assert [next(batches).keys[0] for _ in range(3)] == ["n0", "n4", "n8"]
    with pytest.raises(RunError, match="the disk is gone"):
        next(batches)


def test_no_thread_stays_when_the_reader_stops(folder: Path):
    before = threading.active_count()
    batches = iter(Batches(ShardData([folder], "train", PLAIN), 4, workers=2))
    next(batches)
    assert threading.active_count() == before + 2
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 1, "workers": -1}, {"batch": 1, "rank": 2, "world": 2}])
def test_impossible_batches_are_refused(wrong: dict[str, int]):
    with pytest.raises(UsageError, match="expected batch >= 1"):
        Batches(Numbers(), **wrong)


# ---- view


def ramp(side: int) -> dict[str, np.ndarray]:
    """Layers whose pixels all say where they lie, smooth enough to be shrunk without loss."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    plane = np.rint(np.dstack([255 * x, 255 * y, 128 + 0 * x])).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 2 : side // 2 + 8, side // 4 : side // 4 + 12] = 255
    opaque = np.dstack([plane, np.full((side, side), 255, np.uint8)])
    return {"image": plane, "foreground": opaque, "background": plane, "mask": mask, "occluder": 0 * opaque}


def test_all_layers_are_cropped_shrunk_and_mirrored_alike():
    flipped = set()
    for seed in range(40):
        sample = View(size=32)(ramp(96), "key", np.random.default_rng(seed))
        image = sample.image.astype(int)
        assert np.abs(image - sample.foreground[..., :3]).max() <= 1
        assert np.array_equal(sample.image, sample.background)
        assert (sample.foreground[..., 3] == 255).all()
        slope = (image[:, -1, 0] - image[:, 0, 0]).mean() / 31  # levels a pixel: the crop's side in sample pixels
        assert 0.55 < abs(slope) * 32 / 255 < 1.02
        flipped.add(bool(slope < 0))
        rows, columns = np.nonzero(sample.mask)
        assert np.abs(image[rows, columns, 0].mean() - 255 * (24 + 5.5) / 96) < 6  # the object goes with its pixels
        assert np.abs(image[rows, columns, 1].mean() - 255 * (48 + 3.5) / 96) < 6
    assert flipped == {False, True}


def test_hidden_colour_does_not_bleed_when_a_foreground_is_shrunk():
    layers = ramp(64)
    foreground = np.zeros((64, 64, 4), np.uint8)
    foreground[...] = (255, 0, 0, 0)
    foreground[21:43, 17:38] = (0, 200, 0, 255)
    sample = View(size=24, crop=False, flip=0)(layers | {"foreground": foreground}, "key", np.random.default_rng(0))
    visible = sample.foreground[sample.foreground[..., 3] > 0]
    assert visible[:, 0].max() == 0
    assert np.abs(visible[:, 1].astype(int) - 200).max() <= 1
    assert ((visible[:, 3] > 0) & (visible[:, 3] < 255)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 70), st.integers(20, 70), st.integers(0, 2**32), st.booleans(), st.data())
def test_a_crop_holds_the_object(height: int, width: int, seed: int, crop: bool, draw: st.DataObject):
    top, left = draw.draw(st.integers(0, height - 3)), draw.draw(st.integers(0, width - 3))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + 3, left : left + 3] = 255
    grey = np.zeros((height, width, 4), np.uint8)
    photo = grey[..., :3]
    layers = {"image": photo, "foreground": grey, "background": photo, "mask": mask, "occluder": 0 * grey}
    sample = View(size=20, crop=crop)(layers, "key", np.random.default_rng(seed))
    assert sample.mask.any()
    assert set(np.unique(sample.mask)) <= {0, 255}


def test_masks_are_augmented_by_the_seed_alone(folder: Path):
    view = View(size=SIDE, crop=False, flip=0, masks={"loose": 1.0})
    first, second = (ShardData([folder], "train", view, shuffle=False)[0] for _ in range(2))
    tight = layers_of(0)["mask"]
    assert np.array_equal(first.mask, second.mask)
    assert (first.mask >= tight).all()
    assert (first.mask != tight).any()


# ---- mixed


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 500))
def test_shares_hold_in_any_stretch_and_every_stream_is_read_in_order(shares: list[int], start: int):
    names = "abcd"[: len(shares)]
    mixed = Mixed([(Numbers(name), share / 7) for name, share in zip(names, shares, strict=True)])
    keys = [mixed._find(number) for number in range(start, start + 100)]
    for part, share in enumerate(shares):
        numbers = [number for found, number in keys if found == part]
        assert abs(len(numbers) - 100 * share / sum(shares)) < len(shares)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


def test_mixed_reads_from_the_streams_it_names():
    mixed = Mixed([(Numbers("a"), 3), (Numbers("b"), 1)])
    assert [mixed[k].key for k in range(8)] == ["b0", "a0", "a1", "a2", "b1", "a3", "a4", "a5"]
    assert mixed.identity != Mixed([(Numbers("a"), 1), (Numbers("b"), 1)]).identity
    (batch,) = take(Batches(mixed, 4), 1)
    assert batch.keys == ("b0", "a0", "a1", "a2")


def test_streams_that_cannot_be_mixed_are_refused():
    with pytest.raises(UsageError, match="shares above 0"):
        Mixed([(Numbers(), 0.0)])
    with pytest.raises(UsageError, match="shares above 0"):
        Mixed([])
    with pytest.raises(UsageError, match="one size"):
        Mixed([(Numbers(size=2), 1), (Numbers(size=4), 1)])


# ---- composed on load


@pytest.fixture(scope="module")
def composed(tiny_build: Path) -> ComposedData:
    return ComposedData(tiny_build, "paste", "train", View(size=48, flip=0))


def test_composed_samples_are_functions_of_seed_and_number(composed: ComposedData, tiny_build: Path):
    again = ComposedData(tiny_build, "paste", "train", View(size=48, flip=0))
    forward = [composed[k] for k in range(6)]
    assert all(equal(collate([again[k]]), collate([forward[k]])) for k in reversed(range(6)))
    assert len({sample.image.tobytes() for sample in forward}) == 6
    other = ComposedData(tiny_build, "paste", "train", View(size=48, flip=0), seed=1)
    assert not np.array_equal(other[0].image, forward[0].image)
    assert other.identity != composed.identity == again.identity


def test_composed_samples_recompose_to_the_bit(composed: ComposedData):
    samples = [composed[k] for k in range(12)]
    whole = [np.array_equal(over_u8(one.foreground, one.background), one.image) for one in samples]
    assert sum(whole) >= 4  # where nothing stands in front
    assert all(one.mask.any() and one.has_foreground and one.caption for one in samples)


def test_composed_batches_resume_and_share_workers(composed: ComposedData):
    alone = Batches(composed, 2)
    take(alone, 1)
    state = alone.state()
    expected = take(alone, 3)
    apart = Batches(composed, 2, workers=2)
    apart.resume(state)
    assert all(map(equal, take(apart, 3), expected))


def test_what_a_build_holds_out_stays_held_out(build_demo: Callable[..., object], tmp_path: Path):
    build_demo(tmp_path / "out", splits={"val": 0.4})
    halves = [ComposedData(tmp_path / "out", "paste", split, View(size=48)) for split in ("train", "val")]
    train, val = ({data[k].key.rpartition("-")[0] for k in range(12)} for data in halves)
    assert not train & val
    with pytest.raises(UsageError, match=r"nothing of it is in test"):
        ComposedData(tmp_path / "out", "paste", "test", View(size=48))


def test_builds_that_cannot_be_composed_from_say_why(tiny_build: Path, folder: Path):
    with pytest.raises(UsageError, match=r"one of the mixes paste, cut, got 'glue'"):
        ComposedData(tiny_build, "glue", "train", View(size=48))
    with pytest.raises(UsageError, match="expected a build folder"):
        ComposedData(folder, "paste", "train", View(size=48))


# ---- pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("image", "background", "mask"):
        (tmp_path / folder / "scene").mkdir(parents=True)
    for name in ("a", "b"):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20, 30:50] = 255
        (tmp_path / "mask" / "scene" / f"{name}.png").write_bytes(encode_png(mask))
        for folder in ("image", "background"):
            picture = rng.integers(0, 256, (40, 60, 3), np.uint8)
            (tmp_path / folder / "scene" / f"{name}.jpg").write_bytes(encode_jpeg(picture))
    (tmp_path / "image" / "alone.jpg").write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    return tmp_path


def test_pairs_have_no_foreground(pairs: Path):
    data = PairData(pairs, View(size=32))
    assert len(data) == 2
    (batch,) = take(Batches(data, 2), 1)
    assert sorted(batch.keys) == ["scene/a", "scene/b"]
    assert not batch.has_foreground.any()
    assert not batch.foreground.any()
    assert batch.mask.amax((1, 2, 3)).tolist() == [255, 255]
    assert not torch.equal(batch.image, batch.background)


def test_real_pairs_are_read(shared_data: Path):
    data = PairData(shared_data / "smarteraser" / "Model_framework" / "visual_examples", View(size=128, flip=0))
    for number in range(3):
        sample = data[number]
        change = np.abs(sample.image.astype(int) - sample.background).mean(-1)
        covered = sample.mask > 0
        assert covered.any()
        assert change[covered].mean() > 2 * change[~covered].mean()  # the mask lies where the object was


def test_pairs_that_do_not_fit_are_named(pairs: Path):
    (pairs / "mask" / "scene" / "a.png").write_bytes(encode_png(np.zeros((8, 8), np.uint8)))
    with pytest.raises(ShardError, match=r"pair scene/a: expected three pictures of one size, got 60 x 40"):
        PairData(pairs, View(size=32), shuffle=False)[0]
    (pairs / "mask" / "scene" / "a.png").write_bytes(b"")
    with pytest.raises(ShardError, match=r"pair scene/a: .*0 bytes"):
        PairData(pairs, View(size=32), shuffle=False)[0]
    (pairs / "mask" / "scene" / "a.png").write_bytes(encode_png(np.full((40, 60), 255, np.uint8)))
    with pytest.raises(ShardError, match=r"pair scene/a: 100% of the mask is white"):
        PairData(pairs, View(size=32), shuffle=False)[0]
    with pytest.raises(ShardError, match=r"scene/b: expected at least 48 px a side, got 40"):
        PairData(pairs, View(size=48), shuffle=False)[1]


def test_folders_without_pairs_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="three folders"):
        PairData(tmp_path, View(size=32))
    for name in ("image", "background", "mask"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="no picture"):
        PairData(tmp_path, View(size=32))


def test_pairs_and_triplets_mix(pairs: Path, folder: Path):
    parts: list[tuple[Stream, float]] = [
        (ShardData([folder], "train", View(size=16)), 3),
        (PairData(pairs, View(size=16)), 1),
    ]
    for batch in take(Batches(Mixed(parts), 8), 3):
        assert batch.has_foreground.sum() == 6

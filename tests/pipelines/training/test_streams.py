"""What a run is trained on and what is held out of it."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.record import NOT_MEASURED
from layerkit.pipelines.training.config import DataOptions
from layerkit.pipelines.training.sample import Stream
from layerkit.pipelines.training.streams import Sources, held_out_how, trained_on, validated_on
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.shards import read_samples

OPTIONS = DataOptions(size=32, held_out=0.4)


def keys_of(stream: Stream, count: int) -> list[str]:
    return [stream[number].key for number in range(count)]


def keys_in(build: Path, split: str = "") -> set[str]:
    return {key for path in (build / "data").glob(f"{split}*.tar") for key, _ in read_samples(path)}


def with_options(**changes: Any) -> DataOptions:
    return DataOptions(**{"size": 32, "held_out": 0.4} | changes)


@pytest.fixture(scope="module")
def split_build(build_demo: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose pictures are divided between train and val."""
    out = tmp_path_factory.mktemp("split") / "build"
    build_demo(out, settings=["splits.val=0.3"], seed=2, count=16)
    return out


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs with and without an object."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for name in ("image", "background", "mask"):
        (root / name).mkdir()
        for number in range(3):
            picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
            if name == "mask":
                picture[:] = 0
                picture[10:20, 10:20] = 255
            (root / name / f"pair{number}.png").write_bytes(encode_png(picture))
    return root


# ---- held out


def test_held_out_samples_are_those_that_are_not_trained_on(tiny_build: Path):
    sources = Sources(builds=(tiny_build,))
    trained = set(keys_of(trained_on(OPTIONS, sources, seed=0), 40))
    held_out = [sample.key for sample in validated_on(OPTIONS, sources, seed=0, count=99)]
    assert held_out
    assert len(set(held_out)) == len(held_out)
    assert not trained & set(held_out)
    assert trained | set(held_out) == keys_in(tiny_build)
    assert "they share pictures" in held_out_how(sources)


def test_which_samples_are_held_out_is_a_matter_of_their_keys_alone(tiny_build: Path):
    """Not of the seed, so that runs are compared on the same; the lowest hashes are held out, so that shares nest."""
    sources = Sources(builds=(tiny_build,))
    found = {
        (share, seed): {s.key for s in validated_on(with_options(held_out=share), sources, seed, 99)}
        for share in (0.2, 0.7)
        for seed in (0, 1)
    }
    for share in (0.2, 0.7):
        hashes = {key: int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 for key in keys_in(tiny_build)}
        assert found[share, 0] == found[share, 1] == {key for key, value in hashes.items() if value < share}
    assert found[0.2, 0] < found[0.7, 0]


def test_nothing_held_out_is_nothing(tiny_build: Path, caplog: pytest.LogCaptureFixture):
    options, sources = with_options(held_out=0.0), Sources(builds=(tiny_build,))
    assert set(keys_of(trained_on(options, sources, seed=0), 40)) == keys_in(tiny_build)
    with caplog.at_level(logging.WARNING):
        assert validated_on(options, sources, seed=0, count=9) == []
    assert "nothing is held out" in caplog.text


def test_a_split_of_its_own_is_held_out_whole(split_build: Path):
    sources = Sources(builds=(split_build,))
    trained, val = keys_in(split_build, "train-"), keys_in(split_build, "val-")
    assert trained
    assert val
    assert set(keys_of(trained_on(OPTIONS, sources, seed=0), 3 * len(trained))) == trained
    assert {sample.key for sample in validated_on(OPTIONS, sources, seed=0, count=99)} == val
    assert len(validated_on(OPTIONS, sources, seed=0, count=1)) == 1
    assert "shares no picture" in held_out_how(sources)


def test_a_build_without_the_split_makes_all_be_held_out_by_key(split_build: Path, tiny_build: Path):
    sources = Sources(builds=(split_build, tiny_build))
    held_out = {sample.key for sample in validated_on(OPTIONS, sources, seed=0, count=99)}
    trained = set(keys_of(trained_on(OPTIONS, sources, seed=0), 99))
    assert not held_out & trained
    assert held_out | trained == keys_in(split_build, "train-") | keys_in(tiny_build)


def test_held_out_samples_are_looked_at_plainly(tiny_build: Path):
    """The same every time: whole, not mirrored, with the masks of the run."""
    options, sources = with_options(flip=1.0), Sources(builds=(tiny_build,))
    plain = validated_on(with_options(flip=0.0, crop=False), sources, seed=0, count=9)
    for one, other in zip(validated_on(options, sources, seed=0, count=9), plain, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.mask, other.mask)


# ---- left out


def test_foregrounds_of_a_data_set_are_left_out(tiny_build: Path, tmp_path: Path):
    """And those alone: what hides an object, or lies behind it, may be of that data set."""
    build = shutil.copytree(tiny_build, tmp_path / "build")
    manifest, made = build / "manifests" / "samples.parquet", set()
    table = pq.read_table(manifest)
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        for layer in row["layers"]:
            if (layer["layer"] == "foreground") == (number % 3 == 0):
                layer["dataset"] = "layerdiffuse"
        made |= {row["key"]} if number % 3 == 0 else set()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), manifest)
    sources, options = Sources(builds=(build,)), with_options(without=("layerdiffuse", "absent"), held_out=0.0)
    assert set(keys_of(trained_on(options, sources, seed=0), 40)) == keys_in(build) - made
    held_out = validated_on(with_options(without=("layerdiffuse",), held_out=0.9), sources, seed=0, count=99)
    assert held_out
    assert not {sample.key for sample in held_out} & made
    with pytest.raises(UsageError, match="no train sample"):
        trained_on(with_options(without=("layerdiffuse", "embedded")), sources, seed=0)


def test_samples_whose_scores_lie_outside_are_left_out(tiny_build: Path, tmp_path: Path):
    build = shutil.copytree(tiny_build, tmp_path / "build")
    manifest = build / "manifests" / "samples.parquet"
    table = pq.read_table(manifest)
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        row["scores"]["mask_quality"] = (0.2, 0.7, NOT_MEASURED)[number % 3]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), manifest)
    sources = Sources(builds=(build,))
    limited = with_options(scores={"mask_quality": (0.5, 1.0)}, held_out=0.0)
    left = {row["key"] for number, row in enumerate(rows) if number % 3}
    assert set(keys_of(trained_on(limited, sources, seed=0), 60)) == left
    assert set(keys_of(trained_on(with_options(held_out=0.0), sources, seed=0), 60)) == keys_in(build)
    with pytest.raises(UsageError, match=r"data\.scores: expected none with --data procedural"):
        trained_on(limited, Sources(rendered=True), seed=0)
    with pytest.raises(UsageError, match=r"scores: expected names of side, .*, got beauty"):
        with_options(scores={"beauty": (0.0, 1.0)})


def test_a_build_without_a_manifest_cannot_say_what_it_is_made_of(tiny_build: Path, tmp_path: Path):
    (tmp_path / "data").symlink_to(tiny_build / "data")
    with pytest.raises(UsageError, match=r"without: expected a manifest of a build, .*samples\.parquet"):
        trained_on(with_options(without=("x",)), Sources(builds=(tmp_path,)), seed=0)


def test_excluded_keys_are_neither_trained_on_nor_held_out(tiny_build: Path, tmp_path: Path):
    trained, held_out = (
        trained_on(OPTIONS, Sources(builds=(tiny_build,)), 0)[0].key,
        validated_on(OPTIONS, Sources(builds=(tiny_build,)), 0, 1)[0].key,
    )
    (tmp_path / "keys.txt").write_text(f"{trained}\n{held_out}\n")
    sources = Sources(builds=(tiny_build,), exclude=tmp_path / "keys.txt")
    assert trained not in keys_of(trained_on(OPTIONS, sources, seed=0), 40)
    assert held_out not in [sample.key for sample in validated_on(OPTIONS, sources, seed=0, count=99)]
    with pytest.raises(UsageError, match="--exclude"):
        validated_on(OPTIONS, Sources(builds=(tiny_build,), exclude=tmp_path / "none.txt"), 0, 1)


# ---- shares


def test_composed_samples_have_their_share(tiny_build: Path, cache_dir: Path):
    sources, known = Sources(builds=(tiny_build,), cache=cache_dir), keys_in(tiny_build)
    half = keys_of(trained_on(with_options(compose=0.5), sources, seed=0), 20)
    assert sum(key in known for key in half) == 10
    whole = keys_of(trained_on(with_options(compose=1.0), sources, seed=0), 12)
    assert not set(whole) & known
    assert len(set(whole)) == 12
    mixes = [key.rpartition("-")[0] for key in whole]
    assert len(set(mixes)) > 1


def test_composed_samples_of_two_builds_are_as_many_of_each(tiny_build: Path, split_build: Path, cache_dir: Path):
    sources = Sources(builds=(tiny_build, split_build), cache=cache_dir)
    stream = trained_on(with_options(size=64, compose=0.5, held_out=0.0), sources, seed=0)
    shards = keys_in(tiny_build) | keys_in(split_build, "train-")
    assert sum(key in shards for key in keys_of(stream, 16)) == 8


def test_pairs_have_their_share_and_no_foreground(tiny_build: Path, photographs: Path):
    sources = Sources(builds=(tiny_build,), pairs=photographs)
    stream = trained_on(with_options(pairs=0.25), sources, seed=0)
    samples = [stream[number] for number in range(16)]
    pairs = [sample for sample in samples if sample.key.startswith("pair")]
    assert len(pairs) == 4
    assert not any(sample.has_foreground for sample in pairs)
    assert all(sample.has_foreground for sample in samples if sample not in pairs)
    rendered = trained_on(with_options(pairs=0.5), Sources(rendered=True, pairs=photographs), seed=0)
    assert sum(key.startswith("pair") for key in keys_of(rendered, 8)) == 4


def test_pairs_and_their_share_come_together(tiny_build: Path, photographs: Path):
    with pytest.raises(UsageError, match=r"--pairs: expected a share .* --set data\.pairs=0\.1"):
        trained_on(OPTIONS, Sources(builds=(tiny_build,), pairs=photographs), seed=0)
    with pytest.raises(UsageError, match=r"data\.pairs: expected --pairs with the folder"):
        trained_on(with_options(pairs=0.1), Sources(builds=(tiny_build,)), seed=0)


def test_rendered_scenes_stand_in_the_place_of_builds():
    """Whatever share of composed samples the recipe names."""
    sources = Sources(rendered=True)
    stream = trained_on(with_options(compose=1.0), sources, seed=0)
    assert [key.rpartition("-")[0] for key in keys_of(stream, 2)] == ["rendered-train"] * 2
    held_out = validated_on(OPTIONS, sources, seed=0, count=3)
    assert [sample.key.rpartition("-")[0] for sample in held_out] == ["rendered-val"] * 3
    assert "other scenes" in held_out_how(sources)


def test_builds_or_scenes_are_asked_for_and_not_both(tiny_build: Path):
    for wrong in (lambda: Sources(), lambda: Sources(builds=(tiny_build,), rendered=True)):
        with pytest.raises(UsageError, match="--data: expected the folders of builds, or procedural alone"):
            wrong()

"""The plan: shares, slots, shards and parts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.plan import Part, Shard, parse_part, plan, shares, slurm_part
from layerkit.pipelines.recipe import Mix, Recipe

SHARES = st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda shares: sum(shares) > 1e-6)


def recipe_of(mix_shares: list[float], count: int, shard_size: int = 100) -> Recipe:
    mixes = tuple(Mix(name=f"m{k}", share=share, route="cut", photos="embedded") for k, share in enumerate(mix_shares))
    return Recipe(name="r", count=count, shard_size=shard_size, mix=mixes)


@given(SHARES, st.integers(1, 10**6))
def test_the_largest_remainder_sums_to_the_count_and_is_off_by_less_than_one(mix_shares: list[float], count: int):
    counts = shares(recipe_of(mix_shares, count))
    assert sum(counts) == count
    total = sum(mix_shares)
    assert all(abs(got - count * share / total) < 1 + 1e-6 for got, share in zip(counts, mix_shares, strict=True))


@pytest.mark.parametrize(
    ("mix_shares", "count", "expected"),
    [
        ([1, 1, 1], 10, [4, 3, 3]),
        ([0.4, 0.35, 0.25], 10, [4, 4, 2]),
        ([47, 16, 15.8, 12, 6.1, 3.1], 10, [5, 2, 1, 1, 1, 0]),
        ([0, 1], 7, [0, 7]),
    ],
)
def test_the_largest_remainder_by_hand(mix_shares: list[float], count: int, expected: list[int]):
    assert shares(recipe_of(mix_shares, count)) == expected


@given(SHARES, st.integers(1, 500), st.integers(1, 60))
def test_every_slot_lies_in_one_shard(mix_shares: list[float], count: int, shard_size: int):
    recipe = recipe_of(mix_shares, count, shard_size)
    shards = list(plan(recipe))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert shards[0].first == 0
    assert all(one.first + one.count == other.first for one, other in pairwise(shards))
    assert shards[-1].first + shards[-1].count == count
    assert all(1 <= shard.count <= shard_size for shard in shards)
    assert len({shard.tar for shard in shards}) == len(shards)


def test_a_shard_is_named_by_split_mix_and_index():
    assert Shard(index=7, mix="paste", split="train", first=0, count=1).tar == "train-paste-000007.tar"


@given(st.integers(1, 40))
def test_parts_share_the_plan(of: int):
    shards = list(plan(recipe_of([1, 2], 95, 3)))
    held = [shard for number in range(1, of + 1) for shard in shards if Part(number, of).holds(shard)]
    assert sorted(shard.index for shard in held) == [shard.index for shard in shards]
    sizes = [sum(Part(number, of).holds(shard) for shard in shards) for number in range(1, of + 1)]
    assert max(sizes) - min(sizes) <= 1


def test_a_part_is_read():
    assert parse_part("3/16") == Part(3, 16)
    assert str(Part(3, 16)) == "3-of-16"


@pytest.mark.parametrize("text", ["", "3", "3/", "/3", "0/3", "4/3", "a/b", "-1/3", "1/0", "1.0/3", "1/2/3", "²/3"])
def test_a_wrong_part_is_refused(text: str):
    with pytest.raises(UsageError, match="--part: expected I/N"):
        parse_part(text)


@pytest.mark.parametrize(
    ("task", "first", "count", "expected"),
    [("0", "0", "4", Part(1, 4)), ("3", "0", "4", Part(4, 4)), ("1", "1", "16", Part(1, 16))],
)
def test_a_slurm_array_task_is_a_part(task: str, first: str, count: str, expected: Part):
    environment = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_COUNT": count}
    assert slurm_part(environment) == expected
    assert slurm_part({**environment, "SLURM_ARRAY_TASK_COUNT": ""}) is None


def test_outside_slurm_there_is_no_part():
    assert slurm_part({}) is None


def test_a_slurm_array_with_steps_is_refused():
    environment = {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"}
    with pytest.raises(UsageError, match="--part"):
        slurm_part(environment)  # --array=0-8:4

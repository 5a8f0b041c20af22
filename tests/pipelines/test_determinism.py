"""The bytes of a build are a function of the recipe and the sources alone."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests import schema
from layerkit.pipelines.draw import generator, seed_of
from layerkit.pipelines.fill import fill_pools
from layerkit.pipelines.ledger import BuildFolder
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.plan import plan
from layerkit.pipelines.recipe import Recipe, load
from layerkit.pipelines.shard import ShardJob

BuildDemo = Callable[..., object]

DRIVER = """
import sys
from pathlib import Path
from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load
options = BuildOptions(out=Path(sys.argv[1]), cache=Path(sys.argv[2]))
build(load("demo", {"count": 12, "size": 64, "shard_size": 4}), options, lambda progress: None)
"""


def hashes(build: Path, below: str = "data") -> dict[str, str]:
    """Path to sha256 of every file below a folder of a build."""
    files = [path for path in sorted((build / below).rglob("*")) if path.is_file()]
    return {path.relative_to(build).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def published(build: Path) -> dict[str, str]:
    """The same of everything but the build's own state."""
    return {name: sha256 for name, sha256 in hashes(build, "").items() if not name.startswith(".layerkit")}


def test_the_same_recipe_gives_the_same_folder(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    build_demo(tmp_path / tiny_build.name)
    assert published(tmp_path / tiny_build.name) == published(tiny_build)
    assert hashes(tmp_path / tiny_build.name, ".layerkit/rows") == hashes(tiny_build, ".layerkit/rows")
    assert hashes(tmp_path / tiny_build.name, ".layerkit/pools") == hashes(tiny_build, ".layerkit/pools")


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    build_demo(tmp_path / "out", workers=2, cache=tmp_path / "cache")
    assert hashes(tmp_path / "out") == hashes(tiny_build)
    assert hashes(tmp_path / "out", ".layerkit/pools") == hashes(tiny_build, ".layerkit/pools")


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_launcher(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    ray = pytest.importorskip("ray")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False
    )  # a cluster that is there already is used, and left
    try:
        build_demo(tmp_path / "out", workers=2, launcher="ray", cache=tmp_path / "cache")
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert hashes(tmp_path / "out") == hashes(tiny_build)


def test_the_bytes_do_not_depend_on_the_order_of_the_shards(tiny_build: Path, cache_dir: Path, tmp_path: Path):
    recipe = load("demo", {"count": 12, "size": 64, "shard_size": 4})
    folder = BuildFolder(tmp_path / "out")
    folder.create()
    fill_pools(folder, recipe, BuildOptions(out=folder.root, cache=cache_dir), lambda progress: None)
    job = ShardJob(recipe=recipe, fingerprint=recipe.fingerprint, folder=folder, cache=cache_dir)
    shards = list(plan(recipe))
    for index in (2, 0, 3, 1, 2):
        job(shards[index])
    assert hashes(folder.root) == hashes(tiny_build)


def test_the_bytes_do_not_depend_on_the_process(tiny_build: Path, cache_dir: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONHASHSEED": "123", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    arguments = [sys.executable, "-c", DRIVER, tmp_path / "out", cache_dir]
    subprocess.run(arguments, cwd=tmp_path, env=environment, check=True)
    assert hashes(tmp_path / "out") == hashes(tiny_build)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"size": 80}, {"name": "another"}, {"attempts": 9}], ids=str)
def test_another_recipe_gives_other_triplets(
    build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, changes: dict[str, object]
):
    build_demo(tmp_path / "out", **changes)
    assert not set(hashes(tmp_path / "out").values()) & set(hashes(tiny_build).values())


def test_no_two_triplets_are_alike(tiny_build: Path):
    lines = [line for path in (tiny_build / ".layerkit/rows").iterdir() for line in path.read_text().splitlines()]
    kept = [row for row in map(json.loads, lines) if row["kept"]]
    choices = [json.dumps({**json.loads(row["choices"]), "slot": 0, "attempt": 0}) for row in kept]
    assert len(set(choices)) == len(kept) == 12


def test_generators_differ_by_name_and_repeat():
    names = [
        ("f", 0, 0),
        ("f", 0, 1),
        ("f", 1, 0),
        ("g", 0, 0),
        ("f", 0),
        ("f", "0", "0", "0"),
        ("f", 10),
        ("f", 1, "0 "),
    ]
    draws = [tuple(generator(*name).integers(0, 2**63, 4)) for name in names]
    assert len(set(draws)) == len(names)
    assert draws == [tuple(generator(*name).integers(0, 2**63, 4)) for name in names]


def test_a_seed_is_128_bits_of_sha256():
    digest = hashlib.sha256(b"fingerprint\0007\0003").digest()
    assert seed_of("fingerprint", 7, 3) == int.from_bytes(digest[:16], "big")
    expected = np.random.Generator(np.random.PCG64(seed_of("fingerprint", 7, 3)))
    assert generator("fingerprint", 7, 3).random() == expected.random()


def test_a_recipe_read_back_from_its_table_is_the_same_recipe():
    recipe = load("demo", {})
    table = {key: value for key, value in json.loads(json.dumps(recipe.table())).items() if key != "algorithm"}
    assert schema.parse(Recipe, table, "table").fingerprint == recipe.fingerprint


def test_whole_numbers_and_floats_are_one_value_of_a_recipe(tmp_path: Path):
    mix = '[[mix]]\nname = "a"\nroute = "cut"\nphotos = "embedded"\n'
    fingerprints = set()
    for share, filters in (("1", "[0, 1]"), ("1.0", "[0.0, 1.0]")):
        path = tmp_path / "same.toml"
        path.write_text(f"count = 4\n[filters]\nhaze = {filters}\n{mix}share = {share}\n")
        fingerprints.add(load(str(path), {}).fingerprint)
    assert len(fingerprints) == 1

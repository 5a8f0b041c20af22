"""A build made again from its lock: elsewhere, from moved sources, from changed ones, with other bytes coming out."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skimage import data

from layerkit.manifests.errors import RunError, UsageError
from layerkit.pipelines.ledger import BuildFolder
from layerkit.toolkit.images import encode_png

RECIPE = """
count = 12
size = 64
shard_size = 6
[filters]
saliency_contrast = [0, 1]
[[mix]]
name = "paste"
share = 1
route = "paste"
foregrounds = "rgba"
backgrounds = "photos"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, build_demo: Callable) -> Path:
    """A folder with ``photos``, ``rgba`` and the ``build`` of them; for copying only."""
    folder = tmp_path_factory.mktemp("first")
    for name in ("photos", "rgba"):
        (folder / name).mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        (folder / "photos" / f"{name}.png").write_bytes(encode_png(small(getattr(data, name)())))
    for k, name in enumerate(("immunohistochemistry", "chelsea", "colorwheel")):
        (folder / "rgba" / f"{name}.png").write_bytes(cutout(small(getattr(data, name)())[..., :3], k))
    (folder / "own.toml").write_text(RECIPE)
    build_demo(folder / "build", recipe=str(folder / "own.toml"), **located(folder), **UNCHANGED)
    return folder


UNCHANGED = {"count": None, "size": None, "shard_size": None}  # what the recipe itself says


def small(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (160, 120), interpolation=cv2.INTER_AREA)


def cutout(picture: np.ndarray, k: int) -> bytes:
    alpha = np.zeros((120, 160), np.uint8)
    cv2.ellipse(alpha, (80, 60), (50 - 8 * k, 30 + 8 * k), 20 * k, 0, 360, 255, -1, cv2.LINE_AA)
    return encode_png(np.dstack([picture, alpha]))


def located(folder: Path) -> dict[str, object]:
    return {"roots": {"photos": folder / "photos", "rgba": folder / "rgba"}}


@pytest.fixture
def moved(built: Path, tmp_path: Path) -> Path:
    """A copy of the sources, with the manifests alone of the build."""
    for name in ("photos", "rgba"):
        shutil.copytree(built / name, tmp_path / name)
    shutil.copytree(built / "build" / "manifests", tmp_path / "manifests")
    return tmp_path


@pytest.fixture
def rebuild(build_demo: Callable, moved: Path) -> Callable:
    """``rebuild(**overrides)`` from the lock into ``again``, beside the moved sources."""

    def run(**overrides: object) -> object:
        lock = str(moved / "manifests" / "recipe.lock.toml")
        given = UNCHANGED | located(moved) | {"recipe_file": Path(lock)} | overrides
        return build_demo(moved / "again", recipe=lock, **given)

    return run


def shards(build: Path) -> dict[str, str]:
    rows = pq.read_table(build / "manifests" / "shards.parquet", columns=["tar", "sha256"]).to_pylist()
    return {row["tar"]: row["sha256"] for row in rows}


def test_the_same_sources_elsewhere_give_the_same_bytes(rebuild: Callable, moved: Path, built: Path):
    assert rebuild().kept == 12
    assert len(shards(built / "build")) == 2
    assert shards(moved / "again") == shards(built / "build")
    for name in ("recipe.lock.toml", "samples.parquet"):
        first, again = (folder / "manifests" / name for folder in (built / "build", moved / "again"))
        assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("name", ["photos/rocket.png", "rgba/chelsea.png"])
def test_a_changed_source_is_named_and_once_mended_the_build_goes_on(
    rebuild: Callable, moved: Path, built: Path, name: str
):
    file = moved / name
    before = file.read_bytes()
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    file.write_bytes(encode_png(picture) if name.startswith("photos") else cutout(picture, 1))
    with pytest.raises(UsageError, match=rf"\(3 entries, 3 in the lock\): {re.escape(file.name)} changed;") as caught:
        rebuild()
    assert [other.name for other in moved.glob("*/*.png") if other.name in str(caught.value)] == [file.name]
    assert not list((moved / "again" / "data").glob("*.tar"))
    file.write_bytes(before)
    rebuild()
    assert shards(moved / "again") == shards(built / "build")


def test_a_missing_source_is_named(rebuild: Callable, moved: Path):
    (moved / "photos" / "coffee.png").unlink()
    with pytest.raises(UsageError, match=r"photos \(2 entries, 3 in the lock\): coffee\.png is"):
        rebuild()


def test_a_source_too_many_is_told_though_no_sample_names_it(rebuild: Callable, moved: Path):
    (moved / "photos" / "more.png").write_bytes(encode_png(small(data.chelsea())))
    with pytest.raises(
        UsageError, match=r"paste background from photos \(4 entries, 3 in the lock\): more\.png is new"
    ):
        rebuild()


def test_without_the_samples_beside_the_lock_the_pool_is_named(rebuild: Callable, moved: Path):
    (moved / "manifests" / "samples.parquet").unlink()
    (moved / "photos" / "coffee.png").unlink()
    with pytest.raises(UsageError, match=r"paste background from photos \(2 entries, 3 in the lock\)"):
        rebuild()


def test_another_recipe_than_the_locks_is_not_compared(rebuild: Callable, moved: Path, built: Path):
    (moved / "photos" / "coffee.png").unlink()
    assert rebuild(seed=1).kept == 12
    assert not set(shards(moved / "again").values()) & set(shards(built / "build").values())


def test_other_bytes_are_an_error_that_names_shard_and_versions(rebuild: Callable, moved: Path):
    path = moved / "manifests" / "shards.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("sha256")
    digests = ["0" * 64, *table.column("sha256").to_pylist()[1:]]
    pq.write_table(table.set_column(column, "sha256", pa.array(digests)), path)
    message = (
        r"^1 of 2 shards came out in other bytes than the lock's build: train-paste-000000\.tar; all libraries are of"
    )
    with pytest.raises(RunError, match=message):
        rebuild()
    lock = moved / "manifests" / "recipe.lock.toml"
    lock.write_text(re.sub(r'^numpy = ".*"$', 'numpy = "1.0"', lock.read_text(), flags=re.MULTILINE))
    with pytest.raises(RunError, match=r"train-paste-000000\.tar; numpy 1\.0 there, \d\S* here$"):
        rebuild()


def test_a_lock_is_a_recipe_without_what_lies_beside_it(rebuild: Callable, moved: Path, built: Path):
    for name in ("shards.parquet", "samples.parquet"):
        (moved / "manifests" / name).unlink()
    rebuild()
    assert shards(moved / "again") == shards(built / "build")
    assert BuildFolder(moved / "again").manifests.joinpath("recipe.lock.toml").is_file()

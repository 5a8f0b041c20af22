"""OBER out of its parquet tables, and RemovalBench and AIM-500, whose truths are of other kinds, as cases."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from layerkit.manifests.errors import BadImage, UsageError
from layerkit.manifests.pairs import File
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.suites.cases import Case, Dropped, cases
from layerkit.toolkit.suites.files import read_picture
from layerkit.toolkit.suites.ober import pairs

OBER = replace(SUITES["ober-tight"], resize="native")
LOOSE = replace(SUITES["ober-loose"], resize="native")
NAMES = ("input", "gt", "object_mask", "object_effect_mask")


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def mask(rows: slice, columns: slice) -> np.ndarray:
    out = np.zeros((24, 32), np.uint8)
    out[rows, columns] = 255
    return out


def png(picture: np.ndarray) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "x.png"}


def row(seed: int, subset: str = "OBER-Test", **other: object) -> dict[str, object]:
    tight, loose = mask(slice(2, 8), slice(3, 9)), mask(slice(2, 12), slice(3, 9))
    pictures = dict(zip(NAMES, (noise(seed), noise(seed + 100), tight, loose), strict=True))
    return {name: png(one) for name, one in pictures.items()} | {"subset": subset, "split": "test"} | other


def table(path: Path, *rows: dict[str, object], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, picture) for name in NAMES] + [("subset", pa.string()), ("split", pa.string())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path, **options)
    return path


def test_rows_of_all_groups_and_tables_are_read_each_on_its_own(tmp_path: Path):
    table(tmp_path / "data/test-00000-of-00002.parquet", *(row(k) for k in range(5)), row_group_size=2)
    table(tmp_path / "data/test-00001-of-00002.parquet", row(5, "RORD-Val"))
    table(tmp_path / "data/train-00000-of-00001.parquet", row(9))
    found = {case.id: case for case in cases(OBER, {"ober": tmp_path})}
    assert len(found) == 6
    for k in range(5):
        case = found[f"test-00000-of-00002-{k:05d}"]
        np.testing.assert_array_equal(case.image, noise(k))
        np.testing.assert_array_equal(case.background, noise(k + 100))
        assert (case.mask.sum(), case.category) == (36, "OBER-Test")
    assert found["test-00001-of-00002-00000"].category == "RORD-Val"
    assert {case.mask.sum() for case in cases(LOOSE, {"ober": tmp_path})} == {60}


def test_columns_of_plain_bytes_are_read_as_well(tmp_path: Path):
    plain = {name: one["bytes"] if isinstance(one, dict) else one for name, one in row(3).items()}
    rows = [plain, plain | {"gt": None}]
    schema = pa.schema([(name, pa.string() if name in ("subset", "split") else pa.binary()) for name in plain])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "test.parquet")
    whole, lacking = sorted(cases(OBER, {"ober": tmp_path}), key=lambda one: one.id)
    np.testing.assert_array_equal(whole.image, noise(3))
    assert lacking.reason == "missing_plate"


def test_rows_without_a_truth_and_broken_pictures_are_drops(tmp_path: Path):
    table(
        tmp_path / "test-0.parquet",
        row(0, gt=None),
        row(1, gt={"bytes": None, "path": "x.png"}),
        row(2, input={"bytes": b"x", "path": ""}),
        row(3, object_mask=None),
        row(4),
    )
    found = {case.id: case for case in cases(OBER, {"ober": tmp_path})}
    reasons = {id_[-1]: case.reason for id_, case in found.items() if isinstance(case, Dropped)}
    assert reasons == {"0": "missing_plate", "1": "missing_plate", "2": "unreadable", "3": "missing_mask"}
    assert isinstance(found["test-0-00004"], Case)


def test_no_table_and_another_one_are_errors(tmp_path: Path):
    with pytest.raises(UsageError, match=r"expected OBER's test-\*\.parquet"):
        list(pairs(tmp_path))
    (tmp_path / "test-0.parquet").write_bytes(b"text")
    with pytest.raises(UsageError, match="expected a table with subset, input"):
        list(pairs(tmp_path))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "test-0.parquet")
    with pytest.raises(UsageError, match="expected a table with subset, input"):
        list(pairs(tmp_path))


@pytest.mark.parametrize("cell", [(7, "input"), (0, "none"), (0, "subset"), (-1, "input")])
def test_a_cell_that_is_no_picture_is_named(tmp_path: Path, cell: tuple[int, str]):
    path = table(tmp_path / "test-0.parquet", row(0))
    with pytest.raises(BadImage, match="unreadable"):
        read_picture(File(path=path, cell=cell))


def put(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_removalbench(tmp_path: Path):
    for folder, picture in (("images", noise(0)), ("masks", mask(slice(0, 4), slice(0, 5))), ("gt", noise(1))):
        put(tmp_path / folder / "a.png", picture)
    (case,) = cases(replace(SUITES["removalbench"], resize="native"), {"removalbench": tmp_path})
    np.testing.assert_array_equal(case.background, noise(1))
    assert case.mask.sum() == 20


def test_aim_knows_the_alpha_and_nothing_behind_it(tmp_path: Path):
    alpha = mask(slice(0, 20), slice(0, 30))
    alpha[0:3] = 90  # glass
    trimap = np.where(alpha > 0, 255, 0).astype(np.uint8)
    trimap[0:3] = 128
    for folder, picture in (("original", noise(0)), ("mask", alpha), ("trimap", trimap)):
        put(tmp_path / folder / "o.png", picture)
    (case,) = cases(replace(SUITES["aim-500"], resize="native"), {"aim-500": tmp_path})
    assert case.background is None
    np.testing.assert_array_equal(case.foreground[..., 3], alpha)
    np.testing.assert_array_equal(case.foreground[alpha == 255, :3], noise(0)[alpha == 255])
    np.testing.assert_array_equal(case.mask, trimap > 0)
    assert case.mask.mean() > 0.5  # an object may be large

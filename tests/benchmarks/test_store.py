"""What a run leaves behind: predictions and rows that count for the same case, model, seed and measures alone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerkit.benchmarks.store import Row, Seen, Store, rng_of
from layerkit.manifests.errors import RunError
from layerkit.manifests.report_files import file_name, folder_name
from layerkit.toolkit.decomposition import Decomposition
from layerkit.toolkit.suites.cases import Case


def picture(seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 24, channels), dtype=np.uint8)


def case_of(id_: str = "a/b", sha256: str = "0") -> Case:
    return Case(
        id=id_,
        scene="s",
        category="c",
        image=picture(0),
        mask=np.ones((16, 24), np.bool_),
        background=picture(1),
        foreground=None,
        occluder=None,
        regions={},
        sha256=sha256,
    )


def store_of(root: Path, identity: str = "m@1 seed 0", measures: str = "psnr", part: int = 0) -> Store:
    return Store(root, "demo/1-abc", "m", identity, measures, part)


def test_a_prediction_comes_back_bit_for_bit_hidden_colour_too(tmp_path: Path):
    store, case = store_of(tmp_path), case_of()
    assert (store.has(case), store.load(case)) == (False, None)
    rgba = picture(3, 4)
    rgba[:4, :, 3] = 0
    store.save(case, Decomposition(picture(2), rgba))
    back = store.load(case)
    np.testing.assert_array_equal(back.background, picture(2))
    np.testing.assert_array_equal(back.foreground, rgba)
    store.save(case, Decomposition(picture(4)))
    assert store.load(case).foreground is None


def test_a_prediction_counts_for_its_case_and_model_alone(tmp_path: Path):
    store = store_of(tmp_path)
    store.save(case_of(), Decomposition(picture(2)))
    assert store_of(tmp_path, measures="psnr ssim").has(case_of())
    assert not store.has(case_of(sha256="1"))
    assert not store.has(case_of("a-b"))
    assert not store_of(tmp_path, "m@2 seed 0").has(case_of())


@pytest.mark.parametrize("harm", ["no key", "key of noise", "no picture", "picture of noise"])
def test_half_a_prediction_is_none(tmp_path: Path, harm: str):
    store, case = store_of(tmp_path), case_of()
    store.save(case, Decomposition(picture(2)))
    path = next(store.folder.glob("*.key" if "key" in harm else "*.png"))
    path.unlink() if "no " in harm else path.write_bytes(b"\xff\xfe noise")
    assert store.load(case) is None


def test_what_a_row_depends_on(tmp_path: Path):
    key = store_of(tmp_path).row_key(case_of())
    assert key == store_of(tmp_path, part=3).row_key(case_of())
    others = [
        store_of(tmp_path, "m@1 seed 1").row_key(case_of()),
        store_of(tmp_path, measures="psnr ssim").row_key(case_of()),
        store_of(tmp_path).row_key(case_of(sha256="1")),
        store_of(tmp_path).row_key(replace(case_of(), category="d")),
        store_of(tmp_path).row_key(replace(case_of(), scene="t")),
    ]
    assert len({key, *others}) == 6


def row(id_: str, key: str = "k", value: float = 1.5) -> Row:
    return Row(id=id_, key=key, values={"psnr:area@whole": value}, vectors={"fid:clean-fid@whole": ["x", "y"]})


def test_rows_come_back_infinite_ones_and_nan_too(tmp_path: Path):
    store = store_of(tmp_path)
    rows = [row("a"), row("b", value=math.inf), row("ä\n", value=math.nan)]
    for one in rows:
        store.append(one)
    found = store.rows()
    assert [found["a", "k"], found["b", "k"]] == rows[:2]
    assert math.isnan(found["ä\n", "k"].values["psnr:area@whole"])


def test_a_line_that_was_cut_short_costs_that_row_alone(tmp_path: Path):
    store = store_of(tmp_path)
    store.append(row("a"))
    store.append(row("b"))
    (path,) = tmp_path.rglob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    store.append(row("c"))
    with path.open("ab") as file:
        file.write(b'\n{"id": "d"}\nnull\n[1]\n\xff\xfe\n{"values": {}')
    store.append(row("e"))
    assert [id_ for id_, _ in store.rows()] == ["a", "c", "e"]


def test_rows_are_of_the_last_run_whoever_wrote_them(tmp_path: Path):
    """Two processes with one seed, then one process with another: what the second process wrote is no longer meant."""
    for part in (0, 1):
        store = store_of(tmp_path, part=part)
        store.append(row(f"case{part}", "old", value=0))
        store.write_seen(2, Seen({f"case{part}": (part, "old")}, []))
    assert [one.id for one in store_of(tmp_path).scored()[0]] == ["case0", "case1"]
    store = store_of(tmp_path)
    for number in (1, 0):
        store.append(row(f"case{number}", "new", value=7))
    store.write_seen(1, Seen({"case1": (1, "new"), "case0": (0, "new")}, [(2, "c", "why", "more")]))
    for of in (0, 1):
        rows, dropped = store.scored(of)
        assert [(one.id, one.values["psnr:area@whole"]) for one in rows] == [("case0", 7), ("case1", 7)]
        assert dropped == [(2, "c", "why", "more")]


def test_parts_together_are_in_the_order_of_the_suite_and_none_may_be_missing(tmp_path: Path):
    first, second = (store_of(tmp_path, part=part) for part in (0, 1))
    for store, numbers in ((first, (0, 4)), (second, (1, 3))):
        for number in numbers:
            store.append(row(f"c{number}"))
    first.write_seen(2, Seen({"c0": (0, "k"), "c4": (4, "k"), "never scored": (6, "k")}, []))
    with pytest.raises(RunError, match="of 2 processes, part 1 is not through"):
        first.scored(2)
    second.write_seen(2, Seen({"c1": (1, "k"), "c3": (3, "k")}, [(5, "x", "r", "d")]))
    assert [one.id for one in first.scored(2)[0]] == ["c0", "c1", "c3", "c4"]
    assert first.scored(2)[1] == [(5, "x", "r", "d")]


def test_names_of_files_and_folders_are_readable_and_never_shared():
    assert folder_name("mean-fill") == "mean-fill"
    long = "predictions:/data/" + "x" * 80
    names = [
        "predictions:/a/b",
        "predictions:/a-b",
        "Predictions-a-b",
        f"{long}1",
        f"{long}2",
        "demo/1-00",
        "demo-1-00",
    ]
    assert len({folder_name(name) for name in names}) == len(names)
    assert all(set(folder_name(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
    assert file_name("a/b") != file_name("a-b")
    assert file_name("../../etc").startswith("etc-")


def test_the_randomness_of_a_case_is_its_own(tmp_path: Path):
    def draw(seed: int, id_: str, sha256: str = "0") -> int:
        return int(rng_of(seed, case_of(id_, sha256)).integers(2**62))

    assert draw(0, "a") == draw(0, "a", "1")
    assert len({draw(0, "a"), draw(1, "a"), draw(0, "b")}) == 3

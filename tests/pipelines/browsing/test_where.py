"""Conditions on a table against what pandas makes of the same words."""

import math

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.browsing.where import matching

TABLE = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "mix": ["paste", "cut", "paste", "layers"],
        "haze": [0.1, None, 0.3, 0.7],
        "objects": [1, 2, 3, 1],
        "sources": ["mulan", "mulan,photos", "rgba", "photos"],
        "telea.psnr_mask": [20.0, 30.0, None, 10.0],
    }
)


def keys(where: str) -> list[str]:
    return matching(TABLE, where)["key"].to_pylist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", "abcd"),
        ("  ", "abcd"),
        ("haze < 0.5", "ac"),
        ("not haze < 0.5", "d"),
        ("haze != 0.1", "cd"),
        ("0.1 < haze <= 0.7", "cd"),
        ("objects >= 2 and mix == 'paste'", "c"),
        ("objects > 2 or haze > 0.5", "cd"),
        ("mix in ('cut', 'layers')", "bd"),
        ("mix not in ['cut', 'layers']", "ac"),
        ("objects in (1, 3)", "acd"),
        ("'photos' in sources", "bd"),
        ("'photos' not in sources", "ac"),
        ("telea.psnr_mask > 15", "ab"),
        ("haze > -1", "acd"),
        ("1 < objects", "bc"),
        ("(objects == 1) == (mix == 'paste')", "ab"),
    ],
)
def test_conditions(where: str, expected: str):
    assert "".join(keys(where)) == expected


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("haez < 1", "did you mean haze"),
        ("zzz < 1", "known are key, mix"),
        ("haze <", "got 'haze <'"),
        ("haze", "neither true nor false"),
        ("1 < 2", "neither true nor false"),
        ("mix < 3", "expected a condition"),
        ("haze + 1 < 2", "with 'haze \\+ 1'"),
        ("__import__('os').system('true') == 0", "with"),
        ("haze is 1", "with '1'"),
        ("haze in objects", "with 'objects'"),
        ("lambda: 1", "with"),
        ("mix in ('a', 1)", "expected a condition"),
        ("haze == True == mix", "expected a condition"),
        ("a" * 5000 + "(" * 5000, "expected a condition"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(where: str, words: str):
    with pytest.raises(UsageError, match=words):
        matching(TABLE, where)


FIELDS = st.sampled_from(["x", "y"])
NUMBERS = st.sampled_from([-1, 0, 0.5, 2])
COMPARISONS = st.builds(
    lambda left, op, right: f"{left} {op} {right}", FIELDS, st.sampled_from(["<", "<=", ">", ">=", "=="]), NUMBERS
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(lambda a, op, b: f"({a} {op} {b})", inner, st.sampled_from(["and", "or"]), inner),
)


@given(st.lists(st.tuples(NUMBERS, st.one_of(st.none(), NUMBERS)), min_size=1, max_size=8), CONDITIONS)
def test_a_condition_says_what_pandas_takes_it_for(rows: list[tuple[float, float | None]], where: str):
    frame = pd.DataFrame(rows, columns=["x", "y"], dtype=float).assign(n=range(len(rows)))
    table = pa.table({"x": [row[0] for row in rows], "y": [row[1] for row in rows], "n": list(range(len(rows)))})
    assert matching(table, where)["n"].to_pylist() == frame.query(where)["n"].tolist()


def test_not_a_number_is_neither_above_nor_below():
    table = pa.table({"x": [math.nan, 1.0]})
    assert matching(table, "x > 0")["x"].to_pylist() == matching(table, "x < 2")["x"].to_pylist() == [1.0]

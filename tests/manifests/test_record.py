"""The record of a sample: round trip, and every way to break its schema."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import ShardError
from layerkit.manifests.record import SCHEMA, Origin, Record

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.floats(allow_nan=False, allow_infinity=False)
origins = st.builds(Origin, **{field.name: text for field in fields(Origin)})
records = st.builds(
    Record,
    schema=st.just(SCHEMA),
    **dict.fromkeys(("key", "split", "mix", "route", "caption", "licence", "choices"), text),
    **{name: st.integers() for name in ("width", "height", "objects", "recomposition_error", "recomposition_bound")},
    layers=st.lists(origins, max_size=3).map(tuple),
    models=st.dictionaries(text, text, max_size=3),
    scores=st.dictionaries(text, number, max_size=3),
    composite_error=number,
)
ORIGIN = Origin(layer="foreground", dataset="d", id="i", licence="mit", author="", url="", sha256="0")
RECORD = Record(
    schema=SCHEMA,
    key="k",
    split="train",
    mix="m",
    route="paste",
    width=3,
    height=2,
    caption="Ein Löwe",
    objects=1,
    licence="mit",
    layers=(ORIGIN,),
    models={"saliency": "spectral@1"},
    scores={"haze": 0.5},
    recomposition_error=0,
    recomposition_bound=0,
    composite_error=0.25,
    choices="{}",
)


def table() -> dict:
    return json.loads(RECORD.to_json())


@given(records)
def test_a_record_comes_back_equal(record: Record) -> None:
    assert Record.from_json(record.to_json(), "r") == record


def test_the_keys_stand_in_the_order_of_the_class() -> None:
    assert list(table()) == [field.name for field in fields(Record)]
    assert list(table()["layers"][0]) == [field.name for field in fields(Origin)]
    assert "Löwe" in RECORD.to_json().decode()


def test_floats_are_written_as_floats() -> None:
    whole = replace(RECORD, composite_error=0, scores={"haze": 1}).to_json()
    assert b'"composite_error":0.0' in whole
    assert b'"scores":{"haze":1.0}' in whole


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_number_is_never_written_nor_read(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RECORD, composite_error=value).to_json()
    with pytest.raises(ShardError, match="is not JSON"):
        Record.from_json(json.dumps(table() | {"composite_error": value}).encode(), "r")


@pytest.mark.parametrize("name", [field.name for field in fields(Record)])
def test_a_missing_key_and_a_null_are_named(name: str) -> None:
    broken = table()
    del broken[name]
    with pytest.raises(ShardError, match=f"r.json: the record lacks \\['{name}'\\]"):
        Record.from_json(json.dumps(broken).encode(), "r.json")
    with pytest.raises(ShardError, match=f"{name} must be .*, got None"):
        Record.from_json(json.dumps(table() | {name: None}).encode(), "r.json")


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ShardError, match=r"unknown \['colour'\]"):
        Record.from_json(json.dumps(table() | {"colour": 1}).encode(), "r")
    odd = table()
    odd["layers"][0]["colour"] = 1
    with pytest.raises(ShardError, match=r"unknown \['colour'\]"):
        Record.from_json(json.dumps(odd).encode(), "r")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", "3"),
        ("width", 3.5),
        ("width", True),
        ("key", 7),
        ("composite_error", "0"),
        ("layers", {}),
        ("layers", [1]),
        ("models", []),
        ("models", {"saliency": 1}),
        ("scores", {"haze": None}),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(ShardError, match=r"^r: "):
        Record.from_json(json.dumps(table() | {name: value}).encode(), "r")


def test_a_later_schema_asks_for_an_upgrade_whatever_its_keys() -> None:
    for later in (table() | {"schema": SCHEMA + 1}, {"schema": SCHEMA + 1, "novelty": []}):
        with pytest.raises(ShardError, match="upgrade layerkit"):
            Record.from_json(json.dumps(later).encode(), "r")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"3", b"null"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ShardError, match=r"^r: expected a JSON"):
        Record.from_json(data, "r")

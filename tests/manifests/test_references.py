"""Published figures: all there, each with its protocol, and only those of the same protocol beside ours."""

import pytest

from layerkit.manifests.references import Reference, references, rows_for
from layerkit.manifests.suites import SUITES, find


def value(**where: object) -> float:
    (row,) = (row for row in references() if all(getattr(row, key) == asked for key, asked in where.items()))
    return row.value


def test_the_six_systems_and_later_ones_are_there():
    found = {row.protocol for row in references()}
    assert {"layerdecomp", "outpaintremove", "text2layer", "layerfusion", "seele", "asuka"} <= found
    assert {"objectclear", "turboclear", "omnialpha", "smarteraser", "omnieraser", "layerd", "rgba-vae"} <= found
    assert len(references()) == 500


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            {"protocol": "layerdecomp", "dataset": "rord", "mask": "loose", "method": "PowerPaint", "variant": "clip"},
            8.596,
        ),
        ({"protocol": "layerdecomp", "dataset": "desobav2", "method": "LayerDecomp", "metric": "psnr"}, 38.57),
        ({"protocol": "outpaintremove", "method": "Qwen-Image-Edit", "metric": "fid"}, 63.49),
        ({"protocol": "text2layer", "size": 512, "method": "SD v1.4", "metric": "clip-score"}, 0.279),
        (
            {
                "protocol": "layerfusion",
                "dataset": "layerfusion",
                "region": "whole",
                "method": "LayerFusion",
                "metric": "kid",
            },
            0.0058,
        ),
        ({"protocol": "seele", "method": "SEELE with MAT", "metric": "users", "variant": "consistency"}, 0.104),
        ({"protocol": "asuka", "dataset": "places2", "method": "ASUKA", "metric": "p-ids"}, 0.287),
        ({"protocol": "objectclear", "dataset": "rord", "method": "OmniPaint", "region": "outside"}, 24.66),
        ({"protocol": "rgba-vae", "method": "AlphaVAE (FLUX)", "metric": "psnr"}, 36.9439),
    ],
)
def test_figures_as_printed(where: dict[str, object], expected: float):
    assert value(**where) == expected


def test_what_was_read_second_hand_is_not_verified():
    assert {row.verified for row in references() if row.protocol == "outpaintremove"} == {False}
    assert all(row.verified is (row.evidence == "S") for row in references())


def test_only_rows_of_the_same_protocol_stand_beside_a_suite():
    same, others = rows_for(SUITES["rord-tight"])
    assert {(row.protocol, row.dataset, row.mask) for row in same} == {("layerdecomp", "rord", "tight")}
    assert {row.metric for row in same} == {"psnr", "lpips", "fid"}
    assert {row.dataset for row in others} == {"rord"}
    assert ("layerdecomp", "loose") in {(row.protocol, row.mask) for row in others}
    assert not set(map(id, same)) & set(map(id, others))


def test_a_suite_without_a_published_protocol_has_rows_of_others_at_most():
    assert rows_for(SUITES["demo"]) == ([], [])
    assert rows_for(find("triplets:x")) == ([], [])
    same, others = rows_for(SUITES["rord-scenes"])
    assert same == []
    assert len(others) == 119


def test_suites_that_rows_name_exist_and_state_the_same_numbers():
    for row in references():
        for name in row.suites:
            suite = SUITES[name]
            assert row.dataset == suite.reader, (name, row)
            assert row.n == suite.n or 0 in (row.n, suite.n), (name, row)  # 0: not stated, or all that there are
            assert row.size in (0, suite.size), (name, row)


def test_no_figure_stands_twice():
    def key(row: Reference) -> tuple[object, ...]:
        return row.protocol, row.dataset, row.size, row.mask, row.note, row.method, row.metric, row.variant, row.region

    assert len({key(row) for row in references()}) == len(references())

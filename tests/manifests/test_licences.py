"""Licences: the strictest of several is a semilattice, and the allow list."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.manifests.licences import CLASSES, LICENCES, allowed, check_allow_list, strictest

ids = st.sampled_from([*LICENCES, "something else"])


@given(ids, ids, ids)
def test_strictest_is_commutative_associative_and_idempotent(a: str, b: str, c: str) -> None:
    assert strictest([a, b]) == strictest([b, a])
    assert strictest([strictest([a, b]), c]) == strictest([a, strictest([b, c])]) == strictest([a, b, c])
    assert strictest([strictest([a]), strictest([a])]) == strictest([a])


@given(st.lists(ids, min_size=1))
def test_the_strictest_is_as_strict_as_each(names: list[str]) -> None:
    def rank(name: str) -> int:
        return CLASSES.index(LICENCES.get(name, LICENCES["unknown"]).kind)

    assert rank(strictest(names)) == max(map(rank, names))
    assert strictest(names) in {*names, "unknown"}


def test_the_open_licence_that_asks_for_a_name_is_stricter_than_the_one_that_does_not() -> None:
    assert strictest(["cc0-1.0", "cc-by-4.0"]) == "cc-by-4.0"
    assert strictest(["cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"]) == "cc-by-nc-4.0"


def test_nothing_and_the_unlisted_grant_nothing() -> None:
    assert strictest([]) == "unknown"
    assert strictest(["mit", "all rights reserved"]) == "unknown"


def test_the_table_runs_from_the_freest_to_the_strictest() -> None:
    ranks = [CLASSES.index(licence.kind) for licence in LICENCES.values()]
    assert ranks == sorted(ranks)
    assert all(name == licence.id for name, licence in LICENCES.items())
    assert all(
        licence.url.startswith(("https://", "http://")) != (name == "unknown") for name, licence in LICENCES.items()
    )
    assert list(LICENCES)[-1] == "unknown"


@pytest.mark.parametrize("licence", ["cc-by-nd-2.0", "cc-by-nc-nd-2.0"])
def test_a_licence_without_derivatives_lets_no_composite_be_made(licence: str) -> None:
    assert strictest(["cc0-1.0", licence, "cc-by-nc-sa-4.0", "places2-terms"]) == licence
    assert not allowed(licence, ("open", "share-alike", "non-commercial"))
    assert not LICENCES[licence].commercial_ok


def test_commerce_is_allowed_by_the_open_and_the_share_alike_ones_alone() -> None:
    free = {name for name, licence in LICENCES.items() if licence.commercial_ok}
    assert free == {name for name, licence in LICENCES.items() if licence.kind in ("open", "share-alike")}
    assert not any(word in name for name in free for word in ("-nc", "-nd", "terms", "unknown"))


@pytest.mark.parametrize("licence", LICENCES)
def test_the_allow_list_takes_classes_and_identifiers(licence: str) -> None:
    kind = LICENCES[licence].kind
    assert allowed(licence, ())
    assert allowed(licence, (licence,))
    assert allowed(licence, (kind,))
    others = tuple(word for word in CLASSES if word != kind)
    assert not allowed(licence, others)


def test_what_is_not_listed_counts_as_unknown() -> None:
    assert allowed("all rights reserved", ("unknown",))
    assert not allowed("all rights reserved", ("open", "share-alike", "non-commercial"))


def test_a_word_that_is_neither_is_refused() -> None:
    check_allow_list(tuple(itertools.chain(LICENCES, CLASSES)))
    with pytest.raises(UsageError, match=r"--allow-licence: expected a class \(open, .*got 'opne'"):
        check_allow_list(("open", "opne"))

"""Names that stay below a folder, licences by address, boxes at the border."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.licences import LICENCES
from layerkit.manifests.sources.foreign import below, is_plain, licence_of, touches_border

BY = "https://creativecommons.org/licenses/by/2.0/"


@pytest.mark.parametrize(
    ("url", "licence"),
    [
        (BY, "cc-by-2.0"),
        ("http://creativecommons.org/licenses/by/2.0", "cc-by-2.0"),
        ("https://creativecommons.org/licenses/by-sa/2.0/", "share-alike"),
        ("https://creativecommons.org/licenses/by-nc-nd/2.0/", "cc-by-nc-nd-2.0"),
        ("https://creativecommons.org/licenses/by/3.0/", "cc-by-3.0"),
        ("https://creativecommons.org/licenses/by/1.0/", "unknown"),
        ("http://flickr.com/commons/usage/", "unknown"),  # "no known restrictions" grants nothing
        ("http://www.usa.gov/copyright.shtml", "public-domain"),
        ("", "unknown"),
    ],
)
def test_licences_go_by_address(url: str, licence: str) -> None:
    found = licence_of(url)
    assert licence in (found, LICENCES[found].kind)


def test_every_known_licence_is_found_by_its_own_address() -> None:
    assert all(licence_of(licence.url) == licence.id for licence in LICENCES.values())


@given(st.text(st.sampled_from("ab./\\:\0 "), max_size=6))
def test_a_path_below_a_folder_stays_there(name: str) -> None:
    root = Path("/data/root")
    path = below(root, name)
    if path is not None:
        assert path.is_relative_to(root)
        assert ".." not in path.parts
        assert path != root
    assert (below(root, name) == root / name) or not is_plain(name)


def test_the_border_is_half_a_percent() -> None:
    assert not touches_border(0.005, 0.005, 0.995, 0.995)
    assert touches_border(0.0049, 0.5, 0.9, 0.9)
    assert touches_border(0.2, 0.2, 0.9, 1.01)

"""Licences: their classes, and the strictest of several."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .errors import UsageError

LicenceClass = Literal["open", "share-alike", "non-commercial", "unknown"]

CLASSES: tuple[LicenceClass, ...] = ("open", "share-alike", "non-commercial", "unknown")
"""From the freest to the strictest.

``unknown`` is what grants no right to a work made of the work: no licence that is known, and the licences without
derivatives (CC BY-ND and BY-NC-ND), for every composite and every cut-out is a derivative.
"""


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence: its identifier (SPDX in lower case where there is one), class and address."""

    id: str
    kind: LicenceClass
    url: str

    @property
    def commercial_ok(self) -> bool:
        """Whether a work made of the work may be used commercially, under the terms of the licence."""
        return self.kind in ("open", "share-alike")


_CREATIVE_COMMONS = "https://creativecommons.org/licenses"

LICENCES: dict[str, Licence] = {
    licence.id: licence
    for licence in (
        Licence("public-domain", "open", "https://creativecommons.org/publicdomain/mark/1.0/"),
        Licence("cc0-1.0", "open", "https://creativecommons.org/publicdomain/zero/1.0/"),
        Licence("mit", "open", "https://opensource.org/license/mit"),
        Licence("apache-2.0", "open", "https://www.apache.org/licenses/LICENSE-2.0"),
        Licence("bsd-3-clause", "open", "https://opensource.org/license/bsd-3-clause"),
        Licence("cc-by-2.0", "open", f"{_CREATIVE_COMMONS}/by/2.0/"),
        Licence("cc-by-3.0", "open", f"{_CREATIVE_COMMONS}/by/3.0/"),
        Licence("cc-by-4.0", "open", f"{_CREATIVE_COMMONS}/by/4.0/"),
        Licence("cc-by-sa-2.0", "share-alike", f"{_CREATIVE_COMMONS}/by-sa/2.0/"),
        Licence("cc-by-sa-3.0", "share-alike", f"{_CREATIVE_COMMONS}/by-sa/3.0/"),
        Licence("cc-by-sa-4.0", "share-alike", f"{_CREATIVE_COMMONS}/by-sa/4.0/"),
        Licence("cc-by-nc-2.0", "non-commercial", f"{_CREATIVE_COMMONS}/by-nc/2.0/"),
        Licence("cc-by-nc-4.0", "non-commercial", f"{_CREATIVE_COMMONS}/by-nc/4.0/"),
        Licence("cc-by-nc-sa-2.0", "non-commercial", f"{_CREATIVE_COMMONS}/by-nc-sa/2.0/"),
        Licence("cc-by-nc-sa-4.0", "non-commercial", f"{_CREATIVE_COMMONS}/by-nc-sa/4.0/"),
        Licence("places2-terms", "non-commercial", "http://places2.csail.mit.edu/download.html"),
        Licence("matterport3d-terms", "non-commercial", "https://niessner.github.io/Matterport"),
        Licence("cc-by-nd-2.0", "unknown", f"{_CREATIVE_COMMONS}/by-nd/2.0/"),
        Licence("cc-by-nc-nd-2.0", "unknown", f"{_CREATIVE_COMMONS}/by-nc-nd/2.0/"),
        Licence("unknown", "unknown", ""),
    )
}
"""Every licence that layerkit knows, from the freest to the strictest.

Some data sets have terms of their own: those of Places2 allow research and education without commerce, and no
redistribution of the pictures; those of Matterport3D are signed.
"""

_RANK = {name: rank for rank, name in enumerate(LICENCES)}


def strictest(ids: Iterable[str]) -> str:
    """The licence that a work made of works under ``ids`` is used under; an unlisted id counts as ``unknown``."""
    return max((name if name in _RANK else "unknown" for name in ids), key=_RANK.__getitem__, default="unknown")


def allowed(licence: str, allow: tuple[str, ...]) -> bool:
    """Whether ``allow`` (identifiers or classes; empty allows all) lets ``licence`` in."""
    kind = LICENCES.get(licence, LICENCES["unknown"]).kind
    return not allow or licence in allow or kind in allow


def check_allow_list(allow: tuple[str, ...]) -> None:
    """Raise :class:`UsageError` for a word that is neither a licence nor a class."""
    for word in allow:
        if word not in LICENCES and word not in CLASSES:
            raise UsageError(
                f"--allow-licence: expected a class ({', '.join(CLASSES)}) or one of {', '.join(LICENCES)}, "
                f"got {word!r}"
            )

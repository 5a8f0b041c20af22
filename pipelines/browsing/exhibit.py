"""What is shown of a folder, whoever shows it: pictures on the disk, values to sort and filter by, and saved views."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Value = str | int | float | Sequence[str] | None
"""What is known of a sample; None where it was not measured."""

TOGETHER = "side_by_side"
"""Name of a panel that shows other panels beside one another."""

Tell = Callable[[str, int, int], None]
"""Called with what is at work, how many samples of it are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One channel of 8 bits that is laid over a picture.

    Attributes:
        kind: ``mask``, whose values above 0 are an object, or ``heat``, which has degrees.
        path: the file, a PNG of the picture's size.
        brightest: level at which heat is as hot as can be.
    """

    kind: Literal["mask", "heat"]
    path: Path
    brightest: int = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of a sample.

    Attributes:
        picture: the file as it is, alpha kept.
        thumbnail: the file for a grid: small, alpha over a checkerboard; the picture itself where that is both.
        size: (width, height) of the picture, px.
        overlays: field to what is laid over it.
    """

    picture: Path
    thumbnail: Path
    size: tuple[int, int]
    overlays: Mapping[str, Overlay] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample.

    Attributes:
        key: unique in the exhibit.
        panels: name to picture; the first is the one to look at.
        values: field to value, or name of a group to the values in it.
        tags: what layerkit says of it.
        phash: perceptual hash of its image; None where likeness says nothing.
    """

    key: str
    panels: Mapping[str, Panel]
    values: Mapping[str, Value | Mapping[str, Value]]
    tags: Sequence[str] = ()
    phash: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A saved view.

    Attributes:
        name: what it is called.
        about: what it shows, in a sentence.
        make: from the data set and ``fiftyone.ViewField`` to the view.
        fills: it is saved though it shows nothing yet.
    """

    name: str
    about: str
    make: Callable[[Any, Any], Any]
    fills: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """What there is to show.

    Attributes:
        name: of the data set that it becomes.
        kind: ``build``, ``rejects``, ``report`` or ``run``; or ``labels``, a build that is judged.
        folder: that it shows.
        origin: of what the keys are keys of: tags are kept as long as it stays.
        identity: of everything that decides what is shown: equal ones need not be loaded twice.
        total: number of samples, for a progress bar.
        samples: yields the samples, one at a time.
        panels: names of all panels that samples may have; the first is the one to look at.
        groups: titles of groups of fields, to their fields, in the order to show them.
        said: key to tags that people gave it, as files of the folder say.
        views: to save. One that shows nothing is left out, unless it fills up later.
        lasting: it is to be found again by another process, rather than gone with FiftyOne's last one.
        alike: perceptual hashes that far apart, in bits, count as near-duplicates; -1 looks for none.
    """

    name: str
    kind: Literal["build", "rejects", "report", "run", "labels"]
    folder: Path
    identity: str
    origin: str = ""
    total: int
    samples: Callable[[], Iterator[Shown]]
    panels: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    said: Mapping[str, list[str]] = field(default_factory=dict)
    views: Sequence[View] = ()
    lasting: bool = True
    alike: int = -1

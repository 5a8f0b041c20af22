"""What the reader of a benchmark's data set yields: pairs, each a picture with its truth and its masks, undecoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .prompts import Prompt

MaskFormat = Literal["picture", "rord-label", "free-form", "outside-crop"]
Truth = Literal["background", "blended", "shadow-free", "hidden", "alpha", "repositioned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file, or a part of one.

    Attributes:
        path: of the file.
        span: (offset, length) of its bytes, as of a member of a tar.
        cell: (row, column) of a parquet table whose column holds pictures as bytes.
    """

    path: Path
    span: tuple[int, int] | None = None
    cell: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFile:
    """Where a mask is, and how to read it.

    Attributes:
        file: a picture, grey or RGB, also JPEG; or a label. Of a mask that is drawn, the picture that it is drawn for.
        threshold: what is brighter counts as white, 0..255.
        white_is_object: the polarity of a picture, as its data set is known to have it.
        of_alpha: the object is where the picture's alpha exceeds a half; neither of the two above is then looked at.
        format: ``rord-label`` is JSON with polygons, see :func:`~layerkit.manifests.sources.rord.outlines`;
            ``free-form`` and ``outside-crop`` are no files but drawn, see ``layerkit.toolkit.suites.holes``.
        seed: text that a ``free-form`` mask is drawn from.
    """

    file: File
    threshold: int = 127
    white_is_object: bool = True
    of_alpha: bool = False
    format: MaskFormat = "picture"
    seed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One test case of a data set; no pixels are decoded to make it.

    Attributes:
        source: name of the reader.
        id: unique within the source.
        scene: pictures of one scene share it; draws go by scene. Empty for a fault of a whole file.
        image: what a model is given. Of ``mulan`` the annotation, or layer 0 where the layers are rendered.
        kind: ``files`` are pictures to read, ``mulan`` is to be recomposed from its layers, and a ``triplet`` is a
            sample that layerkit built. ``moved`` and ``scaled`` are files of which the object is to be put elsewhere,
            where the mask ``target`` has it: at the size that it has, or also at the size that it has there.
        truth: of which kind the background is: a raw clean ``background``; one ``blended`` into the image; the image
            ``shadow-free``, with the object still in it; ``hidden``, the image itself, of which a model is not shown
            what lies under the mask; ``repositioned``, another view with the object elsewhere. ``alpha`` is no
            background at all: the foreground's alpha alone is known.
        background: the truth. Of ``mulan`` the base picture under an annotation; none of ``hidden`` and ``alpha``.
        foreground: the truth in straight RGBA, where it is known. Of ``alpha`` a picture that is the alpha.
        occluder: straight RGBA of what lies in front of the object, where it is known.
        masks: by name, each the union of its files: ``tight`` around the object, ``loose`` with a margin or with its
            shadow, ``object`` and ``shadow`` apart; holes that are ``given``, ``drawn`` by layerkit, or all that lies
            ``outside`` of a crop; of an object to be moved also ``whole``, with what is hidden of it, and ``target``.
        prompt: what a generator is to draw, where the source has texts.
        category: what the scores are broken down by, or empty.
        licence: identifier of :data:`layerkit.manifests.licences.LICENCES`.
        author: as the source gives it.
        url: landing page or file address.
        drop: why it cannot serve, a snake_case word, a colon and detail; such a pair becomes a row of the drops.
    """

    source: str
    id: str
    scene: str
    image: File
    kind: Literal["files", "mulan", "triplet", "moved", "scaled"] = "files"
    truth: Truth = "background"
    background: File | None = None
    foreground: File | None = None
    occluder: File | None = None
    masks: Mapping[str, tuple[MaskFile, ...]] = field(default_factory=dict)
    prompt: Prompt | None = None
    category: str = ""
    licence: str = "unknown"
    author: str = ""
    url: str = ""
    drop: str = ""

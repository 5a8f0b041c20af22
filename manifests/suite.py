"""What a suite states: the fields of a protocol, and the hash that is taken of them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from .pairs import Truth

Reader = Literal[
    "rord",
    "mulan",
    "desobav2",
    "misato",
    "places2",
    "outpainting",
    "res",
    "ober",
    "removalbench",
    "aim-500",
    "build",
    "demo",
    "ll2i",
    "layerfusion",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One protocol.

    Attributes:
        name: for ``--suite``.
        version: counts up with every change.
        about: one line, with what the papers leave open.
        reader: whose data set it is; ``ll2i`` and ``layerfusion`` are for generators. Also the name of its ``--root``.
        split: of the data set, as its reader takes it.
        n: number of cases, 0 for all.
        draw: ``all``; ``random``, one of every scene before a second of any; or ``one-per-scene``.
        seed: of the draw, which ranks ids by a hash, so that a missing picture moves no other one.
        size: px of the side that ``resize`` speaks of, 0 for the picture's own.
        resize: ``square`` stretches both sides to ``size``, ``longer-side`` and ``shorter-side`` keep the aspect,
            ``native`` does nothing. Pictures by area averages, masks by nearest.
        mask: what a model is given: ``tight`` or ``loose``; or a hole, which is ``given`` with the data, ``drawn`` by
            layerkit, or all that lies ``outside`` of a centred crop.
        dilate: px by which the mask is dilated with a disc, at the suite's size.
        truth: which kind of background is compared with, see :class:`~layerkit.manifests.pairs.Pair`; pairs of another
            kind are refused.
        paste_back: ``both`` scores predictions as they are and pasted back into the image outside the mask; ``raw``
            only the former, where nothing that is scored lies in the mask.
        matte: colour on which RGBA is composited for metrics that take RGB, and of what is hidden, 0..255.
        metrics: see the module.
        main: the metric by which models are ranked.
        ids_sha256: of the ids, one a line, sorted; empty where the set may not be had by everyone.
        pixels_sha256: of the pixels of all cases, where layerkit makes them itself.
        folder: where the data set of ``triplets:DIR`` lies; no part of the protocol.
    """

    name: str
    version: int = 1
    about: str
    reader: Reader
    split: str
    n: int = 0
    draw: Literal["all", "random", "one-per-scene"] = "all"
    seed: int = 0
    size: int = 512
    resize: Literal["square", "longer-side", "shorter-side", "native"] = "square"
    mask: Literal["tight", "loose", "given", "drawn", "outside"] = "tight"
    dilate: int = 0
    truth: Truth = "background"
    paste_back: Literal["both", "raw"] = "both"
    matte: tuple[int, int, int] = (128, 128, 128)
    metrics: tuple[str, ...]
    main: str
    ids_sha256: str = ""
    pixels_sha256: str = ""
    folder: str = ""

    @property
    def generates(self) -> bool:
        """Whether it is one of texts, for generators: masks and truths are then of the pictures compared with."""
        return self.reader in ("ll2i", "layerfusion")

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that its metrics are taken over, each once."""
        return tuple(dict.fromkeys(metric.partition("@")[2] or "whole" for metric in self.metrics))

    @property
    def protocol(self) -> str:
        """``name/version-hash``; the hash is over every field but the folder."""
        fields = json.dumps({**asdict(self), "folder": ""}, sort_keys=True)
        return f"{self.name}/{self.version}-{hashlib.sha256(fields.encode()).hexdigest()[:8]}"

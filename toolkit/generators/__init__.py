"""Every layered generator that ``layerkit generate --model`` and route ``generate`` take, and how it is loaded.

A name of ``GENERATORS``; the folder of a run of a system that generates; ``python:MODULE:ATTRIBUTE``, one of one's own,
or a class or function without arguments that makes it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...manifests import schema
from ...manifests.errors import UsageError
from ...manifests.weights import WEIGHTS
from ..generation import Checked, Generator, checked_generator
from ..models.layerdiffuse_layers import load_cutouts, load_layers
from ..models.layerfusion import load_layerfusion
from ..models.layerfusion_options import FusionOptions
from ..models.runs import is_run
from ..plugins import find_attribute, required_arguments
from .options import Options
from .runs import load_run_generator


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of ``layerkit ls generators``, known before anything is loaded.

    Attributes:
        about: what it draws, in a few words.
        licence: of its weights.
        load: makes it.
        settings: the dataclass of its own options, which ``--set`` names; None where it has none.
    """

    about: str
    licence: str
    load: Callable[[Options], Generator]
    settings: type | None = None


def _licence(*names: str) -> str:
    return ", ".join(dict.fromkeys(WEIGHTS[name].licence for name in names))


_AS_GIVEN = sys.maxsize  # pictures at a time: all that a call asks for, so that --batch decides

_CUTOUTS = ("layerdiffuse-sdxl-base", "layerdiffuse-sdxl")

GENERATORS: dict[str, Entry] = {
    "layerdiffuse-sdxl": Entry(
        about="LayerDiffuse on SDXL: cut-outs alone",
        licence=_licence(*_CUTOUTS),
        load=lambda options: load_cutouts(options.weights, options.device, **options.drawing()),
    ),
    "layerdiffuse-layers": Entry(
        about="LayerDiffuse on SDXL: a cut-out, then the blend and the background around it",
        licence=_licence(*_CUTOUTS, "layerdiffuse-xl-blend", "layerdiffuse-xl"),
        load=lambda options: load_layers(options.weights, options.device, **options.drawing()),
    ),
    "layerfusion": Entry(
        about="LayerFusion on SDXL: both layers and their blend drawn together, on LayerDiffuse's weights",
        licence=_licence(*_CUTOUTS),
        load=lambda options: load_layerfusion(
            options.weights,
            options=schema.parse(FusionOptions, options.settings, "--set"),
            device=options.device,
            batch=_AS_GIVEN,
            **options.drawing(),
        ),
        settings=FusionOptions,
    ),
}


def load(name: str, options: Options | None = None) -> Checked:
    """Load a generator, behind the door that checks what it draws.

    Args:
        name: as the module describes it.
        options: what it is told; see :class:`~.options.Options`.

    Raises:
        UsageError: no such generator, or it cannot be used as asked.
        MissingWeights: its weights are not on this machine; says which, and the command that gets them.
    """
    options = options or Options()
    prefix, _, rest = name.partition(":")
    if options.settings and not (name in GENERATORS and GENERATORS[name].settings):
        raise UsageError(f"--set: expected with a generator that has options of its own, got {name}; leave it out")
    if name in GENERATORS:
        if options.base:
            raise UsageError(f"--base: expected none with {name}, whose weights are its own, got {options.base}")
        return checked_generator(GENERATORS[name].load(options), options.size)
    if is_run(Path(name).expanduser()):
        return checked_generator(load_run_generator(Path(name).expanduser(), options, name=name), options.size)
    if prefix == "python" and rest:
        return checked_generator(_of_module(rest, options), options.size)
    known = ", ".join(GENERATORS)
    raise UsageError(
        f"expected a generator ({known}), the folder of a run that generates, or python:MODULE:ATTRIBUTE, got {name!r}"
    )


def _of_module(source: str, options: Options) -> Generator:
    """One's own: it is told nothing; that it draws at the size that was asked for is seen at the door."""
    told = [f"--{name}" for name in ("base", "steps", "guidance") if getattr(options, name)]
    if told:
        raise UsageError(f"{', '.join(told)}: expected none with python:{source}, which is told nothing")
    _, found = find_attribute(source)
    if not isinstance(found, type) and hasattr(found, "revision"):
        generator: Generator = found
        return generator
    if required := required_arguments(found):
        raise UsageError(
            f"expected a generator, or a class or function without arguments that makes one, at python:{source}, it "
            f"takes ({', '.join(required)})"
        )
    made: Generator = found()
    return made

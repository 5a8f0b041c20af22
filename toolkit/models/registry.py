"""The systems that are trained here, by name, and how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...manifests import schema
from ...manifests.errors import UsageError
from ...manifests.recipes import load_table
from . import (
    asuka,
    asuka_decoder,
    asuka_options,
    layerdecomp,
    mae_training,
    outpaint_remove,
    rgba_vae_training,
    seele,
    text2layer,
    text2layer_ae,
    transparent_vae_training,
)
from .runs import CONFIG
from .system import Origin, System


def _as_given(options: Any, origin: Origin) -> Any:
    return options


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One system.

    Attributes:
        options: the dataclass of its options, the table ``model`` of a training recipe.
        build: makes it from resolved options.
        resolve: fills in what the base decides, so that a run can be loaded without what it began with.
        decomposes: whether a trained one takes pictures apart.
        generates: whether a trained one draws layers from text.
    """

    options: type
    build: Callable[[Any, Origin], System]
    resolve: Callable[[Any, Origin], Any] = _as_given
    decomposes: bool = True
    generates: bool = False


SYSTEMS: dict[str, Entry] = {
    "rgba-vae": Entry(options=rgba_vae_training.RgbaVaeTraining, build=rgba_vae_training.build, decomposes=False),
    "layerdecomp": Entry(options=layerdecomp.LayerDecompOptions, build=layerdecomp.build, resolve=layerdecomp.resolve),
    "outpaint-and-remove": Entry(
        options=outpaint_remove.OutpaintRemoveOptions, build=outpaint_remove.build_outpaint_remove
    ),
    "seele": Entry(options=seele.SeeleOptions, build=seele.build),
    "text2layer-ae": Entry(options=text2layer_ae.Text2LayerAeOptions, build=text2layer_ae.build, decomposes=False),
    "text2layer": Entry(
        options=text2layer.Text2LayerOptions,
        build=text2layer.build,
        resolve=text2layer.resolve,
        decomposes=False,
        generates=True,
    ),
    "layerdiffuse-vae": Entry(
        options=transparent_vae_training.LayerDiffuseVaeOptions,
        build=transparent_vae_training.build,
        decomposes=False,
    ),
    "asuka-decoder": Entry(
        options=asuka_decoder.AsukaDecoderOptions,
        build=asuka_decoder.build,
        resolve=asuka_decoder.resolve,
        decomposes=False,
    ),
    "asuka-mae": Entry(options=mae_training.AsukaMaeOptions, build=mae_training.build),
    "asuka": Entry(options=asuka_options.AsukaOptions, build=asuka.build, resolve=asuka.resolve),
}


def find(name: str) -> Entry:
    """The entry of a system.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in SYSTEMS:
        raise UsageError(f"system: expected one of {', '.join(SYSTEMS)}, got {name!r}")
    return SYSTEMS[name]


def parse_options(name: str, table: Mapping[str, Any], where: str = "model") -> Any:
    """The options of a system from a table of them.

    Raises:
        UsageError: no such system, or a key or value that it does not have; ``where`` names the table.
    """
    return schema.parse(find(name).options, table, where)


def load_run(folder: Path, base: str = "", weights: Path | None = None) -> tuple[System, Mapping[str, Any]]:
    """A trained system, for use: in evaluation mode, on the CPU.

    Args:
        folder: of the run.
        base: another one than it was trained on, where it stands on one.
        weights: the folder given by ``--weights``.

    Returns:
        The system, and the table of its ``config.toml``.

    Raises:
        UsageError: the folder is no run, or its weights do not fit its options.
        MissingWeights: the base is not on this machine.
    """
    table = load_table(folder / CONFIG)
    if "system" not in table:
        raise UsageError(f"{folder / CONFIG}: expected the configuration of a run of layerkit train, got another")
    options = parse_options(table["system"], table.get("model", {}), f"{folder / CONFIG}: model")
    system = find(table["system"]).build(
        options, Origin(base=base or table.get("base", ""), weights=weights, run=folder)
    )
    system.restore(folder)
    return system.eval(), table

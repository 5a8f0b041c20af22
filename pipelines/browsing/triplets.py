"""One triplet: its pictures with what is laid over them, and what its record says of it as fields."""

import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ...manifests.record import NOT_MEASURED
from ...toolkit.layers import Layers
from .exhibit import Panel, Value
from .media import Folder

PANELS = ("image", "foreground", "background", "recomposition")
RECORDED = ("key", "split", "mix", "route", "licence", "caption", "objects", "recomposition_error", "composite_error")
"""The fields of a record that are plain values."""

_HEAT = 32  # levels of recomposition error that are as hot as can be

Row = dict[str, Any]


def panels_of(
    folder: Folder, key: str, layers: Layers, encoded: Mapping[str, tuple[str, bytes]] | None = None
) -> dict[str, Panel]:
    """The panels of a triplet, with mask, shadow and alpha laid over them.

    Args:
        folder: where the pictures go.
        key: of the sample.
        layers: of the triplet.
        encoded: layer to ending and bytes of its file, where it is encoded already.
    """
    held = encoded or {}
    bytes_of = {name: held[name][1] for name in ("mask", "shadow") if name in held}
    mask = folder.overlay(key, "mask", bytes_of.get("mask", layers.mask), heat=False)
    shadow = folder.overlay(key, "shadow", bytes_of.get("shadow", layers.shadow), heat=True)
    alpha = folder.overlay(key, "alpha", np.ascontiguousarray(layers.foreground[..., 3]), heat=True)
    everything = {"mask": mask, "shadow": shadow, "alpha": alpha}
    image = folder.panel(key, "image", layers.image, data=held.get("image"), overlays=everything)
    return {
        "image": image,
        "foreground": folder.panel(
            key,
            "foreground",
            layers.foreground,
            data=held.get("foreground"),
            overlays={"shadow": shadow, "alpha": alpha},
        ),
        "background": folder.panel(
            key, "background", layers.background, data=held.get("background"), overlays={"mask": mask}
        ),
        "recomposition": _recomposition(folder, key, layers, image),
    }


def _recomposition(folder: Folder, key: str, layers: Layers, image: Panel) -> Panel:
    """The layers, composed: the image itself where they are it to the bit, else with the difference laid over it."""
    recomposed = layers.recompose()
    difference = cv2.absdiff(recomposed, layers.image).max(axis=2)
    if not difference.any():
        return Panel(picture=image.picture, thumbnail=image.thumbnail, size=image.size)
    overlay = folder.overlay(key, "difference", difference, heat=True, brightest=_HEAT)
    return folder.panel(key, "recomposition", recomposed, overlays={"difference": overlay})


def values_of(row: Row) -> dict[str, Value]:
    """Everything that a row of the manifest says, as fields."""
    origins = {layer["layer"]: f"{layer['dataset']}/{layer['id']}" for layer in reversed(row["layers"])}
    models = json.loads(row["models"])
    return {
        **{name: row[name] for name in RECORDED},
        **measured(row["scores"]),
        "sources": datasets_of(row),
        "foreground_from": origins.get("foreground"),
        "background_from": origins.get("background"),
        "authors": list(dict.fromkeys(layer["author"] for layer in row["layers"] if layer["author"])),
        "urls": list(dict.fromkeys(layer["url"] for layer in row["layers"] if layer["url"])),
        "models": [f"{role}: {model}" for role, model in models.items() if model],
        "choices": row["choices"],
    }


def datasets_of(row: Mapping[str, Any]) -> list[str]:
    """The sources of a row's layers, each once."""
    return sorted({layer["dataset"] for layer in row["layers"]})


def measured(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores with None where the filter does not apply."""
    return {name: None if score == NOT_MEASURED else score for name, score in scores.items()}

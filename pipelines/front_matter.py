"""The dataset card's front matter: what Hugging Face reads, with one configuration for each class of licence."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ..manifests.licences import CLASSES, LICENCES, strictest
from .features import features
from .recipe import Recipe

Statistics = Mapping[str, Any]

_HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_CREATIVE_COMMONS = ("by-2.0", "by-3.0", "by-4.0", "by-sa-3.0", "by-sa-4.0", "by-nc-2.0", "by-nc-4.0", "by-nc-sa-2.0")
_ON_HUB = {f"cc-{terms}" for terms in (*_CREATIVE_COMMONS, "by-nc-sa-4.0", "by-nc-nd-4.0", "by-nd-4.0")} | {
    "cc0-1.0",
    "mit",
    "apache-2.0",
    "bsd-3-clause",
    "unknown",
}
"""Our licences for which the Hub has an identifier."""


def front_matter(recipe: Recipe, statistics: Statistics) -> str:
    """The YAML between two lines of dashes."""
    from huggingface_hub import DatasetCardData

    licence = strictest(statistics["licences"].get("sample", {}))
    named: dict[str, Any] = {"license": "other", "license_name": licence, "license_link": LICENCES[licence].url}
    data = DatasetCardData(
        **({"license": licence} if licence in _ON_HUB else named),
        pretty_name=f"layerkit {recipe.name}",
        task_categories=["image-to-image", "image-segmentation"],
        tags=["webdataset", "layer-decomposition", "matting", "object-removal", "shadow", "layerkit"],
        size_categories=[_size_category(statistics["funnel"]["kept"])],
        configs=_configs(statistics),
        dataset_info={"features": features(recipe.members, statistics["models"])},
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _configs(statistics: Statistics) -> list[dict[str, Any]]:
    """``default`` with all tars, then one for each class of licence with the tars that hold nothing stricter."""
    made = {split for tars in statistics["tars"].values() for split in tars} or {"train"}  # a split may have no tar
    everything = [{"split": hub, "path": f"data/{split}-*.tar"} for split, hub in _HUB_SPLITS.items() if split in made]
    configs = [{"config_name": "default", "data_files": everything}]
    tars: dict[str, list[str]] = defaultdict(list)
    for kind in CLASSES[:-1]:  # nobody may pick what grants nothing
        for split, hub in _HUB_SPLITS.items():
            tars[hub] += statistics["tars"].get(kind, {}).get(split, [])
        files = [{"split": hub, "path": sorted(found)} for hub, found in tars.items() if found]
        if files and kind in statistics["tars"]:
            configs.append({"config_name": kind, "data_files": files})
    return configs


def _size_category(count: int) -> str:
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return next((name for k, name in enumerate(names) if count < 10 ** (3 + k)), "n>1B")

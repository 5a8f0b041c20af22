"""What ``layerkit ls models``, ``ls generators`` and ``ls metrics`` list, as rows of text."""

from collections.abc import Callable

from ..toolkit.decomposers import DECOMPOSERS, NOT_AVAILABLE
from ..toolkit.generators import GENERATORS
from ..toolkit.metrics import METRICS


def model_rows() -> list[dict[str, str]]:
    """The models that ``--model`` knows by name, and those that it cannot have."""
    known = [
        {
            "name": name,
            "needs": ", ".join(sorted(entry.needs)) or "nothing",
            "px": str(entry.native or "any"),
            "random": "yes" if entry.is_random else "no",
            "licence": entry.licence,
            "about": entry.about,
        }
        for name, entry in DECOMPOSERS.items()
    ]
    blank = {"needs": "-", "px": "-", "random": "-", "licence": "-"}
    return known + [{"name": name, **blank, "about": f"not available: {why}"} for name, why in NOT_AVAILABLE.items()]


def generator_rows() -> list[dict[str, str]]:
    """The generators that ``layerkit generate --model`` knows by name; runs of systems come beside them."""
    return [{"name": name, "licence": entry.licence, "about": entry.about} for name, entry in GENERATORS.items()]


def metric_rows() -> list[dict[str, str]]:
    """Every variant of every metric."""
    return [
        {
            "name": f"{name}:{variant}",
            "better": "higher" if metric.higher_is_better else "lower",
            "regions": ", ".join(metric.regions) or "-",
            "weights": ", ".join(row.weights) or "none",
            "about": f"{metric.about}; {row.about}",
        }
        for name, metric in METRICS.items()
        for variant, row in metric.variants.items()
    ]


TABLES: dict[str, Callable[[], list[dict[str, str]]]] = {
    "models": model_rows,
    "generators": generator_rows,
    "metrics": metric_rows,
}
